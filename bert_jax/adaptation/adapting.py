"""Continued pretraining on a domain's text, with what a model can do measured before and after it.

OUTPUT is an imported folder (`interop/imported.py`) with more beside it:
  report.md          the figures, and how they came about
  adapted.json       the same as data: see `figures.Adapted`
OUTPUT.run keeps what was done until OUTPUT is written, so that the same command goes on where it was:
  asked.json         what was asked for; another command is refused
  tokenizer/         of the model, extended where that was asked for; plain/ has the one before
  data/              the tokenized corpora
  before.json        what was measured before training; general.json, tasks.json: after it
  run/               see `training/pretraining.py`
"""

import dataclasses
import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from etils import epath

from bert_jax import provenance, records, results, settings
from bert_jax.adaptation import figures, measuring, new_words, report
from bert_jax.adaptation.asked import CONTINUE_LR, MAX_TOKENS, NEW_HEAD_LR, Asked
from bert_jax.adaptation.figures import Adapted, Loss, Measured
from bert_jax.adaptation.measuring import Measuring
from bert_jax.config import (
  Config,
  DataConfig,
  EvaluationConfig,
  MaskingConfig,
  OptimConfig,
  RuntimeConfig,
  TokenizerConfig,
  TrainConfig,
  TransferConfig,
)
from bert_jax.data import tokenizers
from bert_jax.data.batches import TrainBatches
from bert_jax.data.corpus import Corpus
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.interop import folders, imported
from bert_jax.interop import load as loading
from bert_jax.interop.params import fingerprint
from bert_jax.objective_configs import MaskedTokensConfig
from bert_jax.objectives import objective_of
from bert_jax.results import FewLabels, Pretrained, Times
from bert_jax.training import memory
from bert_jax.training.checkpoints import Checkpoints
from bert_jax.training.evaluation import HeldOut
from bert_jax.training.layout import Layout, make_layout
from bert_jax.training.pretraining import prepare_corpus, pretrain, resolve
from bert_jax.training.step import init_params, started
from bert_jax.transfer import few_labels
from bert_jax.transfer.making import refuse_other
from bert_jax.validation import validate

REPORT, FIGURES = "report.md", "adapted.json"
_HEAD = "mlm_head"
_OBJECTIVE = MaskedTokensConfig()  # pairs are left out: Liu et al. 2019, 4.2


def adapt(model: str, domain: DataConfig, asked: Asked, beside: Measuring, output: epath.PathLike) -> Adapted:
  """Adapts a model.

  Args:
    model: anything that `bert_jax.load` opens.
    domain: the source, and how its files are read.
    asked: checked.
    beside: what is measured beside the domain.
    output: the folder to write, new or empty.

  Raises:
    ValueError: of the settings, the model or the text; OUTPUT.run is of another command; training diverged.
    Preempted: a signal came while it was training, and all is saved.
  """
  out = folders.new_folder(output)
  work = epath.Path(f"{os.path.abspath(out)}.run")
  start = loading.load(model)
  tokenizer = start.require_tokenizer()
  if asked.add_tokens:
    new_words.require_wordpiece(tokenizer, asked.add_tokens)
  layout = make_layout()
  layout.check_batch_size("--batch-size", asked.batch_size)
  plain = _config(model, start, domain, asked, work / "plain")
  memory.require_room(plain, layout)
  wanted = settings.to_dict(asked) | {
    "data": settings.to_dict(domain),
    "general": beside.general and beside.general.source,
    "tasks": ",".join(beside.tasks),
    "weights": fingerprint(start.params),
    "tokenizer": tokenizer.hash,
  }
  refuse_other(work, wanted, "is left of an adaptation that was stopped")
  for note in beside.notes:
    logging.info("%s", note)
  _keep_tokenizer(tokenizer, work / "plain")
  grown, words = start, ()
  domains = [(plain, prepare_corpus(plain, work))]
  if asked.add_tokens:
    words = _new_words(domains[0][1], plain, asked, work)
    grown = new_words.extended(start, list(words))
    _keep_tokenizer(grown.require_tokenizer(), work / "tokenizer")
    config = _config(model, grown, domain, asked, work / "tokenizer")
    domains.append((config, prepare_corpus(config, work)))
  config, corpus = domains[-1]
  config = _with_steps(config, corpus, asked, has_head=_HEAD in start.params)
  run = _Run(config, corpus, layout, work, start, grown, beside, asked)
  before = run.before(domains)
  done = run.train()
  return run.write(out, model, before, done, words)


# ---- settings --------------------------------------------------------------------------------------------------------


