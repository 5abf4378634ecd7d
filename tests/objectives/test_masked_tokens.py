"""The losses against their definition, a row at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models.vocabulary import VocabularyScores
from bert_jax.objectives.masked_tokens import masked_lm, pair_label
from tests.models.networks import MODEL, init_params, masked_tokens, noise_of, random_batch


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


def test_a_pairs_label_leaves_out_rows_without_a_pair():
  logits = np.array([[2.0, -1.0], [0.5, 1.0], [3.0, 0.0], [1.0, 4.0]], np.float32)
  sums = pair_label(jnp.asarray(logits), jnp.array([0, 0, -1, 1]))
  assert float(sums["loss"][0]) == pytest.approx(nats(logits[0], 0) + nats(logits[1], 0) + nats(logits[3], 1), rel=1e-6)
  assert (float(sums["accuracy"][0]), float(sums["accuracy"][1])) == (2, 3)


def test_the_loss_and_its_gradient_stay_finite_far_out():
  logits = jnp.array([[[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]])
  labels = jnp.array([[1, 2]])
  for k, expected in enumerate([2e4, np.log(2)]):
    weights = jnp.zeros((1, 2)).at[0, k].set(1)
    assert float(masked_lm(scores_of(logits), labels, weights)["mlm_loss"][0]) == pytest.approx(expected, rel=1e-6)
  gradient = jax.grad(lambda x: masked_lm(scores_of(x), labels, jnp.ones((1, 2)))["mlm_loss"][0])(logits)
  np.testing.assert_allclose(gradient, [[[1, -1, 0], [0, 0.5, -0.5]]], atol=1e-6)


@pytest.mark.parametrize("sentence", ["none", "nsp", "sop"])
def test_an_objective_has_the_sums_that_it_is_trained_on_and_no_others(sentence: str):
  objective, batch = masked_tokens(MODEL, sentence), random_batch()
  params = init_params(MODEL, 0, sentence)
  sums = objective.sums(params, None, {name: jnp.asarray(x) for name, x in batch.items()}, noise_of(13), 1)
  wanted = {"mlm_loss", "mlm_accuracy"} | (
    {f"{sentence}_loss", f"{sentence}_accuracy"} - {"none_loss", "none_accuracy"}
  )
  assert set(sums) == wanted
  assert set(objective.loss_weights) == {name for name in wanted if name.endswith("_loss")}
  counts = objective.counts({name: jnp.asarray(x) for name, x in batch.items()})
  assert {name: float(count) for name, count in counts.items()} == {
    name: float(sums[name][1]) for name in objective.loss_weights
  }
  assert ("pooler" in params) == ("nsp_head" in params) == (sentence != "none")
