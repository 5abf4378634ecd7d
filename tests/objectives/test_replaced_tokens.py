"""ELECTRA's losses against a calculation of their own, and what the two networks share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.architectures import ElectraConfig
from bert_jax.config import Config, ReplacedTokensConfig
from bert_jax.models.dropout import OutsideLayers, outside_layers, random_bits
from bert_jax.models.inputs import Inputs
from bert_jax.objectives import objective_of
from bert_jax.objectives.replaced_tokens import ReplacedTokens, draw, generator_model
from bert_jax.training.step import init_params
from tests.models.networks import noise_of, random_batch

MODEL = ElectraConfig(
  vocab_size=99,
  num_layers=2,
  hidden_size=24,
  num_heads=4,
  intermediate_size=40,
  embedding_size=14,
  max_positions=16,
  hidden_dropout=0.0,
  attention_dropout=0.0,
  initializer_range=0.3,
)
SETTINGS = ReplacedTokensConfig(generator_size=0.5, generator_layers=0.5, weight=50.0, temperature=0.7)


@pytest.fixture(scope="module")
def objective() -> ReplacedTokens:
  found = objective_of(Config(MODEL, objective=SETTINGS))
  assert isinstance(found, ReplacedTokens)
  return found


@pytest.fixture(scope="module")
def params(objective: ReplacedTokens) -> Any:
  return init_params(objective, 3)


def arrays(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
  return {name: jnp.asarray(array) for name, array in batch.items()}


def test_the_losses_are_those_of_a_calculation_by_hand(objective: ReplacedTokens, params: Any) -> None:
  """The networks' logits are taken as they are; draws, replacement, labels and both losses are numpy's."""
  batch, noise = random_batch(seed=4), noise_of(13)
  embeddings = params["discriminator"]["encoder"]["embeddings"]
  generator = {**params["generator"], "encoder": params["generator"]["encoder"] | {"embeddings": embeddings}}
  outputs: Any = objective.network("masked_lm", objective.generator).apply(
    {"params": generator}, Inputs.of(batch), mlm_positions=batch["mlm_positions"]
  )
  logits = np.asarray(outputs["mlm_scores"].logits(), np.float64)
  bits = np.asarray(random_bits(outside_layers(noise, 0, OutsideLayers.REPLACEMENTS), logits.shape))  # type: ignore[arg-type]
  gumbel = -np.log(-np.log(((bits >> 8) + 0.5) / 2**24))
  drawn = (logits / SETTINGS.temperature + gumbel).argmax(axis=-1)

  text, replaced = batch["token_ids"].copy(), np.zeros(batch["token_ids"].shape, bool)
  nats = []
  for row, slot in zip(*np.nonzero(batch["mlm_weights"]), strict=True):
    place, label = batch["mlm_positions"][row, slot], batch["mlm_labels"][row, slot]
    text[row, place], replaced[row, place] = drawn[row, slot], drawn[row, slot] != label
    nats.append(np.log(np.exp(logits[row, slot]).sum()) - logits[row, slot, label])
  found: Any = objective.network("replaced_tokens").apply(
    {"params": params["discriminator"]}, Inputs.of(batch | {"token_ids": text})
  )
  scores, real = np.asarray(found["replaced_logits"], np.float64), batch["attention_mask"]
  chances = 1 / (1 + np.exp(-scores))
  cross_entropy = -np.where(replaced, np.log(chances), np.log(1 - chances))[real]

  sums = objective.sums(params, {}, arrays(batch), noise, 1)
  means = {name: float(total / count) for name, (total, count) in sums.items()}
  assert means["mlm_loss"] == pytest.approx(np.mean(nats), rel=1e-5)
  assert means["replaced_loss"] == pytest.approx(cross_entropy.mean(), rel=1e-5)
  assert means["replaced_accuracy"] == pytest.approx(((scores > 0) == replaced)[real].mean())
  assert means["replaced_share"] == pytest.approx(replaced[real].mean())
  assert 0 < replaced[real].mean() < 0.5
  assert objective.loss_weights == {"mlm_loss": 1.0, "replaced_loss": 50.0}
  counts = objective.counts(arrays(batch))
  assert {name: float(count) for name, count in counts.items()} == {
    "mlm_loss": len(nats), "replaced_loss": real.sum()
  }  # fmt: skip


def test_no_gradient_goes_through_the_draws_and_the_embeddings_have_both(
  objective: ReplacedTokens, params: Any
) -> None:
  batch = arrays(random_batch(seed=4))

  def gradient(name: str) -> Any:
    return jax.grad(lambda p: objective.sums(p, {}, batch, noise_of(13), 1)[name][0])(params)

  of_discriminator, of_generator = gradient("replaced_loss"), gradient("mlm_loss")
  assert all(not np.any(x) for x in jax.tree.leaves(of_discriminator["generator"]))
  words = [g["discriminator"]["encoder"]["embeddings"]["words"] for g in (of_discriminator, of_generator)]
  assert all(np.abs(x).max() > 0 for x in words)
  del of_generator["discriminator"]["encoder"]["embeddings"]
  assert all(not np.any(x) for x in jax.tree.leaves(of_generator["discriminator"]))


def test_draws_follow_the_softmax_and_are_a_function_of_the_row() -> None:
  logits = jnp.broadcast_to(jnp.log(jnp.array([0.1, 0.2, 0.7])), (4, 5000, 3))
  noise = noise_of(4)
  for temperature, wanted in ((1.0, np.array([0.1, 0.2, 0.7])), (0.5, np.array([0.01, 0.04, 0.49]) / 0.54)):
    drawn = np.asarray(draw(logits, temperature, noise))
    shares = np.bincount(drawn.ravel(), minlength=3) / drawn.size
    np.testing.assert_allclose(shares, wanted, atol=4 * (0.25 / drawn.size) ** 0.5)
  whole = draw(logits, 1.0, noise)
  two = dataclasses.replace(noise, rows=noise.rows[2:])  # pyright: ignore[reportCallIssue]
  np.testing.assert_array_equal(draw(logits[2:], 1.0, two), whole[2:])


@pytest.mark.parametrize(("hidden", "heads", "size", "wanted"), [(768, 12, 1 / 3, (256, 4)), (256, 4, 0.25, (64, 1))])
def test_a_generator_has_the_published_width(hidden: int, heads: int, size: float, wanted: tuple[int, int]) -> None:
  model = ElectraConfig(hidden_size=hidden, num_heads=heads, intermediate_size=4 * hidden)
  found = generator_model(model, ReplacedTokensConfig(generator_size=size))
  assert (found.hidden_size, found.num_heads, found.intermediate_size) == (*wanted, 4 * wanted[0])
  assert isinstance(found, ElectraConfig)
  assert (found.num_layers, found.embedding_size) == (12, 768)


def test_both_networks_come_out_whole(objective: ReplacedTokens, params: Any) -> None:
  trained = objective.trained(params)
  assert list(trained) == ["replaced_tokens", "masked_lm"], "the discriminator is what a run is about"
  for name, (model, part) in trained.items():
    wanted = jax.eval_shape(lambda name=name, model=model: init_of(objective, name, model))
    assert jax.tree.map(jnp.shape, part) == jax.tree.map(lambda x: x.shape, wanted)


def init_of(objective: ReplacedTokens, name: str, model: Any) -> Any:
  from bert_jax.models import networks

  return networks.init(objective.network(name, model), name, jax.random.key(0))
