"""Real tokens a second of the training step, with an example a row and with several, in turn in one run.

Both train on the same examples with the same masks; what differs is how much of their rows is padding.

  python benchmarks/packing.py
  python benchmarks/packing.py --source='text:FOLDER/*.txt' --seq_len=512 --batch_size=64

`demo` needs the extra `demo`.
"""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import app, flags, logging

from bert_jax import recipes, scales, settings
from bert_jax.config import Config
from bert_jax.data.batches import PhasedBatches
from bert_jax.data.corpus import Corpus
from bert_jax.objectives import objective_of
from bert_jax.training.layout import make_layout
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.pretraining import prepare_corpus, resolve
from bert_jax.training.step import init_state, train_step_of

SOURCE = flags.DEFINE_string("source", "demo", "a value of data.source")
SEQ_LEN = flags.DEFINE_integer("seq_len", 128, "places of a row")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "examples a step")
PACKING = flags.DEFINE_integer("packing", 8, "examples that may share a row")
STEPS = flags.DEFINE_integer("steps", 12, "steps of one timing")
REPEATS = flags.DEFINE_integer("repeats", 5, "timings of each, of which the median is shown")

FORMATS = ("segment_pair", "sentence_pair", "full_sentences", "doc_sentences")


def main(_: list[str]) -> None:
  logging.set_verbosity(logging.ERROR)
  with tempfile.TemporaryDirectory() as folder:
    start = config_of("segment_pair", 1)
    corpus = prepare_corpus(start, pathlib.Path(folder))
    device = jax.devices()[0].device_kind
    print(f"{SOURCE.value}: length {SEQ_LEN.value}, {BATCH_SIZE.value} examples a step, on {device}")
    print(f"{'format':<16}{'packing':>8}{'rows a step':>13}{'real share':>12}{'real token/s':>14}{'ratio':>8}")
    for name in FORMATS:
      sides = [Side(resolve(config_of(name, packing), corpus), corpus) for packing in (1, PACKING.value)]
      for _round in range(REPEATS.value):
        for side in sides:
          side.time()
      rates = [statistics.median(side.rates) for side in sides]
      for side, rate in zip(sides, rates, strict=True):
        real = side.tokens / (side.rows * SEQ_LEN.value)
        rows, packing = side.rows / side.steps, side.config.data.packing
        print(f"{name:<16}{packing:>8}{rows:>13.1f}{real:>12.2f}{rate:>14,.0f}{rate / rates[0]:>8.2f}", flush=True)


def config_of(name: str, packing: int) -> Config:
  """The demo's network, on one format, without a sentence objective, which half of them could not have."""
  base = settings.assign_shared(recipes.recipe("bert_base"), scales.DEMO)
  given = {
    "data.source": SOURCE.value,
    "data.format": name,
    "data.max_seq_len": SEQ_LEN.value,
    "data.packing": packing,
    "data.short_seq_prob": 0.1,  # BERT's
    "model.max_positions": SEQ_LEN.value,
    "objective.sentence": "none",
    "train.batch_size": BATCH_SIZE.value,
  }
  return settings.assign(base, given)


class Side:
  """One of the two ways, with its state, its batches and what was timed."""

  def __init__(self, config: Config, corpus: Corpus):
    self.config, self.rates = config, list[float]()
    self.layout, objective = make_layout(), objective_of(config)
    self._batches = PhasedBatches(corpus, config, None, objective.prepare, self.layout.row_shards)
    self._step, self._state = train_step_of(config, self.layout), init_state(config, self.layout)
    self._hyper = hyperparameters(config.optim, config.train.steps, objective.loss_weights)
    self.steps = self.rows = self.tokens = 0
    for batch in self._next(STEPS.value * (REPEATS.value + 1)):  # each size of batch is compiled before it is timed
      self._train(batch)
    self.steps = self.rows = self.tokens = 0

  def _next(self, count: int) -> Iterator[dict[str, np.ndarray]]:
    for step in range(self.steps, self.steps + count):
      batch = self._batches(step)
      self.rows += len(batch["token_ids"])
      self.tokens += int(batch["attention_mask"].sum())
      self.steps += 1
      yield batch

  def _train(self, batch: dict[str, np.ndarray]) -> None:
    self._state, metrics = self._step(self._state, None, self.layout.put(batch), self._hyper, np.uint32(0))
    jax.block_until_ready(metrics)

  def time(self) -> None:
    """Some steps, with the making of their batches left out."""
    before, batches = self.tokens, list(self._next(STEPS.value))
    began = time.perf_counter()
    for batch in batches:
      self._train(batch)
    self.rates.append((self.tokens - before) / (time.perf_counter() - began))


if __name__ == "__main__":
  app.run(main)
