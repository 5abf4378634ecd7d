"""The encoder and its heads: what may change speed does not change the result."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.architectures import BertConfig, RobertaConfig
from bert_jax.models.inputs import Inputs
from tests.models.networks import (
  MODEL,
  WITH_DROPOUT,
  init_params,
  masked_tokens,
  noise_of,
  outputs_of,
  random_batch,
)
from tests.traced import products


@pytest.fixture(scope="module")
def params() -> Any:
  # Moved off its initial point, where biases are 0 and gains 1 and would hide a mistake.
  draw = np.random.default_rng(1)
  return jax.tree.map(lambda p: p + 0.1 * draw.normal(size=p.shape).astype(np.float32), init_params(MODEL, seed=0))


def value_and_gradient(model: BertConfig, runtime: dict[str, Any], params: Any, batch: dict[str, np.ndarray]) -> Any:
  """All outputs, and the gradient of a number that depends on all of them."""
  objective, noise = masked_tokens(model, **runtime), noise_of(len(batch["token_ids"]))

  def total(params: Any) -> tuple[jax.Array, Any]:
    outputs = outputs_of(objective, params, batch, noise)
    outputs.pop("hidden")  # padded positions of the fused and the explicit attention need not agree
    outputs["mlm_logits"] = outputs.pop("mlm_scores").logits()
    return sum((jnp.sum(jnp.sin(x)) for x in outputs.values()), jnp.float32(0)), outputs

  return jax.jit(jax.grad(total, has_aux=True))(params)


def assert_close(a: Any, b: Any, relative: float) -> None:
  """Relative to each array's largest element, and to a hundredth of the largest of all where that is more.

  Some gradients are 0 in exact arithmetic (of the keys' bias, which softmax does not see): what is left is rounding.
  """
  largest = max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(b))
  for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
    x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
    assert np.abs(x - y).max() <= relative * max(np.abs(y).max(), largest / 100), jax.tree_util.keystr(path)


@pytest.fixture(scope="module")
def unrolled(params: Any) -> Any:
  return value_and_gradient(WITH_DROPOUT, {}, params, random_batch())


@pytest.mark.parametrize(
  "runtime",
  [{"scan_layers": True}, {"remat": "full"}, {"scan_layers": True, "remat": "dots"}],
)
def test_scanned_and_rematerialized_layers_are_the_unrolled_ones(params: Any, unrolled: Any, runtime: dict[str, Any]):
  assert_close(value_and_gradient(WITH_DROPOUT, runtime, params, random_batch()), unrolled, 1e-5)


def test_what_is_kept_is_not_multiplied_again(params: Any):
  objective, batch = masked_tokens(MODEL), random_batch()
  found = []
  for remat in ("none", "dots", "full"):
    network = objective.network(objective.name).clone(remat=remat)

    def total(params: Any, network: Any = network) -> Any:
      return jnp.sum(network.apply({"params": params}, Inputs.of(batch))["hidden"] ** 2)

    found.append(products(jax.make_jaxpr(jax.grad(total))(params).jaxpr))
  assert found[0] < found[1] < found[2] < 1.4 * found[0], "dots: of attention alone; full: the forward pass once more"


def test_fused_attention_gives_the_same_model(params: Any):
  batch = random_batch()
  explicit, fused = (value_and_gradient(MODEL, {"attention": name}, params, batch) for name in ("explicit", "fused"))
  assert_close(fused, explicit, 1e-5)


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_is_near_float32_and_its_gradients_are_float32(params: Any):
  batch = random_batch()
  exact = value_and_gradient(MODEL, {}, params, batch)
  gradient, outputs = value_and_gradient(MODEL, {"compute_dtype": "bfloat16"}, params, batch)
  assert {x.dtype for x in jax.tree.leaves((gradient, outputs))} == {jnp.dtype("float32")}
  assert_close(outputs, exact[1], 0.05)  # bfloat16 has 8 bits; three layers add up their rounding
  norm = sum(float(jnp.sum(x**2)) for x in jax.tree.leaves(exact[0])) ** 0.5
  apart = jax.tree.map(lambda a, b: float(jnp.sum((a - b) ** 2)), gradient, exact[0])
  assert sum(jax.tree.leaves(apart)) ** 0.5 < 0.1 * norm


def test_scoring_some_positions_is_scoring_all_and_choosing(params: Any):
  batch, objective = random_batch(), masked_tokens(MODEL)

  @jax.jit
  def mlm_logits(batch: Any) -> jax.Array:
    return outputs_of(objective, params, batch)["mlm_scores"].logits()

  logits = mlm_logits(batch | {"mlm_positions": None})
  assert logits.shape == (13, 7, 99)
  chosen = np.take_along_axis(logits, batch["mlm_positions"][..., None], axis=1)
  np.testing.assert_allclose(mlm_logits(batch), chosen, rtol=1e-5, atol=1e-5)


def test_padding_has_no_influence(params: Any):
  batch, objective = random_batch(), masked_tokens(MODEL)

  @jax.jit
  def results(batch: Any) -> tuple[jax.Array, ...]:
    outputs = outputs_of(objective, params, batch)
    return outputs["pooled"], outputs["pair_logits"], outputs["mlm_scores"].logits()

  before = results(batch)
  batch["token_ids"] = np.where(batch["attention_mask"], batch["token_ids"], 77)
  for one, other in zip(before, results(batch), strict=True):
    np.testing.assert_array_equal(one, other)


def test_an_offset_shifts_the_rows_of_the_position_table():
  sizes = {name: value for name, value in dataclasses.asdict(MODEL).items() if name != "type_vocab_size"}
  model = RobertaConfig(**sizes)
  params = init_params(model, seed=0, sentence="none")
  assert params["encoder"]["embeddings"]["positions"].shape == (18, 20)
  batch, objective = random_batch(), masked_tokens(model, "none")
  batch["segment_ids"][:] = 0

  def total(params: Any) -> jax.Array:
    return jnp.sum(outputs_of(objective, params, batch)["mlm_scores"].logits() ** 2)

  used = np.abs(jax.jit(jax.grad(total))(params)["encoder"]["embeddings"]["positions"]).sum(axis=1) > 0
  assert list(np.flatnonzero(used)) == list(range(2, 9))


def test_a_sequence_longer_than_the_positions_is_refused(params: Any):
  with pytest.raises(ValueError, match=r"17 tokens is longer than model\.max_positions=16"):
    outputs_of(masked_tokens(MODEL), params, random_batch(length=17))


@pytest.mark.parametrize(("initializer", "least", "most"), [("truncated_normal", 0.39, 0.4), ("normal", 0.7, 1.3)])
def test_initial_weights_have_the_published_distribution(initializer: str, least: float, most: float):
  model = dataclasses.replace(MODEL, vocab_size=5003, initializer=initializer)
  words = np.asarray(init_params(model, seed=0)["encoder"]["embeddings"]["words"])
  # A normal distribution cut at two deviations, not rescaled, keeps 0.880 of its deviation.
  assert words.std() == pytest.approx(0.2 * (0.8796 if initializer == "truncated_normal" else 1), rel=0.01)
  assert least < np.abs(words).max() <= most * (1 + 1e-6)  # of 100,060 draws


def test_initial_weights_are_a_function_of_the_seed():
  one, again, other = (init_params(MODEL, seed) for seed in (1, 1, 2))
  assert_close(one, again, 0)
  kernel = lambda params: params["encoder"]["layers"]["query"]["kernel"]
  assert not np.allclose(kernel(one), kernel(other))
  assert not np.allclose(kernel(one)[0], kernel(one)[1])