def _config(name: str, model: Model, domain: DataConfig, asked: Asked, tokenizer_folder: epath.Path) -> Config:
  """Everything but how long it takes, which the text decides."""
  tokenizer, most = model.require_tokenizer(), model.config.longest_input
  length = model.config.length_within(MAX_TOKENS) if asked.max_tokens is None else asked.max_tokens
  if most is not None and length > most:
    raise ValueError(f"--max-tokens={length} is more than the model's {most} positions; set it to {most} or less")
  of_tokenizer = TokenizerConfig(tokenizer.kind, os.fspath(tokenizer_folder), lowercase=tokenizer.lowercase)
  architecture: Any = model.config
  config = Config(
    model=architecture,
    data=dataclasses.replace(
      domain,
      format="full_sentences",  # Liu et al. 2019, 4.2: across documents, so that short ones share a row
      max_seq_len=length,
      short_seq_prob=0.0,
      segmentations=1,  # so that all passes have as many rows; masks are drawn again in each
      tokenizer=of_tokenizer,
      masking=MaskingConfig(policy="dynamic"),  # Liu et al. 2019, 4.1; 15 %, 80/10/10 as Devlin et al. 2018, 3.1
    ),
    objective=_OBJECTIVE,
    optim=OptimConfig(
      name="adamw",  # with bias correction, which short runs from a model need (Mosbach et al. 2021, section 6)
      schedule="linear",
      beta2=0.98,  # RoBERTa's, as eps and the decay (Liu et al. 2019, tables 9 and 10)
      eps=1e-6,
      weight_decay=0.01,
      warmup_steps=0,
    ),
    train=TrainConfig(seed=asked.seed, steps=asked.steps or 1, batch_size=asked.batch_size, start_from=name),
    # Each costs a third of a training step's row, and there are a few such passes: at 1,024 a minute or two on a core.
    evaluation=EvaluationConfig(every_steps=asked.steps or 1, batch_size=asked.batch_size, max_examples=1024),
    transfer=TransferConfig(draws=asked.draws, max_seq_len=min(128, most or 128)),
    runtime=RuntimeConfig(),
  )
  return validate(config)


