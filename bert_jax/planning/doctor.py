"""Looks at a run's text and at its first steps, before hours are spent on it."""

import dataclasses
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from bert_jax import one_run, settings, validation
from bert_jax.config import Config, phases
from bert_jax.data.batches import PhasedBatches
from bert_jax.data.corpus import Corpus
from bert_jax.data.tasks import task_names
from bert_jax.objectives import objective_of
from bert_jax.planning.shapes import of_phase
from bert_jax.training.layout import Layout
from bert_jax.training.memory import state_bytes
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.step import init_state, train_step_of

_SAMPLE = 1_000_000  # tokens that shares are measured on, of documents drawn at random
_LOOKED_AT = 20  # batches
_FEW_ROWS = 16  # that are to be learned by heart
_LEARNED = 0.5  # of the first loss that is left once they are
# From here on, a look is worth it. Judgement, not a finding: a corpus may have reasons.
_DUPLICATES, _UNKNOWN, _PADDING, _MAJORITY, _WAITING, _OFF = 0.05, 0.005, 0.4, 0.8, 0.5, 0.15


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing that was looked at.

  Attributes:
    what: it is about.
    said: what was found.
    advice: what to look at; empty where all is well.
    stops: whether a run would end in an error over it.
  """

  what: str
  said: str
  advice: str = ""
  stops: bool = False


def examine(
  config: Config, corpus: Corpus, workdir: epath.Path, layout: Layout, seconds: float = 60
) -> Iterator[Finding]:
  """Everything about a run of one arm and seed, each finding as soon as it is known.

  Args:
    config: as `resolve` gives it.
    seconds: to learn a few rows by heart.
  """
  yield from _text(config, corpus)
  yield from _rows(config, corpus)
  yield _room(config, workdir)
  yield from _steps(config, corpus, workdir, layout, seconds)


# ---- the text ----


def _text(config: Config, corpus: Corpus) -> Iterator[Finding]:
  data, tokenizer = config.data, corpus.tokenizer
  lengths = np.diff(corpus.sentence_offsets[corpus.document_offsets])
  held_out = len(corpus.documents("eval", data.eval_fraction, data.train_fraction))
  yield Finding(
    "documents",
    f"{corpus.num_documents:,} with {corpus.num_tokens:,} tokens, {held_out:,} of them held out",
    "" if held_out >= 20 else "a held-out loss of so few documents says little; raise data.eval_fraction",
  )
  shares = ", ".join(f"{int(np.percentile(lengths, p)):,}" for p in (5, 25, 50, 75, 95))
  yield Finding("their lengths", f"{shares} tokens at 5, 25, 50, 75 and 95 %")
  alike = corpus.near_duplicates(data.eval_fraction)["documents"] / max(1, corpus.num_documents)
  yield Finding(
    "near duplicates",
    f"{alike:.1%} of the documents share most of their text with another",
    "" if alike < _DUPLICATES else "they stay on one side of the split, but are learned several times; remove them",
  )
  ids = _sample(corpus)
  unknown = float(np.mean(ids == tokenizer.unk_id))
  yield Finding(
    "unknown tokens",
    f"{unknown:.3%} of {len(ids):,} tokens",
    "" if unknown < _UNKNOWN else "the tokenizer is of other text: another data.tokenizer.path, or one of this text",
  )
  marks = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.pad_id]
  special = float(np.mean(np.isin(ids, marks)))
  yield Finding(
    "special tokens in the text",
    f"{special:.3%}",
    "" if special == 0 else "the text holds [CLS], [SEP] or [MASK] as words; they are read as such and never predicted",
  )
  for task, counts in _labels(corpus).items() if task_names(config.transfer) else ():
    most = max(counts) / sum(counts)
    yield Finding(
      f"labels of {task}",
      f"{len(counts)} classes, {min(counts):,} to {max(counts):,} texts each; the most frequent has {most:.0%}",
      "" if most < _MAJORITY and len(counts) > 1 else "accuracy says little; the same answer always has as much",
    )


def _labels(corpus: Corpus) -> dict[str, list[int]]:
  """By task, how many documents have each of its labels."""
  tasks: dict[str, list[int]] = {}
  for label, count in Counter(label for label in corpus.document_labels if label is not None).items():
    tasks.setdefault(label.partition("/")[0], []).append(count)
  return tasks


def _sample(corpus: Corpus) -> np.ndarray:
  """Token ids of whole documents, drawn at random."""
  bounds, draw = corpus.sentence_offsets[corpus.document_offsets], np.random.default_rng(0)
  order = draw.permutation(corpus.num_documents)
  lengths = bounds[order + 1] - bounds[order]
  order = order[: int(np.searchsorted(np.cumsum(lengths), _SAMPLE)) + 1]
  return corpus.gather(bounds[order], bounds[order + 1] - bounds[order])[0]


def _rows(config: Config, corpus: Corpus) -> Iterator[Finding]:
  """Of the first phase's batches: how full they are."""
  batches = _batches(config, corpus)
  made = [batches.rows(step) for step in range(min(_LOOKED_AT, config.train.steps))]
  lengths = np.concatenate([rows.lengths for rows in made])
  padding = 1 - float(lengths.mean()) / batches.data.max_seq_len
  packed = "" if validation.why_not_packed(config) else "data.packing=8, "
  yield Finding(
    "rows",
    f"{lengths.mean():.0f} of {batches.data.max_seq_len} tokens on average, {padding:.0%} padding",
    ""
    if padding < _PADDING or config.data.packing > 1
    else f"computed for nothing; {packed}a smaller data.max_seq_len, or data.format=full_sentences",
  )


