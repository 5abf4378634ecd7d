"""BERT's encoder (Devlin et al. 2018; google-research/bert, modeling.py), and parts that the family shares.

B batch, T tokens, D hidden size, H heads, C = D / H, F inner size, L layers, K predictions, V vocabulary,
E embedding size.

RoBERTa's encoder is this one with one segment and positions from row 2; DistilBERT's, without segments.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, UInt32

from bert_jax.architectures import BertConfig
from bert_jax.models.arrays import Array
from bert_jax.models.attention import Visible, attention
from bert_jax.models.dropout import InLayer, Noise, OutsideLayers, dropout, in_layer, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores


class Embeddings(EncoderModule):
  """Words + segments + positions, then LayerNorm and dropout.

  Attributes:
    size: E, width of the tables; None for the hidden size.
  """

  size: int | None = None

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None) -> tuple[Float[Array, "B T E"], Float[Array, "V E"]]:
    """→ the embedded tokens and the word table."""
    c: BertConfig = self.config
    assert c.vocab_size is not None, "model.vocab_size is resolved before a model is built"
    size = self.size or c.hidden_size
    length, most = inputs.token_ids.shape[1], c.longest_input
    if most is not None and length > most:
      raise ValueError(f"a sequence of {length} tokens is longer than model.max_positions={most}")
    words = self.param("words", self.kernel_init(), (c.vocab_size, size))
    x = words[inputs.token_ids] + self.of_positions(inputs, size)
    if c.num_segments:
      segments = self.param("segments", self.kernel_init(), (c.num_segments, size))
      # A product with one-hot vectors: a lookup in so small a table would have a slow scatter for its gradient.
      x += jax.nn.one_hot(inputs.segment_ids, c.num_segments) @ segments
    return dropout(self.layer_norm()(x), c.hidden_dropout, noise), words

  def of_positions(self, inputs: Inputs, size: int) -> Float[Array, "#B T E"] | float:
    """What positions add to the words: rows of a learned table."""
    c: BertConfig = self.config
    offset, length = c.position_offset, inputs.token_ids.shape[1]
    positions = self.param("positions", self.kernel_init(), (c.max_positions + offset, size))
    if inputs.position_ids is None:
      return positions[None, offset : offset + length]
    return positions[inputs.position_ids + offset]


class Block(EncoderModule):
  """Self-attention and feed-forward, each followed by dropout, the residual and LayerNorm (post-LN)."""

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T D"], visible: Visible, noise: Noise | None, layer: UInt32[Array, ""]
  ) -> tuple[Float[Array, "B T D"], Any]:
    """visible: where a token may look; layer: the layer's number."""
    c: BertConfig = self.config
    query, key, value = (self.split_heads(self.dense(c.hidden_size, name)(x)) for name in ("query", "key", "value"))
    mixed, probabilities = attention(
      query,
      key,
      value,
      visible,
      bias=self.attention_bias(x.shape[1]),
      dropout_rate=c.attention_dropout,
      noise=in_layer(noise, layer, InLayer.ATTENTION),
      implementation="explicit" if self.record else self.attention_implementation,
    )
    x = self.finish(x, mixed, noise, layer)
    return x, self.recorded(x, probabilities)

  def attention_bias(self, length: int) -> Float[Array, "1 H T T"] | None:
    """What is added to the scaled products of queries and keys; None: nothing."""
    del length
    return None

  def finish(
    self, x: Float[Array, "B T D"], mixed: Float[Array, "B T H C"], noise: Noise | None, layer: UInt32[Array, ""]
  ) -> Float[Array, "B T D"]:
    """From the heads' mixed values to the block's output; x is what the residual adds."""
    c: BertConfig = self.config
    attended = self.dense(c.hidden_size, "attention_output")(mixed.reshape(x.shape))
    attended = dropout(attended, c.hidden_dropout, in_layer(noise, layer, InLayer.ATTENTION_OUTPUT))
    x = self.layer_norm("attention_norm")(x + attended)
    return self.layer_norm("output_norm")(x + self.feed_forward(x, in_layer(noise, layer, InLayer.OUTPUT)))

  def feed_forward(self, x: Float[Array, "B T D"], noise: Noise | None) -> Float[Array, "B T D"]:
    """What the second sub-layer adds to x, with its dropout."""
    c: BertConfig = self.config
    inner = self.activation(self.dense(c.intermediate_size, "intermediate")(x))
    return dropout(self.dense(c.hidden_size, "output")(inner), c.hidden_dropout, noise)


class BertEncoder(EncoderModule):
  """Embeddings and L blocks, whose parameters are stacked along a first axis of length L."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    c: BertConfig = self.config
    embeddings = Embeddings(**self.settings(), name="embeddings")
    embedded, words = embeddings(inputs, outside_layers(noise, c.num_layers, OutsideLayers.EMBEDDINGS))
    x, record = self.stack(Block, c.num_layers, embedded, inputs.visible(), noise)
    return self.encoded(x, words, embedded, [record])


# ---- heads ------------------------------------------------------------------------------------------------------


class Pooler(EncoderModule):
  """tanh layer over the first token."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B D"]:
    del attention_mask, noise
    return jnp.tanh(self.dense(self.config.hidden_size, "dense")(hidden[:, 0]).astype(jnp.float32))


class RobertaPooler(Pooler):
  """BERT's, which fine-tuning adds, with dropout before it (fairseq, roberta/model.py, classification head)."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B D"]:
    first = dropout(hidden[:, 0], self.head_rate(), noise)
    return jnp.tanh(self.dense(self.config.hidden_size, "dense")(first).astype(jnp.float32))


class DistilBertPooler(EncoderModule):
  """ReLU layer over the first token, which fine-tuning adds (Hugging Face's pre_classifier)."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B D"]:
    del attention_mask, noise
    return jax.nn.relu(self.dense(self.config.hidden_size, "dense")(hidden[:, 0]).astype(jnp.float32))


class MlmHead(EncoderModule):
  """Hidden states to scores of the vocabulary, through the shared word table.

  Attributes:
    use_bias: of the dense layer and the LayerNorm; the vocabulary has one always.
  """

  use_bias: bool = True

  @nn.compact
  def __call__(self, hidden: Float[Array, "B K D"], words: Float[Array, "V E"]) -> VocabularyScores:
    """→ scores of [B, K, V]."""
    vocab_size, size = words.shape
    bias = self.param("bias", nn.initializers.zeros, (vocab_size,))
    x = self.head_activation(self.dense(size, "dense", self.use_bias)(hidden))
    x = self.layer_norm(use_bias=self.use_bias)(x)
    return VocabularyScores(x.astype(self.dtype), words, bias)
