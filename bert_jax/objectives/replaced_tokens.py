"""Replaced-token detection, as ELECTRA and DeBERTaV3 have it (Clark et al. 2020; He et al. 2021).

B batch, T tokens, K predictions, V vocabulary.

A generator learns to fill masks, and tokens drawn from it replace the masked ones; the model, called discriminator,
tells for each token whether it was replaced, or which token stood there. No gradient goes through the draws.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from jaxtyping import Bool, Float, Float32, Int

from bert_jax.architectures import EncoderConfig, narrower
from bert_jax.config import DataConfig
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise, OutsideLayers, outside_layers, random_bits
from bert_jax.models.electra import DiscriminatorHead
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores
from bert_jax.objective_configs import ReplacedTokensConfig
from bert_jax.objectives.base import Frozen, Means, Objective, Params, Sums, masked_sum, row_sums
from bert_jax.objectives.masked_tokens import masked_lm, masked_lm_measure, masked_lm_measures, masked_lm_rows
from bert_jax.results import Answer

_GENERATOR, _DISCRIMINATOR = 0, 1  # noise of their own

# What the two networks share, by path: ELECTRA's embeddings with their LayerNorm, DeBERTa's tables. Disentangled, the
# tables alone (He et al. 2021, section 3.3).
_SHARED = r"encoder/(embeddings/.*|words|positions|segments)$"
_TABLES = r"encoder/(embeddings/)?(words|positions|segments)$"


@dataclasses.dataclass(frozen=True)
class ReplacedTokens(Objective):
  """`params` are `discriminator` and, where it is trained, `generator`, less what it has of the discriminator."""

  settings: ReplacedTokensConfig

  @property
  def generator(self) -> EncoderConfig:
    return narrower(self.model, self.settings.generator_size, self.settings.generator_layers)

  @property
  def _generator_network(self) -> str:
    return "enhanced_masked_lm" if self.settings.enhanced_decoder else "masked_lm"

  @property
  def _network(self) -> str:
    return "replaced_tokens" if self.settings.predicts == "replaced" else "masked_lm"

  @property
  def frozen_from(self) -> tuple[str, str] | None:
    path = self.settings.generator_from
    return path and ("objective.generator_from", path)  # pyright: ignore[reportReturnType]

  def check_frozen(self, frozen: Frozen) -> None:
    if frozen.network not in ("masked_lm", "pretraining", "enhanced_masked_lm"):
      raise ValueError(
        f"objective.generator_from={self.settings.generator_from} has the network {frozen.network}, which fills no"
        " masks; give a run of masked tokens"
      )

  @property
  def loss_weights(self) -> dict[str, float]:
    of_generator = {} if self.settings.generator_from else {"mlm_loss": 1.0}
    return of_generator | {f"{self.settings.predicts}_loss": self.settings.weight}

  @property
  def answers(self) -> tuple[Answer, ...]:
    if self.settings.predicts != "replaced":
      return ()
    return (Answer("replaced", "replaced tokens", "Replaced tokens, on held-out text: is the token the text's own?"),)

  # ---- parameters ----

  def init(self, key: Array) -> Params:
    one, other = jax.random.split(key)
    discriminator = networks.init(self.network(self._network), self._network, other)
    if self.settings.predicts == "tokens":
      head = self._copy_head().init(other, jnp.zeros((1, 1, self.model.hidden_size)))
      discriminator = {**discriminator, "copy_head": head["params"]}
    if self.settings.generator_from:
      return {"discriminator": discriminator}
    generator = networks.init(self.network(self._generator_network, self.generator), self._generator_network, one)
    of_generator, of_discriminator = (_flat(part) for part in (generator, discriminator))
    for path in _in_both(of_generator, of_discriminator, _SHARED if self.settings.sharing == "embeddings" else _TABLES):
      if self.settings.sharing == "embeddings":
        del of_generator[path]
      elif self.settings.sharing == "disentangled":
        of_discriminator[path] = jnp.zeros_like(of_discriminator[path])
    return {"generator": _nested(of_generator), "discriminator": _nested(of_discriminator)}

  def _copy_head(self) -> DiscriminatorHead:
    return DiscriminatorHead(**self.network(self._network).settings())

  def _networks(self, params: Params, frozen: Frozen | None) -> tuple[Params, Params]:
    """The parameters of both networks, whole."""
    if self.settings.generator_from:
      assert frozen is not None
      return frozen.params, params["discriminator"]
    generator, discriminator = _flat(params["generator"]), _flat(params["discriminator"])
    if self.settings.sharing == "embeddings":
      generator = {path: array for path, array in discriminator.items() if re.match(_SHARED, path)} | generator
    if self.settings.sharing == "disentangled":
      for path in _in_both(generator, discriminator, _TABLES):
        discriminator[path] = jax.lax.stop_gradient(generator[path]) + discriminator[path]
    return _nested(generator), _nested(discriminator)

  def given(self, start: Mapping[str, Any]) -> Params:
    heads = ("encoder", "discriminator_head") + (("mlm_head",) if self.settings.predicts == "tokens" else ())
    return {"discriminator": {name: part for name, part in start.items() if name in heads}}

  # ---- training ----

  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    found = {} if self.settings.generator_from else {"mlm_loss": jnp.sum(batch["mlm_weights"])}
    return found | {f"{self.settings.predicts}_loss": jnp.sum(self._counted(batch))}

  def _counted(self, batch: Mapping[str, Array]) -> Array:
    """The tokens that the discriminator's loss is over, [B, T]."""
    if self.settings.loss_over == "all":
      return batch["attention_mask"]
    rows, places = _places(batch)
    return jnp.zeros(batch["token_ids"].shape, bool).at[rows, places].set(True, mode="drop")

  def sums(self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    scores, outputs, shown, replaced = self._forward(params, frozen, batch, noise, with_dropout=True)
    sums = masked_lm(scores, batch["mlm_labels"], batch["mlm_weights"], shards)
    real, counted = batch["attention_mask"], self._counted(batch)
    if self.settings.predicts == "tokens":
      nats = copying_loss(outputs["mlm_scores"], outputs["copy_logits"], shown, original(batch), counted, shards)
      return sums | {"tokens_loss": (nats, jnp.sum(counted.astype(jnp.float32)))}
    logits = outputs["replaced_logits"]
    return sums | {
      "replaced_loss": masked_sum(replaced_loss(logits, replaced), counted),
      "replaced_accuracy": masked_sum((logits > 0) == replaced, real),
      "replaced_share": masked_sum(replaced, real),
    }

  def _forward(
    self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, with_dropout: bool
  ) -> tuple[VocabularyScores, dict[str, Any], Int[Array, "B T"], Bool[Array, "B T"]]:
    """The generator's scores of [B, K, V], the discriminator's outputs, what it was shown, and what was replaced."""
    inputs, positions = Inputs.of(batch), batch["mlm_positions"]
    places = [noise.fold_in(part) if with_dropout else None for part in (_GENERATOR, _DISCRIMINATOR)]
    of_generator, of_discriminator = self._networks(params, frozen)
    generator = self.network(self._generator_network, self.generator)
    if self.settings.generator_from:
      assert frozen is not None
      generator, places[0] = self.network(frozen.network, frozen.model), None
    outputs: Any = generator.apply({"params": of_generator}, inputs, places[0], mlm_positions=positions)
    scores = outputs["mlm_scores"]
    shown, replaced = replace(batch, draw(scores.logits(), self.settings.temperature, noise))
    discriminator = self.network(self._network)
    found: Any = discriminator.apply(
      {"params": of_discriminator}, dataclasses.replace(inputs, token_ids=shown), places[1]
    )
    if self.settings.predicts == "tokens":
      logits = self._copy_head().apply({"params": of_discriminator["copy_head"]}, found["hidden"])
      found = {**found, "copy_logits": logits}
    return scores, found, shown, replaced

  # ---- measuring ----

  def measure(self, data: DataConfig) -> str:
    # Of both losses it is the one that falls as training goes on: the discriminator's rises as the generator improves.
    return masked_lm_measure(data)

  def evaluate(
    self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int
  ) -> Sums:
    scores, outputs, shown, replaced = self._forward(params, frozen, batch, noise, with_dropout=False)
    sums, real = masked_lm_rows(scores, batch, shards), batch["attention_mask"]
    if self.settings.predicts == "tokens":
      nats = copying_nats(outputs["mlm_scores"], outputs["copy_logits"], shown, original(batch), shards)
      return sums | {"tokens_loss": row_sums(nats, real), "tokens_replaced_loss": row_sums(nats, real & replaced)}
    logits = outputs["replaced_logits"]
    right = (logits > 0) == replaced
    return sums | {
      "replaced_loss": row_sums(replaced_loss(logits, replaced), real),
      "replaced_accuracy": row_sums(right, real),
      "replaced_share": row_sums(replaced, real),
      "replaced_recall_0": row_sums(right, real & ~replaced),
      "replaced_recall_1": row_sums(right, real & replaced),
    }

  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    """The generator's, as `masked_lm_measures`, and the discriminator's on the own set.

    replaced_loss in nats a token; replaced_accuracy beside replaced_majority, which is reached by calling every token
    original; replaced_balanced_accuracy, the mean of its shares among original and among replaced tokens. Where it
    predicts tokens: tokens_loss in nats over all, and tokens_replaced_loss over the replaced ones.
    """
    own, found = means["own"], masked_lm_measures(means, data)
    if self.settings.predicts == "tokens":
      return found | {name: own[name] for name in ("tokens_loss", "tokens_replaced_loss")}
    return found | {
      "replaced_loss": own["replaced_loss"],
      "replaced_accuracy": own["replaced_accuracy"],
      "replaced_majority": max(own["replaced_share"], 1 - own["replaced_share"]),
      "replaced_balanced_accuracy": (own["replaced_recall_0"] + own["replaced_recall_1"]) / 2,
    }

  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    """The discriminator, and the generator where it was trained and is another kind of network.

    Of DeBERTa, whose discriminator other libraries have not, also the encoder by itself.
    """
    if self.settings.generator_from:
      generator, discriminator = None, params["discriminator"]
    else:
      generator, discriminator = self._networks(params, None)
    kept = {name: part for name, part in discriminator.items() if name != "copy_head"}
    found = {self._network: (self.model, kept)}
    if generator is not None and self._generator_network not in found:
      found[self._generator_network] = (self.generator, generator)
    if self.model.kind != "electra":
      found["encoder"] = (self.model, {"encoder": kept["encoder"]})
    return found


def _flat(params: Params) -> dict[str, Any]:
  return dict(traverse_util.flatten_dict(params, sep="/"))


def _nested(flat: Mapping[str, Any]) -> Params:
  return traverse_util.unflatten_dict(dict(flat), sep="/")


def _in_both(one: Mapping[str, Any], other: Mapping[str, Any], pattern: str) -> list[str]:
  return [path for path in one if path in other and re.match(pattern, path)]


# ---- losses -------------------------------------------------------------------------------------------------------


def replaced_loss(logits: Float32[Array, "B T"], replaced: Bool[Array, "B T"]) -> Float32[Array, "B T"]:
  """Binary cross-entropy of each token, in nats."""
  return optax.sigmoid_binary_cross_entropy(logits, replaced.astype(jnp.float32))


def copying_nats(
  scores: VocabularyScores,
  copy_logits: Float32[Array, "B T"],
  shown: Int[Array, "B T"],
  labels: Int[Array, "B T"],
  shards: int = 1,
) -> Float32[Array, "B T"]:
  """-log(D · [shown = label] + (1 - D) · softmax(label)), with D = sigmoid(copy_logits) (Clark et al. 2020, 3.5).

  Without a gradient to the scores; see `copying_loss`.
  """
  return _mixture(scores.predictions(labels, shards)[0], copy_logits, shown == labels)


def copying_loss(
  scores: VocabularyScores,
  copy_logits: Float32[Array, "B T"],
  shown: Int[Array, "B T"],
  labels: Int[Array, "B T"],
  counted: Bool[Array, "B T"],
  shards: int = 1,
) -> Float32[Array, ""]:
  """The sum of `copying_nats` where it counts, with its whole gradient.

  The gradient to a score is that of the softmax's cross-entropy, times the share that the softmax has in the
  probability of the label.
  """
  nats = jax.lax.stop_gradient(scores.predictions(labels, shards)[0])
  mixed, weights = _mixture(nats, copy_logits, shown == labels), counted.astype(jnp.float32)
  share = jax.lax.stop_gradient(jnp.exp(mixed + jax.nn.log_sigmoid(-copy_logits) - nats) * weights)
  through_scores, _ = scores.cross_entropy(labels, share, shards)
  return jnp.sum(mixed * weights) + through_scores - jax.lax.stop_gradient(through_scores)


def _mixture(nats: Float[Array, "B T"], copy_logits: Float[Array, "B T"], same: Bool[Array, "B T"]) -> Array:
  by_softmax = jax.nn.log_sigmoid(-copy_logits) - nats
  by_copy = jnp.where(same, jax.nn.log_sigmoid(copy_logits), -jnp.inf)
  # logaddexp has a gradient of NaN where both are -inf, which by_softmax never is.
  return -jnp.logaddexp(by_softmax, by_copy)


# ---- replacing ----------------------------------------------------------------------------------------------------


def draw(logits: Float32[Array, "B K V"], temperature: float, noise: Noise) -> Int[Array, "B K"]:
  """A token for each prediction, drawn by the Gumbel maximum."""
  place = outside_layers(noise, 0, OutsideLayers.REPLACEMENTS)
  assert place is not None
  # 24 bits, as many as a float32 holds; never 0 and never 1.
  uniform = ((random_bits(place, logits.shape) >> 8).astype(jnp.float32) + 0.5) * np.float32(2.0**-24)
  return jax.lax.stop_gradient(jnp.argmax(logits / temperature - jnp.log(-jnp.log(uniform)), axis=-1))


def _places(batch: Mapping[str, Array]) -> tuple[Array, Array]:
  """Rows and columns of the predictions; the column of an unused slot lies beyond the row, and is to be dropped."""
  positions = batch["mlm_positions"]
  rows = jnp.arange(positions.shape[0])[:, None]
  return rows, jnp.where(batch["mlm_weights"] > 0, positions, batch["token_ids"].shape[1])


def replace(batch: Mapping[str, Array], drawn: Int[Array, "B K"]) -> tuple[Int[Array, "B T"], Bool[Array, "B T"]]:
  """The text with drawn tokens at the masked places, and where they are other than the text's.

  Unmasked, for what the discriminator sees is a whole text: the other tokens are all original.
  """
  rows, places = _places(batch)
  shown = batch["token_ids"].at[rows, places].set(drawn.astype(batch["token_ids"].dtype), mode="drop")
  differs = drawn != batch["mlm_labels"]
  return shown, jnp.zeros(shown.shape, bool).at[rows, places].set(differs, mode="drop")


def original(batch: Mapping[str, Array]) -> Int[Array, "B T"]:
  """The text before masking."""
  rows, places = _places(batch)
  return batch["token_ids"].at[rows, places].set(batch["mlm_labels"], mode="drop")
