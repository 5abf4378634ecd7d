"""BERT: the encoder and its two pretraining heads (Devlin et al. 2018; google-research/bert, modeling.py).

B batch, T tokens, D hidden size, H heads, C = D / H, F inner size, L layers, K predictions, V vocabulary.

RoBERTa's encoder is this one with other settings: no pooler, one segment, positions from row 2.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from bert_jax.config import ModelConfig
from bert_jax.models.attention import attention
from bert_jax.models.dropout import DropoutKey, dropout
from bert_jax.models.products import dense_product
from bert_jax.models.vocabulary import VocabularyScores


class BertModule(nn.Module):
  """What every part knows: the model's settings and those of its computation.

  Attributes:
    config: sizes and rates.
    dtype: of matrix products; parameters, LayerNorm and softmax stay float32.
    attention_implementation: see `attention`.
    scan_layers: one compiled block in a loop, or L blocks in a row; the parameters are the same.
    remat: recompute each block's activations in the backward pass.
  """

  config: ModelConfig
  dtype: Any = jnp.float32
  attention_implementation: Literal["explicit", "fused"] = "explicit"
  scan_layers: bool = False
  remat: bool = False

  def settings(self) -> dict[str, Any]:
    """This module's attributes, for a part of it."""
    return {name: getattr(self, name) for name in BertModule.__dataclass_fields__ if name not in ("parent", "name")}

  def kernel_init(self) -> nn.initializers.Initializer:
    """Of kernels and embeddings. TF's truncation at two standard deviations does not rescale the variance."""
    deviation = self.config.initializer_range
    if self.config.initializer == "normal":
      return nn.initializers.normal(deviation)

    def truncated(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
      del out_sharding
      return deviation * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)

    return truncated

  def dense(self, features: int, name: str) -> nn.Dense:
    return nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init(), dot_general=dense_product, name=name)

  def layer_norm(self, name: str = "layer_norm") -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=self.config.layer_norm_eps, dtype=jnp.float32, use_fast_variance=False, name=name)

  def activation(self, x: jax.Array) -> jax.Array:
    if self.config.activation == "gelu_tanh":
      return jax.nn.gelu(x, approximate=True)
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))  # jax.nn.gelu goes through erfc, which is slower on CPU


class Embeddings(BertModule):
  """Words + segments + positions, then LayerNorm and dropout."""

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, key: DropoutKey | None
  ) -> tuple[jax.Array, jax.Array]:
    """token_ids, segment_ids: int [B, T] → hidden states float32 [B, T, D] and the word table [V, D]."""
    c = self.config
    assert c.vocab_size is not None, "model.vocab_size is resolved before a model is built"
    init = self.kernel_init()
    words = self.param("words", init, (c.vocab_size, c.hidden_size))
    positions = self.param("positions", init, (c.max_positions + c.position_offset, c.hidden_size))
    segments = self.param("segments", init, (c.type_vocab_size, c.hidden_size))
    length = token_ids.shape[1]
    if length > c.max_positions:
      raise ValueError(f"a sequence of {length} tokens is longer than model.max_positions={c.max_positions}")
    x = words[token_ids] + positions[None, c.position_offset : c.position_offset + length]
    # A product with one-hot vectors: a lookup in so small a table would have a slow scatter for its gradient.
    x += jax.nn.one_hot(segment_ids, c.type_vocab_size) @ segments
    return dropout(self.layer_norm()(x), c.hidden_dropout, key), words


