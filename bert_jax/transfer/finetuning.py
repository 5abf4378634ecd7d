"""Fine-tuning of all parameters, for any task.

A fine-tuning is a run like any other, through the same step and loop.

N texts, B batch.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from bert_jax import settings
from bert_jax.config import Config, DataConfig, EvaluationConfig, OptimConfig, TrainConfig
from bert_jax.data import random_bits
from bert_jax.data.examples import Task, TaskExamples
from bert_jax.data.rows import Batch, pad_rows
from bert_jax.inference import windows
from bert_jax.inference.model import Model
from bert_jax.objectives import objective_of
from bert_jax.results import Measures
from bert_jax.training.evaluation import Evaluator
from bert_jax.training.layout import Layout
from bert_jax.training.loop import Diverged, Material, train
from bert_jax.validation import check_layer_rates

_ORDER, _POOLS = 34, 36  # streams of `random_bits.bits`
_TEST_ROWS = 64  # texts of a test batch, on each device


class NotFinite(ValueError):
  """A fine-tuning whose loss was not finite any more."""


@dataclasses.dataclass(frozen=True)
class Finetuned:
  """A fine-tuned model.

  Attributes:
    model: to ask, to save and to export.
    measures: what the task's objective measures on its test examples.
    start: what its parameters started from, in words: "encoder as trained before, with a new classifier".
  """

  model: Model
  measures: Measures
  start: str

  @property
  def accuracy(self) -> float:
    """Of a classification, the share of the test texts that it labels right."""
    accuracy = self.measures["label_accuracy"]
    assert accuracy is not None
    return accuracy


def finetune(
  start: Model,
  config: Config,
  task: Task,
  seed: int,
  layout: Layout,
  folder: epath.PathLike,
  label: str = "fine-tuning",
  by_length: bool = False,
) -> Finetuned:
  """Fine-tunes all parameters as `config.transfer` says, and tests the result. An interrupted one goes on.

  Args:
    start: with any head; it stays as it is.
    config: transfer and runtime are read.
    task: from `load_task`, by the tokenizer of `start`.
    seed: of the classifier's weights, data order and dropout.
    layout: the devices.
    folder: for checkpoints and metrics.
    label: of the progress bar.
    by_length: put texts of about one length into a batch, so that little is computed for padding.

  Raises:
    ValueError: a batch that the devices do not divide.
    NotFinite: the loss is not finite any more.
  """
  run, tokenizer = run_config(dataclasses.replace(config, model=start.config), task, seed), start.require_tokenizer()
  check_layer_rates(run)
  layout.check_batch_size("transfer.batch_size", run.train.batch_size)
  objective = objective_of(run)
  given = objective.given(start.params)
  size = _TEST_ROWS * layout.row_shards
  tests = batches_to_test(task.test, size, tokenizer.pad_id, *layout.process_slice(size), by_length=by_length)
  evaluate = Evaluator(run, layout, {"test": tests})
  material = Material(
    TaskBatches(task.train, run.train.batch_size, seed, run.train.steps if by_length else None),
    evaluate,
    task.fingerprint,
    tokenizer,
    lambda: given,
  )
  try:
    outcome = train(run, material, epath.Path(folder), layout, label)
  except Diverged as error:
    raise NotFinite(
      f"fine-tuning on {task.name} ended without a finite loss ({error}); lower"
      f" transfer.peak_lr={config.transfer.peak_lr}"
    ) from error
  params, transfer = outcome.state.params, config.transfer
  of_classes = f" of {len(task.classes)} classes" if task.classes else ""
  epochs = f"{transfer.epochs} epoch{'' if transfer.epochs == 1 else 's'}"
  finetuned = (
    f"{task.name}: {len(task.train)} examples{of_classes}, {epochs} of batches of"
    f" {transfer.batch_size}, peak_lr {transfer.peak_lr:g}, seed {seed}"
  )
  model = start.with_head(task.objective, params, task.classes, finetuned)
  model = dataclasses.replace(model, max_tokens=transfer.max_seq_len)
  return Finetuned(model, outcome.measures, _in_words(given, params))


def right_on_test(model: Model, config: Config, task: Task, seed: int, layout: Layout) -> np.ndarray:
  """Whether a fine-tuned classifier labels each test text right, bool, in their order."""
  run = run_config(dataclasses.replace(config, model=model.config), task, seed)
  size, pad_id = _TEST_ROWS * layout.row_shards, model.require_tokenizer().pad_id
  tests = batches_to_test(task.test, size, pad_id, *layout.process_slice(size))
  rows = Evaluator(run, layout, {"test": tests}).rows(model.params, tests)
  assert rows is not None
  return rows["label_accuracy"][: len(task.test), 0] > 0


def run_config(config: Config, task: Task, seed: int) -> Config:
  """A fine-tuning as a run of its own, as `config.transfer` says.

  Optimizer: google-research/bert, run_classifier.py and optimization.py, but for Adam's bias correction, which a few
  hundred steps need: without it the first updates are three times as large.
  """
  transfer = config.transfer
  steps = -(-len(task.train) * transfer.epochs // transfer.batch_size)
  return Config(
    model=config.model,
    data=DataConfig(max_seq_len=max(8, task.train.token_ids.shape[-1])),
    objective=task.objective,
    optim=OptimConfig(
      name="adamw",
      peak_lr=transfer.peak_lr,
      warmup_steps=min(steps - 1, round(transfer.warmup_fraction * steps)),
      schedule="linear",
      beta1=0.9,
      beta2=transfer.beta2,
      eps=1e-6,
      weight_decay=transfer.weight_decay,
      clip_norm=transfer.clip_norm,
      layer_decay=transfer.layer_decay,
      top_layers=transfer.top_layers,
    ),
    train=TrainConfig(seed=seed, steps=steps, batch_size=transfer.batch_size),
    evaluation=EvaluationConfig(every_steps=steps),
    runtime=dataclasses.replace(config.runtime, accumulation_steps=1, save_every_steps=0, keep_latest=1),
  )


def _in_words(given: Mapping[str, Any], params: Mapping[str, Any]) -> str:
  new = sorted(params.keys() - given.keys())
  before = f"{' and '.join(sorted(given))} as trained before"
  return f"{before}, with a new {' and a new '.join(new)}" if new else before


# ---- batches -----------------------------------------------------------------------------------------------------


_POOL = 32  # batches whose texts are sorted by length together


class TaskBatches:
  """(step, process index, number of processes) → labelled texts; each comes once an epoch, in an order of its own.

  As `TrainBatches`, a batch is a function of the step, and may straddle epochs. With `steps`, how many there will be,
  the texts of `_POOL` batches are sorted by length and cut into these batches, which come in a random order.
  """

  def __init__(self, texts: TaskExamples, batch_size: int, seed: int, steps: int | None = None):
    self._texts, self._batch_size, self._seed, self._steps = texts, batch_size, seed, steps
    self._pool = functools.lru_cache(maxsize=2)(self._make_pool)

  def __call__(self, step: int, process_index: int = 0, process_count: int = 1) -> Batch:
    rows = self._batch_size // process_count
    if self._steps is None:
      first = step * self._batch_size + process_index * rows
      return self._texts.batch(self.order(first, first + rows))
    whole = self._pool(step // _POOL)[step % _POOL]
    width = _width(self._texts, whole)  # that of all processes
    return self._texts.batch(whole[process_index * rows :][:rows], width)

  def _make_pool(self, number: int) -> np.ndarray:
    """The texts of the batches of a pool, int64 [batches, batch size]."""
    assert self._steps is not None
    count = min(_POOL, self._steps - number * _POOL)
    first = number * _POOL * self._batch_size
    texts = self.order(first, first + count * self._batch_size)
    lengths = self._texts.lengths[texts]
    batches = texts[np.argsort(lengths, kind="stable")].reshape(count, self._batch_size)
    return batches[random_bits.permutation(count, random_bits.bits(self._seed, _POOLS, number))]

  def order(self, first: int, stop: int) -> np.ndarray:
    """The texts of some visits, int64."""
    number = len(self._texts)
    visits = np.arange(first, stop)
    epochs = np.arange(first // number, (stop - 1) // number + 1)
    shuffled = np.argsort(
      random_bits.bits(self._seed, _ORDER, epochs[:, None], np.arange(number)[None]), axis=1, kind="stable"
    )
    return shuffled[visits // number - epochs[0], visits % number]


def batches_to_test(
  texts: TaskExamples,
  size: int,
  pad_id: int,
  process_index: int = 0,
  process_count: int = 1,
  by_length: bool = False,
) -> Sequence[Batch]:
  """All texts once, in batches of `size` rows; of each, this process's part."""
  indices, rows = np.arange(len(texts)), size // process_count
  if by_length:
    indices = np.argsort(texts.lengths, kind="stable")
  batches = []
  for first in range(0, len(indices), size):
    whole = indices[first : first + size]
    width = _width(texts, whole) if by_length else None
    part = texts.batch(whole[process_index * rows :][:rows], width)
    # A row of padding has its first token in sight, or its attention would divide by 0.
    batches.append(pad_rows(part, rows, {"token_ids": pad_id, "attention_mask": 1}))
  return batches


def _width(texts: TaskExamples, rows: np.ndarray) -> int:
  """Tokens that rows are padded to, so that few programs are compiled."""
  return windows.bucket(int(texts.lengths[rows].max()), texts.token_ids.shape[-1])


def transfer_settings(config: Config) -> dict[str, Any]:
  """What a task's result depends on: all of `transfer` but the list of tasks."""
  return {name: value for name, value in settings.to_dict(config.transfer).items() if name != "tasks"}
