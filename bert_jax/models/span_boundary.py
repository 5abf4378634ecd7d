"""SpanBERT's second head: a token of a span, from what stands at either side of the span (Joshi et al. 2019, 3.2).

B batch, T tokens, K predictions, D hidden size, E embedding size, V vocabulary.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float, Float32, Int

from bert_jax.models.arrays import Array
from bert_jax.models.encoder import EncoderModule
from bert_jax.models.vocabulary import VocabularyScores

# SpanBERT's pretraining command: max-pair-targets, and the width of their embeddings.
MOST_TARGETS, POSITION_SIZE = 15, 200


def boundaries(
  positions: Int[Array, "B K"], weights: Float32[Array, "B K"], num_tokens: int
) -> tuple[Int[Array, "B K"], Int[Array, "B K"]]:
  """Of each predicted token, the places before and after the run of predicted tokens that it stands in."""
  rows, places = jnp.arange(positions.shape[0])[:, None], jnp.arange(num_tokens)[None]
  written = jnp.where(weights > 0, positions, num_tokens)  # an unused slot writes nowhere
  predicted = jnp.zeros((positions.shape[0], num_tokens), bool).at[rows, written].set(True, mode="drop")
  before = jax.lax.cummax(jnp.where(predicted, 0, places), axis=1)
  after = jax.lax.cummin(jnp.where(predicted, num_tokens - 1, places), axis=1, reverse=True)
  return jnp.take_along_axis(before, positions, axis=1), jnp.take_along_axis(after, positions, axis=1)


class SpanBoundaryHead(EncoderModule):
  """Two layers, each with activation and LayerNorm, over both boundaries and the token's place in the span."""

  @nn.compact
  def __call__(
    self,
    hidden: Float[Array, "B T D"],
    words: Float[Array, "V E"],
    positions: Int[Array, "B K"],
    before: Int[Array, "B K"],
    after: Int[Array, "B K"],
  ) -> VocabularyScores:
    """→ scores of [B, K, V]; places beyond the first MOST_TARGETS of a span share the last one's embedding."""
    vocab_size, size = words.shape
    table = self.param("positions", self.kernel_init(), (MOST_TARGETS, POSITION_SIZE))
    place = table[jnp.clip(positions - before - 1, 0, MOST_TARGETS - 1)]
    sides = [jnp.take_along_axis(hidden, side[..., None], axis=1) for side in (before, after)]
    x = jnp.concatenate([*sides, place], axis=-1)
    for name, width in (("inner", self.config.hidden_size), ("outer", size)):
      x = self.layer_norm(f"{name}_norm")(self.head_activation(self.dense(width, name)(x)))
    bias = self.param("bias", nn.initializers.zeros, (vocab_size,))
    return VocabularyScores(x.astype(self.dtype), words, bias)