def _batches(config: Config, corpus: Corpus) -> Any:
  """Those of the first phase, an example a row whatever `data.packing` is."""
  config = settings.assign(config, {"data.packing": 1})
  found = PhasedBatches(corpus, config, str(corpus.folder / "examples"), objective_of(config).prepare)
  return found.of_step(0)


def _room(config: Config, workdir: epath.Path) -> Finding:
  kept = config.runtime.keep_latest + 2  # the best one, and the one that is being written
  needed = state_bytes(config) * 3 // 4 * kept  # no gradient is saved
  said = f"{needed / 2**20:,.0f} MiB for {kept} of them"
  if "://" in os.fspath(workdir):
    return Finding("checkpoints", said)
  there = next(folder for folder in (workdir, *workdir.resolve().parents) if folder.exists())
  free = shutil.disk_usage(there).free
  return Finding(
    "checkpoints",
    f"{said}; {free / 2**20:,.0f} MiB are free",
    "" if needed < free else f"make room in {there}, or lower runtime.keep_latest",
    needed >= free,
  )


# ---- the first steps ----


def _steps(config: Config, corpus: Corpus, workdir: epath.Path, layout: Layout, seconds: float) -> Iterator[Finding]:
  objective, batches = objective_of(config), _batches(config, corpus)
  others = one_run.others_of(workdir, config, corpus, config.train.seed).arguments(config)
  frozen, start = others.get("frozen"), others.get("start")
  if frozen is not None:
    frozen = jax.device_put(frozen, layout.of_state(frozen))
  unit = layout.row_shards * config.runtime.accumulation_steps
  few = -(-min(_FEW_ROWS, batches.batch_size) // unit) * unit
  phase = phases(config)[0]
  # At the peak from the second step on, as long as it takes.
  at_peak = settings.assign(
    of_phase(config, phase.max_seq_len, few), {"optim.warmup_steps": 1, "train.steps": 1_000_000_000}
  )
  train_step = train_step_of(at_peak, layout)
  hyper = hyperparameters(at_peak.optim, at_peak.train.steps, objective.loss_weights)
  state, seed = init_state(at_peak, layout, start and start()), jnp.uint32(config.train.seed)
  part = layout.process_slice(batches.batch_size)
  whole = batches(0, *part)
  rows = layout.put({name: array[:few] for name, array in whole.items()})
  logging.info("compiling the training step, for %d rows", few)

  def loss_of(metrics: dict[str, Any]) -> float:
    return float(sum(weight * float(metrics[name]) for name, weight in objective.loss_weights.items()))

  state, metrics = train_step(state, frozen, rows, hyper, seed)
  first = loss_of(metrics)
  if not math.isfinite(first):
    yield Finding("first loss", f"{first}", "not finite: look at optim, runtime.compute_dtype and the text", True)
    return
  if start is None and "mlm_loss" in metrics:
    chance, found = math.log(config.model.vocab_size or corpus.tokenizer.vocab_size), float(metrics["mlm_loss"])
    yield Finding(
      "first loss",
      f"{found:.2f} nats a predicted token; guessing has ln V = {chance:.2f}",
      "" if abs(found / chance - 1) < _OFF else "weights at random should guess: look at model.initializer_range",
    )
  else:
    yield Finding("first loss", f"{first:.2f}")
  began, steps, least = time.monotonic(), 1, first
  while time.monotonic() - began < seconds and least > _LEARNED * first:
    state, metrics = train_step(state, frozen, rows, hyper, seed)
    steps, least = steps + 1, min(least, loss_of(metrics))
  passed = time.monotonic() - began
  learned = least <= _LEARNED * first
  yield Finding(
    f"{few} rows by heart",
    f"loss {first:.2f} to {least:.2f} in {steps:,} steps, {passed:.0f} s",
    ""
    if learned
    else "not learned at optim.peak_lr in that time: the step is slow here, the rate is wrong, or nothing is learned",
  )
  yield _speed(batches, part, passed / max(1, steps - 1) * batches.batch_size / few)


def _speed(batches: Any, part: tuple[int, int], step: float) -> Finding:
  """Making a batch against a step, both of the run's batch size; the step's time is reckoned from the few rows'."""
  began = time.monotonic()
  for number in range(1, _LOOKED_AT + 1):
    batches(number, *part)
  making = (time.monotonic() - began) / _LOOKED_AT
  share = making / max(step, 1e-9)
  return Finding(
    "batches",
    f"{1000 * making:.1f} ms to make one, about {1000 * step:,.0f} ms to train on it here",
    "" if share < _WAITING else "the devices will wait for data; a faster disk, or a larger batch on fewer hosts",
  )
