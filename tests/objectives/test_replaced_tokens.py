"""ELECTRA's losses against a calculation of their own, and what the two networks share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from bert_jax.architectures import DebertaV2Config, ElectraConfig, narrower
from bert_jax.config import Config
from bert_jax.models import networks
from bert_jax.models.dropout import OutsideLayers, outside_layers, random_bits
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores
from bert_jax.objective_configs import MaskedTokensConfig, ReplacedTokensConfig
from bert_jax.objectives import objective_of
from bert_jax.objectives.base import Frozen
from bert_jax.objectives.replaced_tokens import ReplacedTokens, copying_loss, copying_nats, draw
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

  sums = objective.sums(params, None, arrays(batch), noise, 1)
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
    return jax.grad(lambda p: objective.sums(p, None, batch, noise_of(13), 1)[name][0])(params)

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
  found = narrower(model, size, 1.0)
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
  return networks.init(objective.network(name, model), name, jax.random.key(0))


# ---- variants -----------------------------------------------------------------------------------------------------


def variant(model: Any = MODEL, **settings: Any) -> ReplacedTokens:
  found = objective_of(Config(model, objective=dataclasses.replace(SETTINGS, **settings)))
  assert isinstance(found, ReplacedTokens)
  return found


DEBERTA = DebertaV2Config(
  vocab_size=99,
  num_layers=2,
  hidden_size=24,
  num_heads=4,
  intermediate_size=40,
  max_positions=16,
  max_distance=16,
  position_buckets=8,
  hidden_dropout=0.0,
  attention_dropout=0.0,
  initializer_range=0.3,
)


@pytest.mark.parametrize(
  ("model", "sharing"),
  [
    (MODEL, "disentangled"),
    pytest.param(MODEL, "none", marks=pytest.mark.exhaustive),
    pytest.param(DEBERTA, "embeddings", marks=pytest.mark.exhaustive),
    pytest.param(DEBERTA, "disentangled", marks=pytest.mark.exhaustive),
  ],
)
def test_which_tables_both_losses_move(model: Any, sharing: Any) -> None:
  """Embeddings are moved by both, apart by one each; disentangled, the generator's part by its own loss alone."""
  size = 1.0 if model is DEBERTA else 0.5
  found = variant(model, sharing=sharing, generator_size=size)
  params: Any = init_params(found, 3)
  batch = arrays(random_batch(seed=4))

  def both_losses(params: Any) -> Any:
    sums = found.sums(params, None, batch, noise_of(13), 1)
    return jnp.stack([sums[name][0] for name in ("mlm_loss", "replaced_loss")])

  gradients = jax.jit(jax.jacrev(both_losses))(params)

  def moved(loss: int) -> set[str]:
    flat = traverse_util.flatten_dict(jax.tree.map(lambda x: x[loss], gradients), sep="/")
    return {path.partition("/")[0] for path, x in flat.items() if path.endswith("words") and np.any(x)}

  both = {"discriminator"} if sharing == "embeddings" else None
  assert moved(0) == (both or {"generator"})
  assert moved(1) == (both or {"discriminator"})
  trained = found.trained(params)
  (_, discriminator), (_, generator) = trained["replaced_tokens"], trained["masked_lm"]
  tables = [networks.word_table(part) for part in (discriminator, generator)]
  assert np.array_equal(*tables) == (sharing != "none"), "what is its own begins at 0"
  assert jax.tree.map(jnp.shape, generator) == jax.tree.map(
    lambda x: x.shape, jax.eval_shape(lambda: init_of(found, "masked_lm", found.generator))
  )


def test_disentangled_tables_are_a_sum() -> None:
  found = variant(sharing="disentangled")
  params: Any = init_params(found, 3)
  params["discriminator"]["encoder"]["embeddings"]["words"] += 0.25
  _, discriminator = found.trained(params)["replaced_tokens"]
  words = params["generator"]["encoder"]["embeddings"]["words"]
  np.testing.assert_allclose(networks.word_table(discriminator), words + 0.25, rtol=1e-6)


