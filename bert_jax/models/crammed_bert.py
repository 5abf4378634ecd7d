"""The crammed BERT, for a day on one GPU (Geiping and Goldstein 2023; JonasGeiping/cramming, crammed_bert.py).

B batch, T tokens, D hidden size, H heads, F inner size, L layers, K predictions, V vocabulary, E embedding size, here
D, W width of the pooler.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, UInt32

from bert_jax.architectures import CrammedBertConfig
from bert_jax.models.arrays import Array
from bert_jax.models.attention import Visible, attention
from bert_jax.models.bert import Embeddings
from bert_jax.models.dropout import InLayer, Noise, OutsideLayers, dropout, in_layer, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores


class SinusoidEmbeddings(Embeddings):
  """BERT's, with sinusoids times a learned number in the place of a table of positions (Hua et al. 2022)."""

  def of_positions(self, inputs: Inputs, size: int) -> Float[Array, "#B T E"]:
    scale = self.param("position_scale", nn.initializers.constant(size**-0.5), ())
    position_ids = inputs.position_ids
    if position_ids is None:
      position_ids = jnp.arange(inputs.token_ids.shape[1])[None]
    return scale * sinusoids(position_ids.astype(jnp.float32), size)


def sinusoids(positions: Float[Array, "#B T"], size: int) -> Float[Array, "#B T E"]:
  """sin(p · f) in even columns and cos(p · f) in odd ones, f from 1 to 1 / 10,000 (Vaswani et al. 2017, 3.5)."""
  column = jnp.arange(size)
  frequencies = 10_000.0 ** (-(column // 2 * 2) / size)
  angles = positions[..., None] * frequencies[None, None]
  return jnp.where(column[None, None] % 2 == 0, jnp.sin(angles), jnp.cos(angles))


class CrammedBertBlock(EncoderModule):
  """Attention and gated feed-forward, each on normed inputs and added to them; no dense layer has biases.

  Of the F outputs of the feed-forward part's first layer, the activation of the last F / 2 gates the first F / 2.
  """

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T D"], visible: Visible, noise: Noise | None, layer: UInt32[Array, ""]
  ) -> tuple[Float[Array, "B T D"], Any]:
    """visible: where a token may look; layer: the layer's number."""
    c: CrammedBertConfig = self.config
    normed = self.layer_norm("attention_norm")(x)
    query, key, value = (
      self.split_heads(self.dense(c.hidden_size, name, use_bias=False)(normed)) for name in ("query", "key", "value")
    )
    mixed, probabilities = attention(
      query,
      key,
      value,
      visible,
      dropout_rate=c.attention_dropout,
      noise=in_layer(noise, layer, InLayer.ATTENTION),
      implementation="explicit" if self.record else self.attention_implementation,
    )
    attended = self.dense(c.hidden_size, "attention_output", use_bias=False)(mixed.reshape(x.shape))
    place = in_layer(noise, layer, InLayer.ATTENTION_OUTPUT)
    x += dropout(attended.astype(jnp.float32), c.hidden_dropout, place)
    normed = self.layer_norm("output_norm")(x)
    inner, gate = jnp.split(self.dense(c.intermediate_size, "intermediate", use_bias=False)(normed), 2, axis=-1)
    output = self.dense(c.hidden_size, "output", use_bias=False)(inner * self.activation(gate))
    x += dropout(output.astype(jnp.float32), c.hidden_dropout, in_layer(noise, layer, InLayer.OUTPUT))
    return x, self.recorded(x, probabilities)


class CrammedBertEncoder(EncoderModule):
  """Embeddings, L blocks and a last LayerNorm."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    c: CrammedBertConfig = self.config
    embeddings = SinusoidEmbeddings(**self.settings(), name="embeddings")
    embedded, words = embeddings(inputs, outside_layers(noise, c.num_layers, OutsideLayers.EMBEDDINGS))
    x, record = self.stack(CrammedBertBlock, c.num_layers, embedded, inputs.visible(), noise)
    return self.encoded(self.layer_norm("final_norm")(x), words, embedded, [record])


class CrammedBertMlmHead(EncoderModule):
  """Scores of the vocabulary: hidden states times the word table, without a layer or a bias. It has no parameters."""

  @nn.compact
  def __call__(self, hidden: Float[Array, "B K D"], words: Float[Array, "V D"]) -> VocabularyScores:
    """→ scores of [B, K, V]."""
    return VocabularyScores(hidden.astype(self.dtype), words, jnp.zeros(words.shape[0]))


class CrammedBertPooler(EncoderModule):
  """tanh layer of a width of its own over the first token, which fine-tuning adds (cramming, GLUE_sane.yaml)."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B W"]:
    del attention_mask, noise
    return jnp.tanh(self.dense(self.config.pooler_size, "dense")(hidden[:, 0]).astype(jnp.float32))
