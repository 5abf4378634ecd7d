"""BERT's encoder (Devlin et al. 2018; google-research/bert, modeling.py), and parts that the family shares.

B batch, T tokens, D hidden size, H heads, C = D / H, F inner size, L layers, K predictions, V vocabulary,
E embedding size.

RoBERTa's encoder is this one with other settings: no pooler, one segment, positions from row 2. So is DistilBERT's,
without segments.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from bert_jax.config import ModelConfig
from bert_jax.models.attention import attention
from bert_jax.models.dropout import DropoutKey, dropout
from bert_jax.models.module import Encoded, EncoderModule
from bert_jax.models.vocabulary import VocabularyScores


class Embeddings(EncoderModule):
  """Words + segments + positions, then LayerNorm and dropout.

  Attributes:
    size: E, width of the tables; None for the hidden size.
  """

  size: int | None = None

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, key: DropoutKey | None
  ) -> tuple[jax.Array, jax.Array]:
    """token_ids, segment_ids: int [B, T] → float32 [B, T, E] and the word table [V, E]."""
    c: ModelConfig = self.config
    assert c.vocab_size is not None, "model.vocab_size is resolved before a model is built"
    size = self.size or c.hidden_size
    init = self.kernel_init()
    words = self.param("words", init, (c.vocab_size, size))
    positions = self.param("positions", init, (c.max_positions + c.position_offset, size))
    length = token_ids.shape[1]
    if length > c.max_positions:
      raise ValueError(f"a sequence of {length} tokens is longer than model.max_positions={c.max_positions}")
    x = words[token_ids] + positions[None, c.position_offset : c.position_offset + length]
    if c.type_vocab_size:
      segments = self.param("segments", init, (c.type_vocab_size, size))
      # A product with one-hot vectors: a lookup in so small a table would have a slow scatter for its gradient.
      x += jax.nn.one_hot(segment_ids, c.type_vocab_size) @ segments
    return dropout(self.layer_norm()(x), c.hidden_dropout, key), words


class Block(EncoderModule):
  """Self-attention and feed-forward, each followed by dropout, the residual and LayerNorm (post-LN)."""

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, key: DropoutKey | None, layer: jax.Array) -> tuple[jax.Array, Any]:
    """x: float32 [B, T, D]; mask: bool [B, 1, 1, T]; layer: int [], the layer's number."""
    c: ModelConfig = self.config
    keys = self.keys(key, layer)
    query, key_, value = (self.split_heads(self.dense(c.hidden_size, name)(x)) for name in ("query", "key", "value"))
    mixed, probabilities = attention(
      query,
      key_,
      value,
      mask,
      dropout_rate=c.attention_dropout,
      dropout_key=keys[0],
      implementation="explicit" if self.record else self.attention_implementation,
    )
    x = self.finish(x, mixed, keys)
    return x, self.recorded(x, probabilities)

  def keys(self, key: DropoutKey | None, layer: jax.Array) -> list[Any]:
    """Of the block's three places with dropout: the probabilities, and the outputs of both sub-layers."""
    return [None] * 3 if key is None else [key.fold_in(layer).fold_in(place) for place in range(3)]

  def finish(self, x: jax.Array, mixed: jax.Array, keys: list[Any]) -> jax.Array:
    """From the heads' mixed values [B, T, H, C] to the block's output; x is what the residual adds."""
    c: ModelConfig = self.config
    attended = self.dense(c.hidden_size, "attention_output")(mixed.reshape(x.shape))
    x = self.layer_norm("attention_norm")(x + dropout(attended, c.hidden_dropout, keys[1]))
    inner = self.activation(self.dense(c.intermediate_size, "intermediate")(x))
    output = self.dense(c.hidden_size, "output")(inner)
    return self.layer_norm("output_norm")(x + dropout(output, c.hidden_dropout, keys[2]))


class BertEncoder(EncoderModule):
  """Embeddings and L blocks, whose parameters are stacked along a first axis of length L."""

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    key: DropoutKey | None = None,
  ) -> Encoded:
    """Encodes a batch.

    Args:
      token_ids, segment_ids: int [B, T].
      attention_mask: bool [B, T], False on padding.
      key: of the dropout; None for none.
    """
    c: ModelConfig = self.config
    embeddings = Embeddings(**self.settings(), name="embeddings")
    embedded, words = embeddings(token_ids, segment_ids, key and key.fold_in(c.num_layers))
    x, record = self.stack(Block, c.num_layers, embedded, attention_mask[:, None, None, :], key)
    return self.encoded(x, words, embedded, [record])


# ---- heads ------------------------------------------------------------------------------------------------------


class Pooler(EncoderModule):
  """tanh layer over the first token: float32 [B, T, D] → [B, D]."""

  @nn.compact
  def __call__(self, hidden: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None) -> jax.Array:
    del attention_mask, key
    return jnp.tanh(self.dense(self.config.hidden_size, "dense")(hidden[:, 0]).astype(jnp.float32))


class RobertaPooler(Pooler):
  """BERT's, which fine-tuning adds, with dropout before it (fairseq, roberta/model.py, classification head)."""

  @nn.compact
  def __call__(self, hidden: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None) -> jax.Array:
    first = dropout(hidden[:, 0], self.head_rate(), key)
    return jnp.tanh(self.dense(self.config.hidden_size, "dense")(first).astype(jnp.float32))


class DistilBertPooler(EncoderModule):
  """ReLU layer over the first token, which fine-tuning adds (Hugging Face's pre_classifier)."""

  @nn.compact
  def __call__(self, hidden: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None) -> jax.Array:
    del attention_mask, key
    return jax.nn.relu(self.dense(self.config.hidden_size, "dense")(hidden[:, 0]).astype(jnp.float32))


class MlmHead(EncoderModule):
  """Hidden states to scores of the vocabulary, through the shared word table.

  Attributes:
    use_bias: of the dense layer and the LayerNorm; the vocabulary has one always.
  """

  use_bias: bool = True

  @nn.compact
  def __call__(self, hidden: jax.Array, words: jax.Array) -> VocabularyScores:
    """hidden: float32 [B, K, D]; words: [V, E] → scores of [B, K, V]."""
    vocab_size, size = words.shape
    bias = self.param("bias", nn.initializers.zeros, (vocab_size,))
    x = self.head_activation(self.dense(size, "dense", self.use_bias)(hidden))
    x = self.layer_norm(use_bias=self.use_bias)(x)
    return VocabularyScores(x.astype(self.dtype), words, bias)
