"""One pretraining run, from a config to a folder that holds everything about it.

FOLDER/config.json     the resolved config
FOLDER/metrics.jsonl   training and evaluation, a line each
FOLDER/checkpoints/    see `checkpoints.py`
FOLDER/pretrained.json what came of it, once it is finished
FOLDER/heldout.json    the last evaluation, by document
FOLDER/times.json      how long it took

What the last three hold, `results.py` says.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from bert_jax import records, results, settings
from bert_jax.config import Config, phases
from bert_jax.data import buckets, sources, store
from bert_jax.data.batches import PhasedBatches
from bert_jax.data.corpus import Corpus
from bert_jax.data.rows import Batch
from bert_jax.objectives import objective_of
from bert_jax.objectives.base import Frozen, Objective
from bert_jax.results import Facts, Fingerprints, Pretrained, Times
from bert_jax.training import memory, processes
from bert_jax.training.checkpoints import CheckpointError, Checkpoints, checksums
from bert_jax.training.evaluation import HeldOut
from bert_jax.training.layout import Layout
from bert_jax.training.loop import Diverged, Material, Seen, train
from bert_jax.training.step import init_params
from bert_jax.validation import validate

FINGERPRINT_EXAMPLES = 256  # training examples, from the first on, that `data_order` covers


def corpus_folder(config: Config, workdir: epath.PathLike) -> epath.Path:
  """The folder of the tokenized corpus of a config: `data.store`, or a folder of WORKDIR/data for text and tokenizer.

  Raises:
    ValueError: the workdir lies in a bucket, and there is no `data.store`.
  """
  if config.data.store:
    return epath.Path(config.data.store)
  if buckets.is_bucket(workdir):
    raise ValueError(
      f"the tokenized corpus is memory-mapped and cannot lie in {os.fspath(workdir)}; add --data.store=FOLDER with a"
      " folder of a local disk, or with a store that `bert-jax prepare` made in a bucket"
    )
  made_of = settings.deciding(config.data, "store")
  if config.data.tokenizer.path is not None:
    del made_of["eval_fraction"]  # it decides only what a tokenizer is trained on
  return epath.Path(workdir) / "data" / settings.fingerprint(made_of)


def check_devices(config: Config, layout: Layout) -> None:
  """Refuses what the devices cannot do, before anything is written.

  Raises:
    ValueError: a kernel of other devices, a batch that they do not divide, or one that they do not hold.
  """
  layout.check_attention(config.runtime.attention)
  for phase in phases(config):
    layout.check_batch_size("train.batch_size", phase.batch_size, config.runtime.accumulation_steps)
  layout.check_batch_size("evaluation.batch_size", config.evaluation.batch_size)
  memory.require_room(config, layout)


def check_corpus(config: Config, workdir: epath.PathLike) -> None:
  """Raises what `prepare_corpus` would raise over wrong settings, before anything is written.

  Raises:
    ValueError: see `corpus_folder`; there is no such source, nothing in it, or no such tokenizer.
  """
  folder = corpus_folder(config, workdir)
  if (folder / "metadata.json").exists():
    return  # and is used as it stands, whether its text is still at hand or not
  if buckets.is_bucket(folder):
    raise ValueError(f"data.store={folder} has no complete store; `bert-jax prepare EXPERIMENT …` makes one there")
  sources.check(config.data)


def prepare_corpus(config: Config, workdir: epath.PathLike) -> Corpus:
  """The tokenized corpus of a config, made where it is not there yet; of one in a bucket, a copy on a local disk."""
  folder, runtime = corpus_folder(config, workdir), config.runtime
  if buckets.is_bucket(folder):
    folder = buckets.copied(folder, runtime.store_cache, runtime.store_cache_gib)
  return store.prepare(config.data, folder, runtime.num_workers)


def resolve(config: Config, corpus: Corpus) -> Config:
  """`config` with what only the corpus knows: the vocabulary's size.

  Raises:
    ValueError: `model.vocab_size` is set to another size than the tokenizer's.
  """
  size, stated = corpus.tokenizer.vocab_size, config.model.vocab_size
  if config.train.start_from is not None and stated is not None and stated > size:
    return validate(config)  # its word table has rows that stand for no token
  if stated not in (None, size):
    raise ValueError(
      f"model.vocab_size={config.model.vocab_size}, but the tokenizer of {corpus.folder} has {size} tokens;"
      " leave model.vocab_size out, or set data.tokenizer.path to the tokenizer you mean"
    )
  return validate(dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=size)))


def pretrain(
  config: Config,
  corpus: Corpus,
  folder: epath.PathLike,
  layout: Layout,
  label: str = "train",
  start: Callable[[], Any] | None = None,
  started_from: dict[str, Any] | None = None,
  frozen: Frozen | None = None,
  frozen_from: dict[str, Any] | None = None,
) -> Pretrained:
  """Runs, or goes on with, one pretraining run; does nothing where FOLDER/pretrained.json says that it is finished.

  Args:
    config: as `resolve` gives it.
    corpus: what to train on.
    folder: of this run.
    layout: the devices.
    label: of the progress bar.
    start, started_from, frozen, frozen_from: see `Material`; `frozen` may be on any device, or none.
  """
  folder = epath.Path(folder)
  refuse_other_settings(folder, config)
  done = folder / "pretrained.json"
  before = processes.read_first(done, Pretrained)
  if processes.is_first() and (before is None or not (folder / "config.json").exists()):
    records.write_json(folder / "config.json", settings.to_dict(config))
  if before is not None:
    return before
  objective = objective_of(config)
  if frozen is not None:
    frozen = jax.device_put(frozen, layout.of_state(frozen))
  held_out = HeldOut(config, corpus, layout, frozen)
  unit = layout.row_shards * config.runtime.accumulation_steps
  batches = PhasedBatches(corpus, config, str(corpus.folder / "examples"), objective.prepare, unit)
  result = Pretrained(
    status="finished",
    steps=config.train.steps,
    facts=_facts(config, corpus, batches, held_out),
    fingerprints=fingerprints(config, batches, held_out),
    trivial=held_out.trivial(),
    started_from=started_from,
  )
  try:
    material = Material(batches, held_out, corpus.hash, corpus.tokenizer, start, frozen, frozen_from, started_from)
    outcome = train(config, material, folder, layout, label)
    result = dataclasses.replace(
      result,
      measures=outcome.measures,
      best_loss=outcome.best_loss,
      tokens=outcome.seen.tokens,
      predicted_tokens=outcome.seen.predicted_tokens,
    )
    by_document = held_out.by_document(outcome.state.params)
    if processes.is_first():
      results.write(folder / "heldout.json", by_document)
      results.write(folder / "times.json", _times(outcome.seen))
  except Diverged as diverged:
    logging.error("%s: %s", label, diverged)
    result = dataclasses.replace(result, status="diverged", reason=str(diverged), steps=diverged.step)
  corpus.finish_verification()
  if processes.is_first():
    results.write(done, result)
  return result


def is_used(folder: epath.Path) -> bool:
  """Whether a run has left something that its settings went into: a checkpoint, or its end."""
  checkpoints = folder / "checkpoints"
  saved = checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir())
  return saved or any((folder / name).exists() for name in ("pretrained.json", "result.json"))


def read_config(folder: epath.Path) -> Config | None:
  """The config of a run, from config.json, or where that is gone from the newest checkpoint; None where both are.

  Raises:
    ValueError: config.json is damaged, or of another version.
  """
  way_out = "remove it and run the same command again: the checkpoints know their settings too"
  values = records.read_json(folder / "config.json", way_out)
  if values is None and (folder / "checkpoints").is_dir():
    with Checkpoints(folder / "checkpoints") as checkpoints:
      for step in reversed(checkpoints.steps()):
        with contextlib.suppress(CheckpointError):
          values = checkpoints.about(step)["config"]
          break
  return None if values is None else settings.from_dict(values, Config)


def refuse_other_settings(folder: epath.Path, config: Config) -> None:
  """Refuses the folder of a run that was made with other settings.

  Those of `runtime` change nothing, and those of `transfer` come after pretraining.

  Raises:
    ValueError: with each setting's two values.
  """
  if is_used(folder) and (there := read_config(folder)) is not None:
    groups = {field.name for field in dataclasses.fields(Config)} - {"runtime", "transfer"}
    settings.require_same(str(folder), there, config, groups)


def _times(seen: Seen) -> Times:
  busy = max(seen.train_seconds, 1e-9)
  return Times(
    train_seconds=seen.train_seconds,
    eval_seconds=seen.eval_seconds,
    compile_seconds=seen.compile_seconds,
    tokens_per_second=seen.tokens / busy,
    data_wait_share=min(1.0, seen.data_wait_seconds / busy),
  )


def _facts(config: Config, corpus: Corpus, batches: PhasedBatches, held_out: HeldOut) -> Facts:
  data, bounds = config.data, corpus.sentence_offsets[corpus.document_offsets]

  def size(split: str) -> tuple[int, int]:
    """Documents and tokens."""
    documents = corpus.documents(split, data.eval_fraction, data.train_fraction)
    return len(documents), int((bounds[documents + 1] - bounds[documents]).sum())

  (train_documents, train_tokens), (held_out_documents, held_out_tokens) = size("train"), size("eval")
  alike = corpus.near_duplicates(data.eval_fraction)
  return Facts(
    parameters=_initialization(objective_of(config), config.train.seed)[0],
    epochs=batches.epochs(),
    train_documents=train_documents,
    train_tokens=train_tokens,
    held_out_documents=held_out_documents,
    held_out_tokens=held_out_tokens,
    held_out_examples=held_out.num_held_out,
    eval_examples=held_out.num_examples,
    near_duplicates=alike["documents"],
    near_duplicates_moved=alike["moved"],
  )


def fingerprints(config: Config, batches: PhasedBatches, held_out: HeldOut) -> Fingerprints:
  """Those of a run, which may not be trained yet."""
  return Fingerprints(
    initialization=_initialization(objective_of(config), config.train.seed)[1],
    data_order=_data_order(batches),
    evaluation=_evaluation(held_out.whole_sets["common"]),
  )


@functools.cache
def _initialization(objective: Objective, seed: int) -> tuple[int, dict[str, str]]:
  """Number of initial parameters, and a hash of them for each part: arms of other objectives share some parts."""
  params = init_params(objective, seed)
  parts: dict[str, dict[str, Any]] = {}
  for path, sums in checksums(params).items():
    parts.setdefault(path.partition("/")[0], {})[path] = sums
  return sum(x.size for x in jax.tree.leaves(params)), {
    name: settings.fingerprint(part) for name, part in parts.items()
  }


def _evaluation(batches: Sequence[Batch]) -> str:
  """A hash of evaluation examples and their masks, whatever the size of the batches."""
  real = np.concatenate([batch["attention_mask"].any(axis=1) for batch in batches])
  return _digest([np.concatenate([batch[name] for batch in batches])[real] for name in sorted(batches[0])])


def _data_order(batches: PhasedBatches) -> str:
  """A hash of the first training examples, in order, before masking."""
  first = batches.of_step(0)
  texts = [first.rows(step).token_ids for step in range(-(-FINGERPRINT_EXAMPLES // first.batch_size))]
  return _digest([np.concatenate(texts)[:FINGERPRINT_EXAMPLES]])


def _digest(arrays: list[np.ndarray]) -> str:
  hasher = hashlib.sha256()
  for array in arrays:
    hasher.update(np.ascontiguousarray(array).tobytes())
  return hasher.hexdigest()[:16]
