"""DeBERTa's encoders: attention by content and relative position apart (He et al. 2020, 3.1; He et al. 2021).

B batch, T tokens, D hidden size, H heads, C = D / H, L layers, P rows of the relative table.

score[i, j] = (Qc_i · Kc_j + Qc_i · Kr_δ(i,j) + Kc_j · Qr_δ(i,j)) / √(C · terms), with δ(i, j) the table's row for the
distance i - j. Version 1 has projections of its own for positions, versions 2 and 3 those of the content.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Bool, Float, UInt32

from bert_jax.architectures import DebertaConfig, DebertaV2Config
from bert_jax.models.arrays import Array
from bert_jax.models.attention import Visible, attention
from bert_jax.models.bert import Block
from bert_jax.models.dropout import InLayer, Noise, OutsideLayers, dropout, in_layer, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule, activate, rematerialized
from bert_jax.models.inputs import Inputs

# ---- relative positions -----------------------------------------------------------------------------------------


def relative_rows(length: int, config: DebertaConfig) -> np.ndarray:
  """Row of the relative table for each pair of positions, int32 [T, T]: query - key, then bucketed, then cut."""
  distance = np.arange(length)[:, None] - np.arange(length)[None]
  span = config.max_distance
  if config.position_buckets:
    distance = log_buckets(distance, config.position_buckets, config.max_distance)
    span = config.position_buckets
  return np.clip(distance + span, 0, 2 * span - 1).astype(np.int32)


def log_buckets(distance: np.ndarray, buckets: int, most: int) -> np.ndarray:
  """Distances up to half of `buckets` as they are, and beyond in buckets of logarithmic width (He et al. 2021)."""
  middle = buckets // 2
  far = np.maximum(np.abs(distance), middle).astype(np.float64)  # a logarithm of 0 is never taken
  bucket = np.ceil(np.log(far / middle) / np.log((most - 1) / middle) * (middle - 1)) + middle
  return np.where(np.abs(distance) <= middle, distance, np.sign(distance) * bucket).astype(np.int64)


def table_rows(config: DebertaConfig) -> int:
  """P: twice the distances, or the buckets, to either side."""
  return 2 * (config.position_buckets or config.max_distance)


# ---- blocks -----------------------------------------------------------------------------------------------------


class DisentangledBlock(Block):
  """BERT's block with disentangled attention."""

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "B T D"],
    visible: Visible,
    table: Float[Array, "P D"],
    noise: Noise | None,
    layer: UInt32[Array, ""],
    query_states: Float[Array, "B T D"] | None = None,
  ) -> tuple[Float[Array, "B T D"], Any]:
    """Attends and feeds forward.

    Args:
      visible, noise, layer: see `Block`.
      table: of relative positions.
      query_states: what asks and what the residual adds, where it is not `x`.
    """
    c: DebertaConfig = self.config
    asking = x if query_states is None else query_states
    if (place := in_layer(noise, layer, InLayer.RELATIVE_TABLE)) is not None:  # its rows are no rows of the batch
      rows = jnp.arange(table.shape[0], dtype=jnp.uint32)
      table = dropout(table, c.hidden_dropout, Noise(place.seed, rows))
    (query, key, value), (table_query, table_key) = self.project(asking, x, table)
    scale = (query.shape[-1] * (1 + c.content_to_position + c.position_to_content)) ** -0.5
    rows = jnp.asarray(relative_rows(x.shape[1], c))[None, None]
    bias = jnp.zeros((1, 1, 1, 1), jnp.float32)
    if table_key is not None:
      by_row = jnp.einsum("bthc,phc->bhtp", query * scale, table_key, preferred_element_type=jnp.float32)
      bias += jnp.take_along_axis(by_row, rows, axis=3)
    if table_query is not None:
      by_row = jnp.einsum("bshc,phc->bhsp", key * scale, table_query, preferred_element_type=jnp.float32)
      bias += jnp.take_along_axis(by_row, jnp.swapaxes(rows, 2, 3), axis=3).swapaxes(2, 3)
    mixed, probabilities = attention(
      query,
      key,
      value,
      visible,
      scale=scale,
      bias=bias,
      dropout_rate=c.attention_dropout,
      noise=in_layer(noise, layer, InLayer.ATTENTION),
      implementation="explicit" if self.record else self.attention_implementation,
    )
    x = self.finish(asking, mixed, noise, layer)
    return x, self.recorded(x, probabilities)

  def project(self, asking: Float[Array, "B T D"], x: Float[Array, "B T D"], table: Float[Array, "P D"]) -> Any:
    """((query, key, value) [B, T, H, C], (query, key) of the table [P, H, C], or None where there is no such term)."""
    raise AssertionError("a version's own")


