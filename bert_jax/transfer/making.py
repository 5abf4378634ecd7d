"""From labelled examples to a bundle: fine-tunes or fits a model, measures it beside its baselines, and writes it."""

import dataclasses
import math
import os
import shutil
from collections.abc import Sequence
from typing import Any, Literal

from absl import logging
from etils import epath

from bert_jax import records, settings
from bert_jax.config import Config, RuntimeConfig, TransferConfig
from bert_jax.data.labelled import Labelled
from bert_jax.data.tasks import require_sklearn
from bert_jax.inference.model import Model
from bert_jax.interop import load as loading
from bert_jax.interop.params import fingerprint
from bert_jax.training import platform
from bert_jax.training.layout import make_layout
from bert_jax.transfer import baselines, bundles, frozen, grids
from bert_jax.transfer.bundles import Outcome
from bert_jax.transfer.finetuning import NotFinite, finetune
from bert_jax.transfer.grids import Grid, Tried
from bert_jax.transfer.kinds import KINDS
from bert_jax.transfer.kinds.base import Kind, Prepared, Reading, Scores


@dataclasses.dataclass(frozen=True)
class Asked:
  """What a fine-tuning is asked to do; defaults: Devlin et al. 2018, A.3.

  Attributes:
    kind: of task, a name of `KINDS`.
    way: all parameters, or a layer over frozen features, for which only `max_tokens` counts.
    epochs, batch_size, peak_lr, warmup_fraction, weight_decay, beta2, clip_norm, pooling, layer_decay, top_layers: see
      `TransferConfig`.
    max_tokens: of a text or a window, special ones counted.
    seed: of new weights, data order and dropout.
  """

  kind: str = "classification"
  way: Literal["full", "frozen"] = "full"
  epochs: int = 3
  batch_size: int = 32
  peak_lr: float = 5e-5
  warmup_fraction: float = 0.1
  weight_decay: float = 0.01
  beta2: float = 0.999
  clip_norm: float = 1.0
  pooling: Literal["cls", "mean"] = "cls"
  layer_decay: float = 1.0
  top_layers: int | None = None
  max_tokens: int = 128
  seed: int = 0

  def config(self, start: Model) -> Config:
    """As settings of a run.

    Raises:
      ValueError: one is out of its range, or the model has fewer positions.
    """
    most = start.config.longest_input
    if most is not None and self.max_tokens > most:
      raise ValueError(f"--max-tokens={self.max_tokens} is more than the model's {most} positions; set it to {most}")
    values = settings.to_dict(self)
    same = {field.name: values[field.name] for field in dataclasses.fields(TransferConfig) if field.name in values}
    transfer = TransferConfig(max_seq_len=self.max_tokens, **same)
    try:
      settings.check_bounds(transfer, "--")
    except ValueError as error:
      name, _, rule = str(error).partition("=")
      raise ValueError(f"{name.replace('_', '-').replace('max-seq-len', 'max-tokens')}={rule}") from error
    # A program for each length of batches: layers in a loop compile in a fraction of the time.
    runtime = RuntimeConfig(scan_layers=True, log_every_steps=10)
    return dataclasses.replace(Config(), model=start.config, transfer=transfer, runtime=runtime)


@dataclasses.dataclass(frozen=True)
class Source:
  """What a bundle is made of.

  Attributes:
    model: the name of what it starts from.
    start: that model, opened.
    kind: of task.
    train, dev: labelled examples to train on, and to measure on.
    measure: of the kind's, the one that it is about.
  """

  model: str
  start: Model
  kind: Kind
  train: Labelled
  dev: Labelled
  measure: str

  @classmethod
  def of(cls, model: epath.PathLike, kind: str, train: Labelled, dev: Labelled, measure: str | None = None) -> "Source":
    """Opens any model that `bert_jax.load` opens; `measure` is the kind's own where none is given."""
    of_kind = KINDS[kind]
    name = "/".join(os.path.normpath(model).split(os.sep)[-2:])  # many a folder is called "model"
    return cls(name, loading.load(model), of_kind, train, dev, measure or of_kind.main_of(train))

  def finished(self, model: Model) -> tuple[Model, list[Any]]:
    """A model as fine-tuning leaves it, made one that answers as its users expect; and its answers on dev."""
    model = self.kind.finish(model, self.train, self.dev)
    return model, self.kind.predict(model, self.dev)

  def score(self, answers: Sequence[Any]) -> Scores:
    """How good answers to the dev examples are; the measure that it is about comes first."""
    found = self.kind.score(self.dev, answers)
    return {self.measure: found.get(self.measure, math.nan), **found}