def test_a_loss_over_masked_tokens_leaves_out_the_others(objective: ReplacedTokens, params: Any) -> None:
  batch, noise = arrays(random_batch(seed=4)), noise_of(13)
  over_all, over_masked = (
    of.sums(params, None, batch, noise, 1)["replaced_loss"] for of in (objective, variant(loss_over="masked"))
  )
  assert float(over_masked[1]) == float(batch["mlm_weights"].sum()) < float(over_all[1])
  assert float(variant(loss_over="masked").counts(batch)["replaced_loss"]) == float(over_masked[1])
  assert 0 < float(over_masked[0]) < float(over_all[0])


def test_all_tokens_are_predicted_by_a_mixture_of_copying_and_softmax() -> None:
  """The loss against numpy's, and its gradient against the one that JAX finds of the plain formula."""
  key = jax.random.split(jax.random.key(1), 5)
  scores = VocabularyScores(*(jax.random.normal(k, s) for k, s in zip(key, ((4, 7, 5), (31, 5), (31,)), strict=False)))
  gates = jax.random.normal(key[3], (4, 7))
  labels = jax.random.randint(key[4], (4, 7), 0, 31)
  shown = jnp.where(jnp.arange(7)[None] % 3 == 0, (labels + 1) % 31, labels)
  counted = jnp.arange(7)[None] < jnp.array([7, 5, 6, 2])[:, None]

  def plain(scores: VocabularyScores, gates: Any) -> Any:
    chance = jnp.take_along_axis(jax.nn.softmax(scores.logits()), labels[..., None], axis=-1)[..., 0]
    copy = jax.nn.sigmoid(gates)
    return -jnp.sum(jnp.log(copy * (shown == labels) + (1 - copy) * chance) * counted)

  def ours(scores: VocabularyScores, gates: Any) -> Any:
    return copying_loss(scores, gates, shown, labels, counted)

  wanted, found = (jax.value_and_grad(f, argnums=(0, 1))(scores, gates) for f in (plain, ours))
  for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
  nats = copying_nats(scores, gates, shown, labels)
  assert float(jnp.sum(nats * counted)) == pytest.approx(float(wanted[0]), rel=1e-5)


def test_all_tokens_mlm_trains_a_masked_language_model() -> None:
  found = variant(predicts="tokens")
  params, batch = init_params(found, 3), arrays(random_batch(seed=4))
  sums = found.sums(params, None, batch, noise_of(13), 1)
  assert float(sums["tokens_loss"][1]) == float(batch["attention_mask"].sum())
  assert set(found.loss_weights) == {"mlm_loss", "tokens_loss"}
  ((name, (model, part)),) = found.trained(params).items()
  assert (name, model) == ("masked_lm", MODEL)
  assert "copy_head" not in part


def test_a_fixed_generator_is_used_and_not_trained() -> None:
  """Two stages: the same draws as the run that the generator is of, and no loss of its own."""
  first = objective_of(Config(MODEL, objective=MaskedTokensConfig()))
  generator: Any = init_params(first, 5)
  found = variant(generator_from="somewhere", sharing="none")
  start = found.given(generator)
  np.testing.assert_array_equal(networks.word_table(start["discriminator"]), networks.word_table(generator))
  params, batch = init_params(found, 3), arrays(random_batch(seed=4))
  assert set(params) == {"discriminator"}
  assert set(found.loss_weights) == {"replaced_loss"}
  frozen = Frozen(generator, MODEL, "masked_lm")
  found.check_frozen(frozen)
  sums = found.sums(params, frozen, batch, noise_of(13), 1)
  theirs = first.sums(generator, None, batch, noise_of(13), 1)
  assert float(sums["mlm_loss"][0]) == pytest.approx(float(theirs["mlm_loss"][0]), rel=1e-6)
  assert list(found.trained(params)) == ["replaced_tokens"]
  with pytest.raises(ValueError, match="fills no masks"):
    found.check_frozen(Frozen(generator, MODEL, "encoder"))