class DebertaBlock(DisentangledBlock):
  """Version 1: no bias on keys, and projections of the positions' own."""

  def project(self, asking: Array, x: Array, table: Array) -> Any:
    c: DebertaConfig = self.config
    kernel = self.param("query_key_value", self.kernel_init(), (c.hidden_size, 3 * c.hidden_size)).astype(self.dtype)
    biases = (self.param(name, nn.initializers.zeros, (c.hidden_size,)) for name in ("query_bias", "value_bias"))
    query_bias, value_bias = (bias.astype(self.dtype)[None, None] for bias in biases)
    of_query, of_key, of_value = jnp.split(kernel, 3, axis=1)
    asking, x, table = (array.astype(self.dtype) for array in (asking, x, table))
    query, key, value = asking @ of_query + query_bias, x @ of_key, x @ of_value + value_bias
    content = tuple(self.split_heads(part) for part in (query, key, value))
    table_key = self.dense(c.hidden_size, "position_key", use_bias=False) if c.content_to_position else None
    table_query = self.dense(c.hidden_size, "position_query") if c.position_to_content else None
    return content, tuple(dense and self.split_heads(dense(table)) for dense in (table_query, table_key))


class DebertaV2Block(DisentangledBlock):
  """Versions 2 and 3: biases everywhere, and positions through the content's projections."""

  def project(self, asking: Array, x: Array, table: Array) -> Any:
    c: DebertaV2Config = self.config
    query, key, value = (self.dense(c.hidden_size, name) for name in ("query", "key", "value"))
    content = tuple(self.split_heads(part) for part in (query(asking), key(x), value(x)))
    if c.shared_projections:
      table_query, table_key = query, key
    else:
      table_query = self.dense(c.hidden_size, "position_query") if c.position_to_content else None
      table_key = self.dense(c.hidden_size, "position_key") if c.content_to_position else None
    return content, (
      self.split_heads(table_query(table)) if c.position_to_content and table_query else None,
      self.split_heads(table_key(table)) if c.content_to_position and table_key else None,
    )