def make(
  source: Source,
  asked: Asked,
  folder: epath.PathLike,
  compared: tuple[str, ...] = baselines.QUICK,
  word_vectors: str | None = None,
  grid: Grid | None = None,
  seeds: tuple[int, ...] = (0,),
) -> Outcome:
  """Makes a bundle.

  Args:
    source: what of.
    asked: how.
    folder: of the bundle, new or empty. FOLDER.run keeps what was done until it is written.
    compared: names of `baselines.NAMES`.
    word_vectors: a word2vec text file to compare with.
    grid: settings to try, each with all `seeds`; the bundle is the best run of the one with the best median. None:
      those of `asked` alone.
    seeds: of a grid.

  Raises:
    ValueError: of the examples, the settings or the model; scikit-learn is not installed.
  """
  require_sklearn()
  platform.use_compilation_cache()
  kind, train, dev = source.kind, source.train, source.dev
  if asked.way == "frozen":  # a mean needs no pooler, which a pretrained model may lack
    asked = dataclasses.replace(asked, pooling="mean")
  for setting in [{}] if grid is None else [{**grid.fixed, **one} for one in grid.settings()]:
    dataclasses.replace(asked, **setting).config(source.start)  # which refuses what is out of range
  if word_vectors is not None and not epath.Path(word_vectors).exists():
    raise ValueError(f"--word-vectors={word_vectors} is not there")
  reading, name = Reading.of(source.start, asked.max_tokens, asked.pooling), os.path.basename(train.origin)
  prepared = kind.prepare(name, train, dev, reading)
  workdir = epath.Path(f"{os.path.abspath(folder)}.run")
  wanted: dict[str, Any] = {"texts": prepared.task.fingerprint, "weights": fingerprint(source.start.params)}
  refuse_other(workdir, settings.to_dict(asked) | wanted)
  runner = _Runner(source, prepared, workdir)
  tried: list[Tried] = []
  if grid is not None and asked.way == "full":
    tried, asked = runner.search(asked, grid, seeds)
  made, answers = source.finished(runner.model(asked))
  scores = source.score(answers)
  beaten = baselines.measure(compared, source.start, kind, train, dev, reading, asked.seed, word_vectors)
  if "scratch" in compared:
    fresh = dataclasses.replace(source, start=baselines.untrained(source.start, asked.seed))
    _, of_fresh = source.finished(
      _Runner(fresh, prepared, workdir / "scratch").model(dataclasses.replace(asked, way="full"))
    )
    beaten[baselines.NAMES["scratch"]] = source.score(of_fresh)
  interval = kind.interval(dev, answers, source.measure)
  outcome = Outcome(scores, interval, beaten, len(dev), prepared.notes, tuple(grids.summaries(tried)))
  about = {
    "model": source.model,
    "train": f"{name}, {len(train):,} examples, fingerprint {train.fingerprint}",
    "dev": f"{os.path.basename(dev.origin)}, {len(dev):,} examples, fingerprint {dev.fingerprint}",
  }
  stated = settings.to_dict(asked)
  if asked.way == "frozen":  # the rest is of no effect
    stated = {name: stated[name] for name in ("kind", "way", "max_tokens")}
  bundles.write(made, folder, kind, dev, answers, outcome, about | stated)
  if workdir.exists():
    shutil.rmtree(workdir)
  return outcome


