"""SpanBERT's second loss: which tokens stand at the sides of a span, and that they and the place are all it reads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.architectures import BertConfig
from bert_jax.config import Config
from bert_jax.models.inputs import Inputs
from bert_jax.models.span_boundary import MOST_TARGETS, boundaries
from bert_jax.objective_configs import MaskedTokensConfig
from bert_jax.objectives import objective_of
from bert_jax.objectives.masked_tokens import MaskedTokens
from bert_jax.training.step import init_params
from tests.models.networks import noise_of, random_batch

MODEL = BertConfig(
  vocab_size=99,
  num_layers=1,
  hidden_size=24,
  num_heads=4,
  intermediate_size=40,
  max_positions=16,
  hidden_dropout=0.0,
  attention_dropout=0.0,
  initializer_range=0.3,
)


def test_boundaries_are_the_tokens_beside_a_run() -> None:
  positions, weights = jnp.array([[2, 3, 4, 7, 0], [1, 2, 0, 0, 0]]), jnp.array([[1.0, 1, 1, 1, 0], [1.0, 0, 0, 0, 0]])
  before, after = boundaries(positions, weights, 11)
  np.testing.assert_array_equal(before[0, :4], [1, 1, 1, 6])
  np.testing.assert_array_equal(after[0, :4], [5, 5, 5, 8])
  assert (int(before[1, 0]), int(after[1, 0])) == (0, 2), "a slot that is not used masks nothing"


@pytest.fixture(scope="module")
def objective() -> MaskedTokens:
  found = objective_of(Config(MODEL, objective=MaskedTokensConfig(boundary=True)))
  assert isinstance(found, MaskedTokens)
  return found


def layer_norm(x: np.ndarray, part: Any) -> np.ndarray:
  centred = x - x.mean(-1, keepdims=True)
  return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * part["scale"] + part["bias"]


def test_the_loss_is_that_of_a_calculation_by_hand(objective: MaskedTokens) -> None:
  params: Any = jax.tree.map(np.asarray, init_params(objective, 3))
  batch = random_batch(seed=4)
  ends = (batch["mlm_positions"] == 0) | (batch["mlm_positions"] == batch["token_ids"].shape[1] - 1)
  batch["mlm_weights"] = np.where(ends, np.float32(0), batch["mlm_weights"])  # [CLS] and the last [SEP] are no text
  outputs: Any = objective.network("masked_lm").apply({"params": params}, Inputs.of(batch))
  hidden, head = np.asarray(outputs["hidden"], np.float64), params["boundary_head"]
  erf = np.vectorize(__import__("math").erf)
  nats = []
  for row in range(len(hidden)):
    used = batch["mlm_weights"][row] > 0
    masked = set(batch["mlm_positions"][row][used].tolist())
    for place, label in zip(batch["mlm_positions"][row][used].tolist(), batch["mlm_labels"][row][used], strict=True):
      left, right = place, place
      while left in masked:
        left -= 1
      while right in masked:
        right += 1
      position = head["positions"][min(place - left, MOST_TARGETS) - 1]
      x = np.concatenate([hidden[row, left], hidden[row, right], position])
      for name in ("inner", "outer"):
        x = x @ head[name]["kernel"] + head[name]["bias"]
        x = layer_norm(0.5 * x * (1 + erf(x / np.sqrt(2))), head[f"{name}_norm"])
      logits = params["encoder"]["embeddings"]["words"] @ x + head["bias"]
      nats.append(np.log(np.exp(logits).sum()) - logits[label])
  sums = objective.sums(params, None, {name: jnp.asarray(x) for name, x in batch.items()}, noise_of(13), 1)
  total, count = sums["boundary_loss"]
  assert float(count) == len(nats) > 10
  assert float(total / count) == pytest.approx(np.mean(nats), rel=1e-4)
  assert objective.loss_weights == {"mlm_loss": 1.0, "boundary_loss": 1.0}
  rows = objective.evaluate(params, None, batch | {"mask_weights": batch["mlm_weights"]}, noise_of(13), 1)
  assert float(rows["boundary_loss"][0].sum() / rows["boundary_loss"][1].sum()) == pytest.approx(
    np.mean(nats), rel=1e-4
  )


def test_what_comes_of_it_is_a_masked_language_model(objective: MaskedTokens) -> None:
  ((name, (_, params)),) = objective.trained(init_params(objective, 3)).items()
  plain: Any = init_params(objective_of(Config(MODEL, objective=MaskedTokensConfig())), 3)
  assert name == "masked_lm"
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, plain)
