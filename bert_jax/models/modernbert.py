"""ModernBERT's encoder: rotary positions, local and global layers, gated feed-forward (Warner et al. 2024).

B batch, T tokens, D hidden size, H heads, C = D / H, F inner size, L layers.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, UInt32

from bert_jax.architectures import ModernBertConfig
from bert_jax.models.arrays import Array
from bert_jax.models.attention import Visible, attention
from bert_jax.models.dropout import InLayer, Noise, OutsideLayers, dropout, in_layer, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule, text_mean
from bert_jax.models.inputs import Inputs


class ModernBertBlock(EncoderModule):
  """Attention and gated feed-forward, each on normed inputs and added to them; there are no biases.

  Attributes:
    norm_first: false in layer 0, whose input the embeddings have normed.
  """

  norm_first: bool = True

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T D"], visible: Visible, noise: Noise | None, layer: UInt32[Array, ""]
  ) -> tuple[Float[Array, "B T D"], Any]:
    """visible: where a token may look; layer: the layer's number."""
    c: ModernBertConfig = self.config
    is_global = layer % c.global_every == 0
    normed = self.layer_norm("attention_norm", use_bias=False)(x) if self.norm_first else x
    parts = jnp.split(self.dense(3 * c.hidden_size, "query_key_value", use_bias=False)(normed), 3, axis=-1)
    query, key, value = (self.split_heads(part) for part in parts)
    theta = jnp.where(is_global, c.global_theta, c.local_theta)
    mixed, probabilities = attention(
      rotate(query, theta),
      rotate(key, theta),
      value,
      visible.near(c.local_window // 2, unless=is_global),
      dropout_rate=c.attention_dropout,
      noise=in_layer(noise, layer, InLayer.ATTENTION),
      implementation="explicit" if self.record else self.attention_implementation,
    )
    attended = self.dense(c.hidden_size, "attention_output", use_bias=False)(mixed.reshape(x.shape))
    place = in_layer(noise, layer, InLayer.ATTENTION_OUTPUT)
    x += dropout(attended.astype(jnp.float32), c.attention_dropout, place)
    normed = self.layer_norm("output_norm", use_bias=False)(x)
    inner, gate = jnp.split(self.dense(2 * c.intermediate_size, "intermediate", use_bias=False)(normed), 2, axis=-1)
    gated = dropout(self.activation(inner) * gate, c.hidden_dropout, in_layer(noise, layer, InLayer.OUTPUT))
    x += self.dense(c.hidden_size, "output", use_bias=False)(gated).astype(jnp.float32)
    return x, self.recorded(x, probabilities)


def rotate(x: Float[Array, "B T H C"], theta: Array | float) -> Float[Array, "B T H C"]:
  """Rotary positions: turned by position × theta^(-2i / C) (Su et al. 2021, halves as pairs)."""
  size = x.shape[-1]
  frequencies = 1.0 / theta ** (jnp.arange(0, size, 2, dtype=jnp.float32) / size)
  angles = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequencies[None]
  cos, sin = (jnp.concatenate([part, part], axis=-1)[None, :, None] for part in (jnp.cos(angles), jnp.sin(angles)))
  exact = x.astype(jnp.float32)
  left, right = jnp.split(exact, 2, axis=-1)
  return (exact * cos + jnp.concatenate([-right, left], axis=-1) * sin).astype(x.dtype)


class ModernBertEncoder(EncoderModule):
  """Normed word embeddings, L blocks and a last LayerNorm."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    c: ModernBertConfig = self.config
    assert c.vocab_size is not None
    words = self.param("words", self.kernel_init(), (c.vocab_size, c.hidden_size))
    embedded = self.layer_norm("embedding_norm", use_bias=False)(words[inputs.token_ids])
    place = outside_layers(noise, c.num_layers, OutsideLayers.EMBEDDINGS)
    embedded, visible = dropout(embedded, c.embedding_dropout, place), inputs.visible()
    first = ModernBertBlock(**self.settings(), norm_first=False, name="first")
    x, records = first(embedded, visible, noise, jnp.uint32(0))
    records = [records]
    if c.num_layers > 1:
      x, record = self.stack(ModernBertBlock, c.num_layers - 1, x, visible, noise, first=1)
      records.append(record)
    return self.encoded(self.layer_norm("final_norm", use_bias=False)(x), words, embedded, records)


class PredictionLayer(EncoderModule):
  """Dense, activation, LayerNorm: what every head of a task begins with."""

  @nn.compact
  def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    x = self.head_activation(self.dense(self.config.hidden_size, "dense", use_bias=False)(x))
    return self.layer_norm(use_bias=False)(x)


class ModernBertPooler(EncoderModule):
  """The first token or the mean over the text, then the prediction layer."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B D"]:
    del noise
    pooled = hidden[:, 0]
    if self.config.pooling == "mean":
      pooled = text_mean(hidden, attention_mask)
    return PredictionLayer(**self.settings(), name="layer")(pooled)
