"""Real tokens a second of the training step, with an example a row and with several, in turn in one run.

Both train on the same examples with the same masks; what differs is how much of their rows is padding. Fine-tuning has
no packing: its batches are of texts of about one length, and are compared with batches as the texts come.

  python benchmarks/packing.py
  python benchmarks/packing.py --source='text:FOLDER/*.txt' --seq_len=512 --batch_size=64

`demo` needs the extra `demo`.
"""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import app, flags, logging

from bert_jax import recipes, scales, settings
from bert_jax.config import Config
from bert_jax.data.batches import PhasedBatches
from bert_jax.data.corpus import Corpus
from bert_jax.data.examples import Task, TaskExamples
from bert_jax.objective_configs import ClassificationConfig
from bert_jax.objectives import objective_of
from bert_jax.training.layout import make_layout
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.pretraining import prepare_corpus, resolve
from bert_jax.training.step import init_state, train_step_of
from bert_jax.transfer.finetuning import TaskBatches, run_config

SOURCE = flags.DEFINE_string("source", "demo", "a value of data.source")
SEQ_LEN = flags.DEFINE_integer("seq_len", 128, "places of a row")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "examples a step")
PACKING = flags.DEFINE_integer("packing", 8, "examples that may share a row")
STEPS = flags.DEFINE_integer("steps", 12, "steps of one timing")
REPEATS = flags.DEFINE_integer("repeats", 5, "timings of each, of which the median is shown")

FINE_TUNING = "fine-tuning"
FORMATS = flags.DEFINE_list(
  "formats",
  ["segment_pair", "sentence_pair", "full_sentences", "doc_sentences", FINE_TUNING],
  f"values of data.format, and {FINE_TUNING}",
)


def main(_: list[str]) -> None:
  logging.set_verbosity(logging.ERROR)
  with tempfile.TemporaryDirectory() as folder:
    start = config_of("segment_pair", 1)
    corpus = prepare_corpus(start, pathlib.Path(folder))
    device = jax.devices()[0].device_kind
    print(f"{SOURCE.value}: length {SEQ_LEN.value}, {BATCH_SIZE.value} examples a step, on {device}")
    print(f"{'format':<16}{'rows':>12}{'rows a step':>13}{'real share':>12}{'real token/s':>14}{'ratio':>8}")
    for name in FORMATS.value:
      if name == FINE_TUNING:
        compare(name, fine_tuning(resolve(start, corpus), corpus))
        continue
      sides = {}
      for packing in (1, PACKING.value):
        config = resolve(config_of(name, packing), corpus)
        batches = PhasedBatches(corpus, config, None, objective_of(config).prepare, make_layout().row_shards)
        sides[f"of {packing}"] = Side(config, batches)
      compare(name, sides)


def compare(name: str, sides: "dict[str, Side]") -> None:
  """Times both in turn, and prints a line for each."""
  for _ in range(REPEATS.value):
    for side in sides.values():
      side.time()
  rates = [statistics.median(side.rates) for side in sides.values()]
  for (rows, side), rate in zip(sides.items(), rates, strict=True):
    real, ratio = side.tokens / side.places, rate / rates[0]
    print(f"{name:<16}{rows:>12}{side.rows / side.steps:>13.1f}{real:>12.2f}{rate:>14,.0f}{ratio:>8.2f}", flush=True)


def fine_tuning(config: Config, corpus: Corpus) -> "dict[str, Side]":
  """A classifier of the text's sentences, in batches as they come and in batches of about one length."""
  tokenizer, width = corpus.tokenizer, SEQ_LEN.value
  chosen = np.random.default_rng(0).permutation(corpus.num_sentences)[: 64 * BATCH_SIZE.value]
  starts = corpus.sentence_offsets[chosen]
  lengths = np.minimum(corpus.sentence_offsets[chosen + 1] - starts, width - 2)
  real = np.arange(width) < lengths[:, None] + 2
  token_ids = np.full(real.shape, tokenizer.pad_id, np.int32)
  for row, sentence in enumerate(np.split(corpus.gather(starts, lengths)[0], np.cumsum(lengths)[:-1])):
    token_ids[row, : len(sentence) + 2] = [tokenizer.cls_id, *sentence, tokenizer.sep_id]
  labels = {"labels": (np.arange(len(chosen)) % 2).astype(np.int32)}  # what they say is of no effect on the speed
  texts = TaskExamples(token_ids, np.zeros_like(token_ids), real, labels)
  task = Task("sentences", ClassificationConfig(num_classes=2), ("even", "odd"), texts, texts)
  run = run_config(settings.assign(config, {"transfer.batch_size": BATCH_SIZE.value}), task, seed=0)
  return {
    "as they come": Side(run, TaskBatches(texts, BATCH_SIZE.value, seed=0)),
    "by length": Side(run, TaskBatches(texts, BATCH_SIZE.value, seed=0, steps=run.train.steps)),
  }


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

  def __init__(self, config: Config, batches: Callable[[int], dict[str, np.ndarray]]):
    self._batches, self.rates = batches, list[float]()
    self._layout = make_layout()
    self._step, self._state = train_step_of(config, self._layout), init_state(config, self._layout)
    self._hyper = hyperparameters(config.optim, config.train.steps, objective_of(config).loss_weights)
    self.steps = self.rows = self.places = self.tokens = 0
    for batch in self._next(STEPS.value * (REPEATS.value + 1)):  # each size of batch is compiled before it is timed
      self._train(batch)
    self.steps = self.rows = self.places = self.tokens = 0

  def _next(self, count: int) -> Iterator[dict[str, np.ndarray]]:
    for step in range(self.steps, self.steps + count):
      batch = self._batches(step)
      self.rows += len(batch["token_ids"])
      self.places += batch["token_ids"].size
      self.tokens += int(batch["attention_mask"].sum())
      self.steps += 1
      yield batch

  def _train(self, batch: dict[str, np.ndarray]) -> None:
    self._state, metrics = self._step(self._state, None, self._layout.put(batch), self._hyper, np.uint32(0))
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
