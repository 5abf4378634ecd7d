"""The losses of tasks against calculations of their own, on logits as the networks give them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.architectures import BertConfig
from bert_jax.config import Config
from bert_jax.models.dropout import Noise
from bert_jax.objective_configs import (
  ClassificationConfig,
  MultipleChoiceConfig,
  QuestionAnsweringConfig,
  SimilarityConfig,
  TaggingConfig,
)
from bert_jax.objectives import objective_of
from bert_jax.objectives.heads import HeadObjective
from bert_jax.training.layout import make_layout
from bert_jax.training.step import eval_step_of, init_params

MODEL = BertConfig(
  vocab_size=61, num_layers=2, hidden_size=24, num_heads=4, intermediate_size=40, max_positions=16,
  hidden_dropout=0.0, attention_dropout=0.0, initializer_range=0.3,
)  # fmt: skip
ROWS, TOKENS, ANSWERS = 5, 11, 3
ALL: dict[str, Any] = {
  "one": ClassificationConfig(7),
  "many": ClassificationConfig(4, "mean", "multi_label"),
  "number": ClassificationConfig(1, "cls", "regression"),
  "tags": TaggingConfig(6),
  "answers": QuestionAnsweringConfig(),
  "choice": MultipleChoiceConfig(),
  "cosine": SimilarityConfig("mean", "cosine"),
  "in_batch": SimilarityConfig("cls", "in_batch", 7.0),
}


def objective(name: str, dropout: float = 0.0) -> HeadObjective:
  found = objective_of(Config(dataclasses.replace(MODEL, hidden_dropout=dropout), objective=ALL[name]))
  assert isinstance(found, HeadObjective)
  return found


def batch_of(name: str, rows: int = ROWS) -> dict[str, jax.Array]:
  """Rows of different lengths; the last one fills up the batch."""
  draw = np.random.default_rng(3)
  several = {"choice": (ANSWERS,), "cosine": (2,), "in_batch": (2,)}.get(name, ())
  shape = (rows, *several, TOKENS)
  mask = np.arange(TOKENS) < draw.integers(4, TOKENS + 1, (*shape[:-1], 1))
  batch = {
    "token_ids": draw.integers(5, 61, shape).astype(np.int32),
    "segment_ids": draw.integers(0, 2, shape).astype(np.int32),
    "attention_mask": mask,
    "label_weights": (np.arange(rows) < rows - 1).astype(np.float32),
  }
  if name == "tags":
    batch["tags"] = np.where(mask & (draw.random(shape) < 0.5), draw.integers(0, 6, shape), -1).astype(np.int32)
  elif name == "answers":
    for part in ("starts", "ends"):
      batch[part] = np.arange(TOKENS) == draw.integers(0, mask.sum(axis=1))[:, None]
  elif name != "in_batch":
    batch["labels"] = {
      "one": draw.integers(0, 7, rows).astype(np.int32),
      "many": draw.integers(0, 2, (rows, 4)).astype(np.float32),
      "number": draw.normal(size=rows).astype(np.float32),
      "choice": draw.integers(0, ANSWERS, rows).astype(np.int32),
      "cosine": draw.random(rows).astype(np.float32),
    }[name]
  return {key: jnp.asarray(array) for key, array in batch.items()}


def noise_of(rows: int) -> Noise:
  return Noise(jnp.uint32(4), jnp.arange(rows, dtype=jnp.uint32))


def log_softmax(logits: np.ndarray) -> np.ndarray:
  return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def by_hand(name: str, outputs: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> tuple[float, float]:
  """Sum and count of the loss over the rows that are not there to fill up."""
  real = slice(0, len(batch["label_weights"]) - 1)
  total, count = 0.0, 0
  if name == "in_batch":
    vectors = outputs["vectors"][real]
    table = log_softmax(7.0 * vectors[:, 0] @ vectors[:, 1].T)
    return -float(np.trace(table)), len(table)
  for row in range(*real.indices(99)):
    if row == len(batch["label_weights"]) - 1:
      break
    if name == "one" or name == "choice":
      total -= log_softmax(outputs["logits"][row])[batch["labels"][row]]
    elif name == "many":
      chances = 1 / (1 + np.exp(-outputs["logits"][row]))
      total -= np.mean(np.log(np.where(batch["labels"][row] > 0, chances, 1 - chances)))
    elif name == "number":
      total += (outputs["logits"][row, 0] - batch["labels"][row]) ** 2
    elif name == "cosine":
      one, other = outputs["vectors"][row]
      total += (one @ other - batch["labels"][row]) ** 2
    elif name == "answers":
      length = int(batch["attention_mask"][row].sum())
      for part in ("start", "end"):
        logits = log_softmax(outputs[f"{part}_logits"][row, :length])
        total -= logits[int(np.argmax(batch[f"{part}s"][row]))] / 2
    else:
      for token in np.flatnonzero(batch["tags"][row] >= 0):
        total -= log_softmax(outputs["logits"][row, token])[batch["tags"][row, token]]
        count += 1
      continue
    count += 1
  return float(total), count


@pytest.mark.parametrize("name", ALL)
def test_a_loss_is_that_of_a_calculation_by_hand_and_rows_that_fill_up_do_not_count(name: str) -> None:
  found, batch = objective(name), batch_of(name)
  params = init_params(found, 1)
  outputs = {key: np.asarray(value, np.float64) for key, value in found.apply(params, batch, None).items()}
  total, count = by_hand(name, outputs, {key: np.asarray(value) for key, value in batch.items()})
  sums = found.sums(params, None, batch, noise_of(ROWS), 1)
  assert next(iter(sums)) == found.loss == found.measure(Config().data)
  np.testing.assert_allclose(sums[found.loss], (total, count), rtol=2e-5)
  assert float(found.counts(batch)[found.loss]) == count
  assert int(found.seen(batch)["predicted_tokens"]) == count
  # Example by example, an evaluation has the same.
  rows = found.evaluate(params, None, batch, noise_of(ROWS), 1)
  for measure, (values, weights) in rows.items():
    np.testing.assert_allclose([values.sum(), weights.sum()], sums[measure], rtol=1e-5)
  assert rows[found.loss][1][-1] == 0


def test_a_text_that_answers_two_is_no_wrong_answer_to_either() -> None:
  found, batch = objective("in_batch"), batch_of("in_batch")
  for key in ("token_ids", "segment_ids", "attention_mask"):
    batch[key] = batch[key].at[1, 1].set(batch[key][0, 1])
  params = init_params(found, 1)
  vectors = np.asarray(found.apply(params, batch, None)["vectors"], np.float64)[: ROWS - 1]
  scores = 7.0 * vectors[:, 0] @ vectors[:, 1].T
  scores[0, 1] = scores[1, 0] = -np.inf
  total, count = found.sums(params, None, batch, noise_of(ROWS), 1)[found.loss]
  np.testing.assert_allclose((total, count), (-np.trace(log_softmax(scores)), ROWS - 1), rtol=2e-5)


@pytest.mark.parametrize("name", ["choice", "cosine"])
def test_the_texts_of_an_example_have_dropout_of_their_own(name: str) -> None:
  found, batch = objective(name, 0.3), batch_of(name)
  same = {
    key: jnp.repeat(value[:, :1], value.shape[1], axis=1) if value.ndim == 3 else value for key, value in batch.items()
  }
  outputs = found.apply(init_params(found, 1), same, noise_of(ROWS))
  read = "logits" if name == "choice" else "vectors"
  values = np.asarray(outputs[read])
  assert not np.allclose(values[:, 0], values[:, 1], rtol=1e-3)
  quiet = np.asarray(found.apply(init_params(found, 1), same, None)[read])
  np.testing.assert_allclose(quiet[:, 0], quiet[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["choice", "in_batch"])
def test_devices_see_one_batch(name: str) -> None:
  """A loss of a row that depends on other rows, too, is that of the whole batch."""
  config = Config(MODEL, objective=ALL[name])
  batch, params = batch_of(name, 8), init_params(objective(name), 1)
  one, four = (
    eval_step_of(config, make_layout(f"data:{n}"))(params, None, dict(batch), jnp.uint32(0), jnp.uint32(0))
    for n in (1, 4)
  )
  for measure, pair in one.items():
    np.testing.assert_allclose(pair, four[measure], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_task_goes_on_with_the_encoder_and_what_it_reads_of_a_pooler(name: str) -> None:
  found = objective(name)
  start = {"encoder": {"a": 1}, "pooler": {"b": 2}, "classifier": {"c": 3}, "mlm_head": {"d": 4}}
  reads_pooler = name in ("one", "number", "choice")
  assert set(found.given(start)) == ({"encoder", "pooler"} if reads_pooler else {"encoder"})