def refuse_other(
  workdir: epath.Path, wanted: dict[str, Any], what: str = "is left of a fine-tuning that was stopped"
) -> None:
  """Notes what is asked for, and refuses to go on with what was asked for otherwise.

  Raises:
    ValueError: naming what differs.
  """
  way_out = f"remove {workdir} to start again"
  before = records.read_json(workdir / "asked.json", way_out) or wanted
  differing = [
    f"{name} was {before.get(name)!r} and is {new!r}" for name, new in wanted.items() if before.get(name) != new
  ]
  if differing:
    raise ValueError(f"{workdir} {what}: {', '.join(differing)}; {way_out}")
  records.write_json(workdir / "asked.json", wanted)


class _Runner:
  """Fine-tunings of one source, each in a folder of its own, where it goes on after it was stopped."""

  def __init__(self, source: Source, prepared: Prepared, workdir: epath.Path):
    self._source, self._prepared, self._workdir = source, prepared, workdir

  def model(self, asked: Asked, label: str = "fine-tuning") -> Model:
    """A model, fine-tuned or fitted."""
    source, task = self._source, self._prepared.task
    if asked.way == "frozen":
      return frozen.fit(source.start, source.kind, task, source.train, source.dev, asked.max_tokens)
    folder = self._folder(asked)
    return finetune(
      source.start, asked.config(source.start), task, asked.seed, make_layout(), folder, label, by_length=True
    ).model

  def search(self, asked: Asked, grid: Grid, seeds: tuple[int, ...]) -> tuple[list[Tried], Asked]:
    """Tries all settings with all seeds; returns what came of them, and the best run of the best setting.

    The weights of that run alone are kept; what a search that was stopped has not come to again stays as it is.
    """
    path, tried, best, done = self._workdir / "tried.json", [], None, set[epath.Path]()
    known = {row["run"]: row["score"] for row in (records.read_json(path, "tried again") or {"runs": []})["runs"]}
    trivial = self._trivial()
    all_settings = grid.settings()
    for number, setting in enumerate(all_settings):
      runs = [dataclasses.replace(asked, **grid.fixed, **setting, seed=seed) for seed in seeds]
      for run in runs:
        name = self._folder(run).name
        if name not in known:
          label = f"setting {number + 1} of {len(all_settings)}, seed {run.seed}"
          known[name] = self._tried(run, label)
          records.write_json(path, {"runs": [{"run": key, "score": value} for key, value in known.items()]})
        score = known[name]
        tried.append(Tried(setting, run.seed, score, score is None or score <= trivial))
        done.add(self._folder(run))
      leader = grids.summaries(tried)[0].setting
      best = dataclasses.replace(asked, **grid.fixed, **leader, seed=grids.best_seed(tried, leader))
      for folder in done - {self._folder(best)}:
        if folder.exists():
          shutil.rmtree(folder)
    assert best is not None
    return tried, best

  def _tried(self, run: Asked, label: str) -> float | None:
    try:
      _, answers = self._source.finished(self.model(run, label))
    except NotFinite as error:
      logging.warning("%s: %s", label, error)
      return None
    score = self._source.score(answers)[self._source.measure]
    logging.info("%s: %s", label, bundles.shown(self._source.measure, score))
    return score if math.isfinite(score) else None

  def _trivial(self) -> float:
    """The most that the trivial reaches."""
    kind, dev = self._source.kind, self._source.dev
    trivial = kind.trivial(self._source.train, dev)
    values = [self._source.score(answers)[self._source.measure] for answers in trivial.values()]
    return max((value for value in values if math.isfinite(value)), default=-math.inf)

  def _folder(self, run: Asked) -> epath.Path:
    return self._workdir / f"lr{run.peak_lr:g}-batch{run.batch_size}-epochs{run.epochs}-seed{run.seed}"
