"""Replaced-token detection (Clark et al. 2020, section 2; google-research/electra, run_pretraining.py).

B batch, T tokens, K predictions, V vocabulary.

A generator learns to fill masks, and tokens drawn from it replace the masked ones; the discriminator tells for each
token whether it was replaced. Both share the embeddings. No gradient goes through the draws.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float32, Int

from bert_jax.architectures import EncoderConfig
from bert_jax.config import DataConfig, ReplacedTokensConfig
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise, OutsideLayers, outside_layers, random_bits
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores
from bert_jax.objectives.base import Means, Objective, Params, Sums, masked_sum, row_sums
from bert_jax.objectives.masked_tokens import masked_lm, masked_lm_measure, masked_lm_measures, masked_lm_rows
from bert_jax.results import Answer

_GENERATOR, _DISCRIMINATOR = 0, 1  # noise of their own


def generator_model(model: EncoderConfig, settings: ReplacedTokensConfig) -> EncoderConfig:
  """The generator's settings: the model's, narrower, behind embeddings of the same width (configure_pretraining.py)."""
  hidden = max(1, round(model.hidden_size * settings.generator_size))
  wanted = max(1, round(hidden * model.num_heads / model.hidden_size))  # heads of about the model's width
  return dataclasses.replace(
    model,
    hidden_size=hidden,
    num_layers=max(1, round(model.num_layers * settings.generator_layers)),
    num_heads=next(heads for heads in range(wanted, 0, -1) if hidden % heads == 0),
    intermediate_size=max(1, round(model.intermediate_size * hidden / model.hidden_size)),
  )


@dataclasses.dataclass(frozen=True)
class ReplacedTokens(Objective):
  """ELECTRA: `params` are `generator` and `discriminator`; the generator's embeddings are the discriminator's."""

  settings: ReplacedTokensConfig

  @property
  def generator(self) -> EncoderConfig:
    return generator_model(self.model, self.settings)

  @property
  def loss_weights(self) -> dict[str, float]:
    return {"mlm_loss": 1.0, "replaced_loss": self.settings.weight}

  @property
  def answers(self) -> tuple[Answer, ...]:
    return (Answer("replaced", "replaced tokens", "Replaced tokens, on held-out text: is the token the text's own?"),)

  def init(self, key: Array) -> Params:
    one, other = jax.random.split(key)
    generator = networks.init(self.network("masked_lm", self.generator), "masked_lm", one)
    del generator["encoder"]["embeddings"]
    return {
      "generator": generator,
      "discriminator": networks.init(self.network("replaced_tokens"), "replaced_tokens", other),
    }

  def _generator(self, params: Params) -> Params:
    """Its parameters with the embeddings that it shares."""
    generator = params["generator"]
    embeddings = params["discriminator"]["encoder"]["embeddings"]
    return {**generator, "encoder": {**generator["encoder"], "embeddings": embeddings}}

  def given(self, start: Mapping[str, Any]) -> Params:
    return {"discriminator": {name: part for name, part in start.items() if name in ("encoder", "discriminator_head")}}

  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    return {"mlm_loss": jnp.sum(batch["mlm_weights"]), "replaced_loss": jnp.sum(batch["attention_mask"])}

  def sums(self, params: Params, frozen: Params, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    scores, logits, replaced = self._forward(params, batch, noise, with_dropout=True)
    sums = masked_lm(scores, batch["mlm_labels"], batch["mlm_weights"], shards)
    nats, right, real = replaced_loss(logits, replaced), (logits > 0) == replaced, batch["attention_mask"]
    return sums | {
      "replaced_loss": masked_sum(nats, real),
      "replaced_accuracy": masked_sum(right, real),
      "replaced_share": masked_sum(replaced, real),
    }

  def _forward(
    self, params: Params, batch: Mapping[str, Array], noise: Noise, with_dropout: bool
  ) -> tuple[VocabularyScores, Float32[Array, "B T"], Bool[Array, "B T"]]:
    """The generator's scores of [B, K, V], the discriminator's logits, and which tokens were replaced."""
    inputs, positions = Inputs.of(batch), batch["mlm_positions"]
    places = [noise.fold_in(part) if with_dropout else None for part in (_GENERATOR, _DISCRIMINATOR)]
    generator, discriminator = self.network("masked_lm", self.generator), self.network("replaced_tokens")
    outputs: Any = generator.apply({"params": self._generator(params)}, inputs, places[0], mlm_positions=positions)
    scores = outputs["mlm_scores"]
    drawn = draw(scores.logits(), self.settings.temperature, noise)
    shown, replaced = replace(batch, drawn)
    found: Any = discriminator.apply(
      {"params": params["discriminator"]}, dataclasses.replace(inputs, token_ids=shown), places[1]
    )
    return scores, found["replaced_logits"], replaced

  def measure(self, data: DataConfig) -> str:
    # Of both losses it is the one that falls as training goes on: the discriminator's rises as the generator improves.
    return masked_lm_measure(data)

  def evaluate(self, params: Params, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    scores, logits, replaced = self._forward(params, batch, noise, with_dropout=False)
    real, right = batch["attention_mask"], (logits > 0) == replaced
    return masked_lm_rows(scores, batch, shards) | {
      "replaced_loss": row_sums(replaced_loss(logits, replaced), real),
      "replaced_accuracy": row_sums(right, real),
      "replaced_share": row_sums(replaced, real),
      "replaced_recall_0": row_sums(right, real & ~replaced),
      "replaced_recall_1": row_sums(right, real & replaced),
    }

  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    """The generator's, as `masked_lm_measures`, and the discriminator's on the own set.

    replaced_loss in nats a token; replaced_accuracy beside replaced_majority, which is reached by calling every token
    original; replaced_balanced_accuracy, the mean of its shares among original and among replaced tokens.
    """
    own = means["own"]
    return masked_lm_measures(means, data) | {
      "replaced_loss": own["replaced_loss"],
      "replaced_accuracy": own["replaced_accuracy"],
      "replaced_majority": max(own["replaced_share"], 1 - own["replaced_share"]),
      "replaced_balanced_accuracy": (own["replaced_recall_0"] + own["replaced_recall_1"]) / 2,
    }

  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    return {
      "replaced_tokens": (self.model, params["discriminator"]),
      "masked_lm": (self.generator, self._generator(params)),
    }


def replaced_loss(logits: Float32[Array, "B T"], replaced: Bool[Array, "B T"]) -> Float32[Array, "B T"]:
  """Binary cross-entropy of each token, in nats."""
  return optax.sigmoid_binary_cross_entropy(logits, replaced.astype(jnp.float32))


def draw(logits: Float32[Array, "B K V"], temperature: float, noise: Noise) -> Int[Array, "B K"]:
  """A token for each prediction, drawn by the Gumbel maximum."""
  place = outside_layers(noise, 0, OutsideLayers.REPLACEMENTS)
  assert place is not None
  # 24 bits, as many as a float32 holds; never 0 and never 1.
  uniform = ((random_bits(place, logits.shape) >> 8).astype(jnp.float32) + 0.5) * np.float32(2.0**-24)
  return jax.lax.stop_gradient(jnp.argmax(logits / temperature - jnp.log(-jnp.log(uniform)), axis=-1))


def replace(batch: Mapping[str, Array], drawn: Int[Array, "B K"]) -> tuple[Int[Array, "B T"], Bool[Array, "B T"]]:
  """The text with drawn tokens at the masked places, and where they are other than the text's.

  Unmasked, for what the discriminator sees is a whole text: the other tokens are all original.
  """
  rows = jnp.arange(drawn.shape[0])[:, None]
  length = batch["token_ids"].shape[1]
  # An unused slot writes nowhere.
  places = jnp.where(batch["mlm_weights"] > 0, batch["mlm_positions"], length)
  shown = batch["token_ids"].at[rows, places].set(drawn.astype(batch["token_ids"].dtype), mode="drop")
  differs = drawn != batch["mlm_labels"]
  return shown, jnp.zeros(shown.shape, bool).at[rows, places].set(differs, mode="drop")
