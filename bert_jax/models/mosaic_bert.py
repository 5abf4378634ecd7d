"""MosaicBERT's encoder: BERT's with ALiBi and gates (Portes et al. 2023; mosaicml/examples, bert_layers.py).

B batch, T tokens, D hidden size, H heads, F inner size, L layers, E embedding size.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from bert_jax.architectures import MosaicBertConfig
from bert_jax.models.arrays import Array
from bert_jax.models.bert import Block, Embeddings
from bert_jax.models.dropout import Noise, OutsideLayers, dropout, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule
from bert_jax.models.inputs import Inputs


class UnplacedEmbeddings(Embeddings):
  """BERT's without positions."""

  def of_positions(self, inputs: Inputs, size: int) -> float:
    del inputs, size
    return 0.0


def alibi_slopes(heads: int) -> np.ndarray:
  """What a step of distance costs each head, float64 [H] (Press et al. 2022, section 3, and their code).

  For a power of two, the geometric sequence from 2^(-8 / H) to 2^-8. For another number, those of the next lower power
  of two, and then every second one of twice that power.
  """

  def of_power(count: int) -> np.ndarray:
    return 2.0 ** (-8 * np.arange(1, count + 1) / count)

  power = 1 << (heads.bit_length() - 1)
  return np.concatenate([of_power(power), of_power(2 * power)[::2][: heads - power]])


class MosaicBertBlock(Block):
  """BERT's, where a head's products fall with the distance, to either side, and the feed-forward part is gated.

  Of the 2 F outputs of that part's first layer, which has no bias, the activation of the first F gates the last F.
  """

  def attention_bias(self, length: int) -> Float[Array, "1 H T T"]:
    places = jnp.arange(length, dtype=jnp.float32)
    distances = jnp.abs(places[:, None] - places[None])
    # Sequences that are packed into a row see their own tokens only, at distances that are those of the row.
    return -jnp.asarray(alibi_slopes(self.config.num_heads), jnp.float32)[None, :, None, None] * distances[None, None]

  def feed_forward(self, x: Float[Array, "B T D"], noise: Noise | None) -> Float[Array, "B T D"]:
    """The dropout is before the second layer, where BERT's is behind it."""
    c: MosaicBertConfig = self.config
    gate, inner = jnp.split(self.dense(2 * c.intermediate_size, "intermediate", use_bias=False)(x), 2, axis=-1)
    return self.dense(c.hidden_size, "output")(dropout(self.activation(gate) * inner, c.hidden_dropout, noise))


class MosaicBertEncoder(EncoderModule):
  """Words and segments, and L blocks."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    c: MosaicBertConfig = self.config
    embeddings = UnplacedEmbeddings(**self.settings(), name="embeddings")
    embedded, words = embeddings(inputs, outside_layers(noise, c.num_layers, OutsideLayers.EMBEDDINGS))
    x, record = self.stack(MosaicBertBlock, c.num_layers, embedded, inputs.visible(), noise)
    return self.encoded(x, words, embedded, [record])