def _with_steps(config: Config, corpus: Corpus, asked: Asked, has_head: bool) -> Config:
  """The config with steps and rates, which it says before the first is done."""
  data, train = config.data, config.train
  cache = str(corpus.folder / "examples")
  rows = TrainBatches(corpus, data, train.seed, train.batch_size, cache, objective_of(config).prepare).num_examples(0)
  steps = asked.steps or -(-rows * (asked.epochs or 1) // train.batch_size)
  rate = asked.peak_lr or (CONTINUE_LR if has_head else NEW_HEAD_LR)
  warmup = min(round(asked.warmup_fraction * steps), steps - 1)
  logging.info(
    "%s steps of %d sequences of %d tokens, %.2g passes over the text; learning rate %g after %d steps",
    f"{steps:,}",
    train.batch_size,
    data.max_seq_len,
    steps * train.batch_size / rows,
    rate,
    warmup,
  )
  config = dataclasses.replace(
    config,
    optim=dataclasses.replace(config.optim, peak_lr=rate, warmup_steps=warmup),
    train=dataclasses.replace(train, steps=steps),
    evaluation=dataclasses.replace(config.evaluation, every_steps=steps),
  )
  return resolve(config, corpus)


# ---- text and vocabulary ---------------------------------------------------------------------------------------------


def _keep_tokenizer(tokenizer: Tokenizer, folder: epath.Path) -> None:
  """Writes a tokenizer for corpora to be cut by.

  Raises:
    ValueError: what is written is read as another one.
  """
  if folder.exists():
    return
  draft = folder.parent / f"{folder.name}.part"
  if draft.exists():
    draft.rmtree()
  tokenizer.save(draft)
  if (found := tokenizers.load(draft, None).hash) != tokenizer.hash:
    raise ValueError(
      f"the model's tokenizer, {tokenizer.hash}, reads back as {found} once it is written; put its tokenizer.json"
      " (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) of transformers writes one) beside the model"
    )
  draft.rename(folder)


def _new_words(corpus: Corpus, config: Config, asked: Asked, work: epath.Path) -> tuple[str, ...]:
  def choose() -> dict[str, Any]:
    logging.info("counting the words of the training text that are cut into pieces")
    return {"words": new_words.chosen(corpus, config.data.eval_fraction, asked.add_tokens)}

  return tuple(_kept(work / "words.json", choose)["words"])


def _kept(path: epath.Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
  """What the file has, or else what is made and then kept there."""
  way_out = "remove it and run the same command again, which makes it again"
  if (known := records.read_json(path, way_out)) is not None:
    return known
  records.write_json(path, make())
  return records.require_json(path, way_out)


# ---- the run ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Run:
  """What is measured, trained and written; see `adapt`."""

  config: Config
  corpus: Corpus
  layout: Layout
  work: epath.Path
  start: Model
  grown: Model
  beside: Measuring
  asked: Asked

  def before(self, domains: list[tuple[Config, Corpus]]) -> Measured:
    """What the model reaches that training starts from, and where its vocabulary was extended, the one before too."""

    def measure() -> dict[str, Any]:
      losses = {}
      for (config, corpus), model in zip(domains, (self.start, self.grown), strict=False):
        cut = "" if model is self.grown else figures.PLAIN
        params = self._first_params(config, model, corpus)
        losses |= {f"{name}{cut}": loss for name, loss in self._losses(config, corpus, params, "before").items()}
      return dataclasses.asdict(Measured(losses, self._few_labels(self.start, "before")))

    return settings.from_dict(_kept(self.work / "before.json", measure), Measured)

  def train(self) -> Pretrained:
    """Raises ValueError where it diverged."""
    start = functools.partial(objective_of(self.config).given, self.grown.params)
    about = {"path": self.config.train.start_from, "network": self.start.network}
    done = pretrain(self.config, self.corpus, self.work / "run", self.layout, "adapting", start, about)
    if done.status != "finished":
      raise ValueError(f"training diverged at step {done.steps}: {done.reason}; lower --peak-lr and remove {self.work}")
    return done

  def write(self, out: epath.Path, name: str, before: Measured, done: Pretrained, words: tuple[str, ...]) -> Adapted:
    """Measures what came of it, and writes the folder, whole or not at all."""
    config = self.config
    with Checkpoints(self.work / "run" / "checkpoints", config.runtime.keep_latest) as checkpoints:
      params = checkpoints.restore(config.train.steps, self.layout).state.params

    def measure() -> dict[str, Any]:
      path = self.work / "run" / "heldout.json"
      if (found := results.read(path, results.ByDocument)) is None:
        raise ValueError(f"{path} is gone, which training had left; remove {self.work} to start again")
      losses = {figures.DOMAIN: Loss.of(found, config, self.corpus), **self._losses(config, None, params, "after")}
      return dataclasses.asdict(Measured(losses, self._few_labels(adapted, "after")))

    adapted = self._adapted(jax.device_get(params))
    after = settings.from_dict(_kept(self.work / "after.json", measure), Measured)
    times = results.read(self.work / "run" / "times.json", Times) or Times()
    made = Adapted(
      model=name,
      source=config.data.source,
      general=self.beside.general and self.beside.general.source,
      before=before,
      after=after,
      new_head=_HEAD not in self.start.params,
      new_words=words,
      steps=done.steps,
      tokens=done.tokens or 0,
      predicted_tokens=done.predicted_tokens or 0,
      facts=done.facts,
      train_seconds=times.train_seconds,
      hardware=", ".join(sorted({device.device_kind for device in jax.devices()})),
      config=settings.to_dict(config),
      versions=provenance.versions(),
      git_commit=provenance.git_commit(),
      notes=self.beside.notes,
    )
    with folders.atomic(out) as scratch:
      imported.write(adapted, scratch)
      records.write_json(scratch / FIGURES, dataclasses.asdict(made))
      (scratch / REPORT).write_text(report.page(made))
    shutil.rmtree(self.work)
    return made

  def _adapted(self, params: Any) -> Model:
    """The model as it was, with these parameters."""
    train, data = self.config.train, self.config.data
    what = (
      f"masked tokens of {data.source.partition(':')[0]} texts: {train.steps:,} steps of {train.batch_size} sequences"
      f" of up to {data.max_seq_len} tokens, peak_lr {self.config.optim.peak_lr:g}, seed {train.seed}"
    )
    return self.grown.with_head(_OBJECTIVE, params, (), what)

  def _first_params(self, config: Config, model: Model, corpus: Corpus) -> Any:
    """The parameters that training starts from, on the devices."""
    config = resolve(config, corpus)
    objective = objective_of(config)
    params = started(init_params(objective, config.train.seed), objective.given(model.params))
    return jax.device_put(params, self.layout.of_state(params))

  def _losses(self, config: Config, corpus: Corpus | None, params: Any, when: str) -> dict[str, Loss]:
    """On the domain, where a corpus is given, and on general text."""
    found, general = {}, self.beside.general
    if corpus is not None:
      logging.info("measuring %s on held-out text of the domain", when)
      found[figures.DOMAIN] = self._loss(config, corpus, params)
    if general is not None:
      data = dataclasses.replace(config.data, source=general.source)
      other = dataclasses.replace(config, data=data)
      logging.info("measuring %s on general text, %s", when, general.source)
      found[figures.GENERAL] = self._loss(other, prepare_corpus(other, self.work), params)
    return found

  def _loss(self, config: Config, corpus: Corpus, params: Any) -> Loss:
    config = resolve(config, corpus)
    return Loss.of(HeldOut(config, corpus, self.layout).by_document(params), config, corpus)

  def _few_labels(self, model: Model, when: str) -> FewLabels:
    if not self.beside.tasks:
      return FewLabels({})
    logging.info("measuring %s on %s", when, " and ".join(self.beside.tasks))
    transfer = dataclasses.replace(self.config.transfer, tasks=",".join(self.beside.tasks))
    architecture: Any = model.config
    data = dataclasses.replace(measuring.LABELLED, max_seq_len=self.config.data.max_seq_len)
    config = dataclasses.replace(self.config, model=architecture, data=data, transfer=transfer)
    folder, cache = self.work / "transfer", self.work / "baselines"
    _, found = few_labels.measure(model, config, self.asked.seed, self.layout, when, folder, cache)
    return found
