"""The losses against their definition, a row at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models.vocabulary import VocabularyScores
from bert_jax.objectives.pretraining import masked_lm, next_sentence, pretraining_sums


def scores_of(logits: Any) -> VocabularyScores:
  """Scores whose logits are these."""
  size = logits.shape[-1]
  return VocabularyScores(jnp.asarray(logits), jnp.eye(size), jnp.zeros(size))


def nats(logits: np.ndarray, label: int) -> float:
  return float(np.log(np.exp(logits.astype(np.float64)).sum()) - logits[label])


def test_masked_lm_sums_over_the_used_slots():
  draw = np.random.default_rng(0)
  logits = draw.normal(size=(5, 3, 11)).astype(np.float32)
  labels, weights = draw.integers(0, 11, (5, 3)), draw.integers(0, 2, (5, 3)).astype(np.float32)
  labels[0, 0], weights[0, 0] = logits[0, 0].argmax(), 1
  used = [(b, k) for b, k in np.ndindex(5, 3) if weights[b, k]]
  sums = masked_lm(scores_of(logits), jnp.asarray(labels), jnp.asarray(weights))
  assert float(sums["mlm_loss"][0]) == pytest.approx(sum(nats(logits[i], labels[i]) for i in used), rel=1e-6)
  assert float(sums["mlm_accuracy"][0]) == sum(logits[i].argmax() == labels[i] for i in used)
  assert float(sums["mlm_loss"][1]) == float(sums["mlm_accuracy"][1]) == len(used)


def test_no_prediction_at_all_is_a_loss_of_zero_with_a_gradient_of_zero():
  arguments = jnp.ones((2, 3), jnp.int32), jnp.zeros((2, 3))
  value, gradient = jax.value_and_grad(lambda x: masked_lm(scores_of(x), *arguments)["mlm_loss"][0])(
    jnp.ones((2, 3, 7))
  )
  assert float(value) == 0
  assert not gradient.any()


def test_next_sentence_leaves_out_rows_without_a_pair():
  logits = np.array([[2.0, -1.0], [0.5, 1.0], [3.0, 0.0], [1.0, 4.0]], np.float32)
  sums = next_sentence(jnp.asarray(logits), jnp.array([0, 0, -1, 1]))
  assert float(sums["nsp_loss"][0]) == pytest.approx(
    nats(logits[0], 0) + nats(logits[1], 0) + nats(logits[3], 1), rel=1e-6
  )
  assert (float(sums["nsp_accuracy"][0]), float(sums["nsp_accuracy"][1])) == (2, 3)


def test_the_loss_and_its_gradient_stay_finite_far_out():
  logits = jnp.array([[[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]])
  labels = jnp.array([[1, 2]])
  for k, expected in enumerate([2e4, np.log(2)]):
    weights = jnp.zeros((1, 2)).at[0, k].set(1)
    assert float(masked_lm(scores_of(logits), labels, weights)["mlm_loss"][0]) == pytest.approx(expected, rel=1e-6)
  gradient = jax.grad(lambda x: masked_lm(scores_of(x), labels, jnp.ones((1, 2)))["mlm_loss"][0])(logits)
  np.testing.assert_allclose(gradient, [[[1, -1, 0], [0, 0.5, -0.5]]], atol=1e-6)


def test_a_model_without_the_pair_head_has_no_sums_of_it():
  batch = {"mlm_labels": jnp.ones((2, 3), jnp.int32), "mlm_weights": jnp.ones((2, 3)), "nsp_labels": jnp.array([0, 1])}
  outputs: dict[str, Any] = {"mlm_scores": scores_of(jnp.zeros((2, 3, 5)))}
  assert set(pretraining_sums(outputs, batch)) == {"mlm_loss", "mlm_accuracy"}
  assert set(pretraining_sums(outputs | {"nsp_logits": jnp.zeros((2, 2))}, batch)) == {
    "mlm_loss",
    "mlm_accuracy",
    "nsp_loss",
    "nsp_accuracy",
  }