class Convolution(EncoderModule):
  """Beside layer 0 of XL and XXL: LayerNorm(layer's output + activation(convolution of the embeddings))."""

  @nn.compact
  def __call__(
    self,
    embedded: Float[Array, "B T D"],
    x: Float[Array, "B T D"],
    attention_mask: Bool[Array, "B T"],
    noise: Noise | None,
  ) -> Float[Array, "B T D"]:
    """→ 0 on padding."""
    c: DebertaV2Config = self.config
    size, groups = c.convolution_size, c.convolution_groups
    kernel = self.param("kernel", self.kernel_init(), (size, c.hidden_size // groups, c.hidden_size))
    bias = self.param("bias", nn.initializers.zeros, (c.hidden_size,))
    out = jax.lax.conv_general_dilated(
      embedded.astype(self.dtype),
      kernel.astype(self.dtype),
      window_strides=(1,),
      padding="SAME",
      dimension_numbers=("NWC", "WIO", "NWC"),
      feature_group_count=groups,
    )
    seen = attention_mask[..., None]
    out = jnp.where(seen, out.astype(jnp.float32) + bias[None, None], 0.0)
    out = activate(dropout(out, c.hidden_dropout, noise), c.convolution_activation)
    return self.layer_norm()(x + out) * seen


# ---- encoders ---------------------------------------------------------------------------------------------------


class DebertaEncoder(EncoderModule):
  """Embeddings, multiplied by the mask, and L blocks around one relative table.

  The last block's parameters stand apart from the others' stack, since the enhanced mask decoder runs it by itself.

  Attributes:
    enhanced: end in the enhanced mask decoder (He et al. 2020, 3.2; DeBERTa, apps/models/masked_language_model.py): the
      last block runs twice on the states before it, first asked by these states plus absolute positions, then by what
      came of that.
  """

  enhanced: bool = False

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    c: DebertaConfig = self.config
    embedded, words, positions = self._embed(inputs, noise)
    table, visible = self._table(), inputs.visible()
    x, records = embedded, []
    if self._convolves() and c.num_layers > 1:
      x, record = self._block("first")(x, visible, table, noise, jnp.uint32(0))
      x, record = self._convolve(embedded, x, inputs.attention_mask, noise, record)
      records.append(record)
    done = len(records)
    if c.num_layers - 1 > done:
      x, record = self.stack(self._block_class(), c.num_layers - 1 - done, x, visible, table, noise, first=done)
      records.append(record)
    last, number = self._block("last"), jnp.uint32(c.num_layers - 1)
    if self.enhanced:
      assert positions is not None
      state = x + positions
      for _ in range(2):
        state, record = last(x, visible, table, noise, number, state)
    else:
      state, record = last(x, visible, table, noise, number)
    if self._convolves() and c.num_layers == 1:
      state, record = self._convolve(embedded, state, inputs.attention_mask, noise, record)
    records.append(record)
    return self.encoded(state, words, embedded, records)

  def _embed(
    self, inputs: Inputs, noise: Noise | None
  ) -> tuple[Float[Array, "B T D"], Float[Array, "V D"], Float[Array, "#B T D"] | None]:
    """Embeddings, the word table, and the absolute positions where anything reads them."""
    c: DebertaConfig = self.config
    assert c.vocab_size is not None
    init, length = self.kernel_init(), inputs.token_ids.shape[1]
    words = self.param("words", init, (c.vocab_size, c.hidden_size))
    x, positions = words[inputs.token_ids], None
    if c.input_positions or self.enhanced:
      table = self.param("positions", init, (c.max_positions, c.hidden_size))
      if length > c.max_positions:
        raise ValueError(f"a sequence of {length} tokens is longer than max_positions={c.max_positions}")
      positions = table[None, :length] if inputs.position_ids is None else table[inputs.position_ids]
      x = x + positions if c.input_positions else x
    if c.type_vocab_size:
      segments = self.param("segments", init, (c.type_vocab_size, c.hidden_size))
      x += jax.nn.one_hot(inputs.segment_ids, c.type_vocab_size) @ segments
    x = self.layer_norm("embedding_norm")(x) * inputs.attention_mask[..., None]
    place = outside_layers(noise, c.num_layers, OutsideLayers.EMBEDDINGS)
    return dropout(x, c.hidden_dropout, place), words, positions

  def _table(self) -> Float[Array, "P D"]:
    """The relative table as the blocks read it."""
    return self.param("relative_table", self.kernel_init(), (table_rows(self.config), self.config.hidden_size))

  def _block_class(self) -> type:
    return DebertaBlock

  def _block(self, name: str) -> Any:
    return rematerialized(self._block_class(), self.remat)(**self.settings(), name=name)

  def _convolves(self) -> bool:
    return False

  def _convolve(self, embedded: Array, x: Array, attention_mask: Array, noise: Any, record: Any) -> Any:
    raise AssertionError("version 1 has no convolution")


class DebertaV2Encoder(DebertaEncoder):
  """Versions 2 and 3: the table may be normed, and a convolution may stand beside layer 0."""

  def _table(self) -> Float[Array, "P D"]:
    table = super()._table()
    return self.layer_norm("relative_norm")(table) if self.config.norm_relative_table else table

  def _block_class(self) -> type:
    return DebertaV2Block

  def _convolves(self) -> bool:
    return self.config.convolution_size > 0

  def _convolve(self, embedded: Array, x: Array, attention_mask: Array, noise: Any, record: Any) -> Any:
    place = outside_layers(noise, self.config.num_layers, OutsideLayers.CONVOLUTION)
    x = Convolution(**self.settings(), name="convolution")(embedded, x, attention_mask, place)
    return x, record and (x, record[1])


# ---- heads ------------------------------------------------------------------------------------------------------


class ContextPooler(EncoderModule):
  """Dropout and a layer over the first token (DeBERTa, pooling.py)."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B D"]:
    del attention_mask
    c: DebertaConfig = self.config
    first = dropout(hidden[:, 0], c.pooler_dropout, noise)
    return activate(self.dense(c.hidden_size, "dense")(first).astype(jnp.float32), c.pooler_activation)


class DebertaDiscriminatorHead(EncoderModule):
  """Which tokens were replaced, of version 3: each is told the first token's state (DeBERTa, apps/models)."""

  @nn.compact
  def __call__(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B T"]:
    x = self.layer_norm()(hidden[:, :1] + hidden)
    x = self.head_activation(self.dense(self.config.hidden_size, "dense")(x))
    return self.dense(1, "output")(x).astype(jnp.float32)[..., 0]