class Block(BertModule):
  """Self-attention and feed-forward, each followed by dropout, the residual and LayerNorm (post-LN)."""

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, key: DropoutKey | None, layer: jax.Array) -> tuple[jax.Array, None]:
    """x: float32 [B, T, D]; mask: bool [B, 1, 1, T]; layer: int [], the layer's number."""
    c = self.config
    keys = [None] * 3 if key is None else [key.fold_in(layer).fold_in(place) for place in range(3)]
    heads = (*x.shape[:2], c.num_heads, c.hidden_size // c.num_heads)
    query, key_, value = (self.dense(c.hidden_size, name)(x).reshape(heads) for name in ("query", "key", "value"))
    mixed = attention(
      query,
      key_,
      value,
      mask,
      dropout_rate=c.attention_dropout,
      dropout_key=keys[0],
      implementation=self.attention_implementation,
    )
    attended = self.dense(c.hidden_size, "attention_output")(mixed.reshape(x.shape))
    x = self.layer_norm("attention_norm")(x + dropout(attended, c.hidden_dropout, keys[1]))
    inner = self.activation(self.dense(c.intermediate_size, "intermediate")(x))
    x = self.layer_norm("output_norm")(
      x + dropout(self.dense(c.hidden_size, "output")(inner), c.hidden_dropout, keys[2])
    )
    return x, None


class BertEncoder(BertModule):
  """Embeddings and L blocks, whose parameters are stacked along a first axis of length L."""

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    key: DropoutKey | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Encodes a batch.

    Args:
      token_ids, segment_ids: int [B, T].
      attention_mask: bool [B, T], False on padding.
      key: of the dropout; None for none.

    Returns:
      The last hidden states, float32 [B, T, D], and the word table [V, D] that the MLM head shares.
    """
    c = self.config
    x, words = Embeddings(**self.settings(), name="embeddings")(
      token_ids, segment_ids, key and key.fold_in(c.num_layers)
    )
    block = nn.remat(Block, prevent_cse=not self.scan_layers) if self.remat else Block
    stack = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(nn.broadcast, nn.broadcast, 0),  # pyright: ignore[reportArgumentType]
      length=c.num_layers,
      unroll=1 if self.scan_layers else c.num_layers,
    )
    layers = jnp.arange(c.num_layers, dtype=jnp.uint32)
    x, _ = stack(**self.settings(), name="layers")(x, attention_mask[:, None, None, :], key, layers)
    return x, words


class Pooler(BertModule):
  """tanh layer over the first token: float32 [B, T, D] → [B, D]."""

  @nn.compact
  def __call__(self, hidden: jax.Array) -> jax.Array:
    return jnp.tanh(self.dense(self.config.hidden_size, "dense")(hidden[:, 0]).astype(jnp.float32))


class MlmHead(BertModule):
  """Hidden states to scores of the vocabulary, through the shared word table."""

  @nn.compact
  def __call__(self, hidden: jax.Array, words: jax.Array) -> VocabularyScores:
    """hidden: float32 [B, K, D]; words: [V, D] → scores of [B, K, V]."""
    vocab_size, size = words.shape
    bias = self.param("bias", nn.initializers.zeros, (vocab_size,))
    x = self.layer_norm()(self.activation(self.dense(size, "dense")(hidden)))
    return VocabularyScores(x.astype(self.dtype), words, bias)


class BertForPretraining(BertModule):
  """The encoder with the heads of BERT's two objectives."""

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    mlm_positions: jax.Array | None = None,
    key: DropoutKey | None = None,
  ) -> dict[str, Any]:
    """Encodes a batch and scores it.

    Args:
      token_ids, segment_ids, attention_mask, key: see `BertEncoder`.
      mlm_positions: int [B, K], the positions to score; None for all T.

    Returns:
      `hidden` float32 [B, T, D]; `mlm_scores`, `VocabularyScores` of [B, K, V] (or [B, T, V]); with a pooler also
      `pooled` float32 [B, D] and `nsp_logits` float32 [B, 2], in which 0 is "next" and 1 "random".
    """
    hidden, words = BertEncoder(**self.settings(), name="encoder")(token_ids, segment_ids, attention_mask, key)
    scored = hidden if mlm_positions is None else jnp.take_along_axis(hidden, mlm_positions[..., None], axis=1)
    outputs: dict[str, Any] = {
      "hidden": hidden,
      "mlm_scores": MlmHead(**self.settings(), name="mlm_head")(scored, words),
    }
    if self.config.pooler:
      outputs["pooled"] = Pooler(**self.settings(), name="pooler")(hidden)
      outputs["nsp_logits"] = self.dense(2, "nsp_head")(outputs["pooled"]).astype(jnp.float32)
    return outputs
