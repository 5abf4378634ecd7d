"""Scaled dot-product attention: where a token may look, and four implementations of one function.

B batch, T queries, S keys, H heads, C head size, W size of the values, as a rule C.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Float32, Int, Int32

from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise, dropout
from bert_jax.models.splash import splash_attention

Implementation = Literal["explicit", "fused", "cudnn", "splash"]
LOWEST = -1e30  # added where a query may not look; large enough to leave nothing of a score, and finite


@struct.dataclass
class Visible:
  """Where the tokens of rows may look: at what is no padding, of their own sequence, and, if asked, near by.

  Attributes:
    attention_mask: False on padding.
    sequence_ids: which of several sequences packed into a row a token is of; None: a row is one.
    reach: how far to either side a token looks; None: as far as its sequence goes.
    everywhere: True makes `reach` of no effect; None: it has its effect.
  """

  attention_mask: Bool[Array, "B T"]
  sequence_ids: Int[Array, "B T"] | None = None
  reach: int | None = struct.field(pytree_node=False, default=None)
  everywhere: Bool[Array, ""] | None = None

  def near(self, reach: int, unless: Bool[Array, ""]) -> "Visible":
    """The same, but at most `reach` tokens away, unless that is True."""
    return dataclasses.replace(self, reach=reach, everywhere=unless)

  def mask(self) -> Bool[Array, "B 1 T T"] | Bool[Array, "B 1 1 T"]:
    """True where a query (third axis) may look (fourth axis)."""
    seen = self.attention_mask[:, None, None, :]
    if self.sequence_ids is not None:
      seen = seen & (self.sequence_ids[:, None, :, None] == self.sequence_ids[:, None, None, :])
    if self.reach is None:
      return seen
    places = jnp.arange(self.attention_mask.shape[1])
    near = jnp.abs(places[:, None] - places[None]) <= self.reach
    return seen & (near if self.everywhere is None else near | self.everywhere)[None, None]

  def groups(self) -> Int32[Array, "B T"]:
    """A number for each token, from 1 for each sequence and 0 on padding: a token looks at those with its own."""
    ids = jnp.int32(0) if self.sequence_ids is None else self.sequence_ids.astype(jnp.int32)
    return jnp.where(self.attention_mask, ids + 1, 0)


def attention(
  query: Float[Array, "B T H C"],
  key: Float[Array, "B S H C"],
  value: Float[Array, "B S H W"],
  visible: Visible | Bool[Array, "#B #H #T #S"],
  *,
  scale: float | None = None,
  bias: Float[Array, "#B #H #T #S"] | None = None,
  dropout_rate: float = 0.0,
  noise: Noise | None = None,
  implementation: Implementation = "explicit",
) -> tuple[Float[Array, "B T H W"], Float32[Array, "B H T S"] | None]:
  """softmax(QKᵀ · scale + bias) V, with dropout on the probabilities (Vaswani et al. 2017, 3.2.1; Devlin et al. 2018).

  Args:
    visible: where a query may look, or a mask that is broadcast to [B, H, T, S] and False where it may not. What a
      query on padding gets is finite, and of no effect, since nothing reads it: the mean of the values that it sees, of
      all where it may look nowhere, and with `splash` of padding.
    scale: of the products; None for 1 / √C.
    bias: broadcast to [B, H, T, S], added to the scaled products.
    dropout_rate, noise: see `dropout`.
    implementation: `explicit` is written out below. The others never hold the probabilities, and have no dropout:
      `fused` is `jax.nn.dot_product_attention` as XLA compiles it, for every device; `cudnn` the kernel of NVIDIA's
      GPUs, in bfloat16; `splash` that of TPUs, see `splash_attention`. These two take a `Visible` and no bias.

  Returns:
    The mixed values, of the dtype of `query`; and the probabilities before dropout, of `explicit` alone.
  """
  factor: float = query.shape[-1] ** -0.5 if scale is None else scale
  if implementation != "explicit":
    if noise is not None and dropout_rate > 0:
      raise ValueError(
        f"{implementation} attention has no dropout, and its rate is {dropout_rate}; use runtime.attention=explicit"
      )
    if implementation == "fused":
      mask = visible.mask() if isinstance(visible, Visible) else visible
      return jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=factor), None
    if bias is not None or not isinstance(visible, Visible):
      raise ValueError(f"{implementation} attention has no bias and no mask of its own; use runtime.attention=fused")
    if implementation == "splash":
      reach, everywhere = visible.reach, visible.everywhere
      return splash_attention(query * factor, key, value, visible.groups(), reach, everywhere), None
    return _cudnn_attention(query, key, value, visible, factor), None
  mask = visible.mask() if isinstance(visible, Visible) else visible
  batch, length, heads, _ = query.shape
  # One batch axis, an additive mask, and the division after the product: XLA's CPU code for two batch axes and for a
  # select between the products took up to seven times as long.
  query, key, value = (_heads_first(x) for x in (query * factor, key, value))
  scores = jnp.einsum("nqc,nkc->nqk", query, key, preferred_element_type=jnp.float32)
  scores += _by_head(jnp.where(mask, 0.0, LOWEST), batch, heads)
  if bias is not None:
    scores += _by_head(bias, batch, heads)
  weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
  total = jnp.sum(weights, axis=-1, keepdims=True)
  by_head = (batch, heads, *weights.shape[1:])
  kept = dropout(weights.reshape(by_head), dropout_rate, noise).reshape(weights.shape).astype(value.dtype)
  mixed = jnp.einsum("nqk,nkc->nqc", kept, value, preferred_element_type=jnp.float32) / total
  mixed = mixed.astype(value.dtype).reshape(batch, heads, length, -1).swapaxes(1, 2)
  return mixed, (weights / total).reshape(by_head)


def _cudnn_attention(
  query: Float[Array, "B T H C"],
  key: Float[Array, "B T H C"],
  value: Float[Array, "B T H W"],
  visible: Visible,
  scale: float,
) -> Float[Array, "B T H W"]:
  """By the kernel of cuDNN, which has a mask as a whole and, with it, a gradient for even lengths alone."""
  batch, length = query.shape[:2]
  odd = length % 2
  query, key, value = (jnp.pad(x, ((0, 0), (0, odd), (0, 0), (0, 0))) for x in (query, key, value))
  mask = jnp.broadcast_to(visible.mask(), (batch, 1, length, length))
  mask = jnp.pad(mask, ((0, 0), (0, 0), (0, odd), (0, odd)))
  mixed = jax.nn.dot_product_attention(query, key, value, mask=mask, scale=scale, implementation="cudnn")
  return mixed[:, :length]


def _heads_first(x: Float[Array, "B T H C"]) -> Float[Array, "N T C"]:
  """[B, T, H, C] → [B · H, T, C]."""
  return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])


def _by_head(x: Array, batch: int, heads: int) -> Array:
  """What broadcasts to [B, H, T, S] as what broadcasts to [B · H, T, S]."""
  return jnp.broadcast_to(x, (batch, heads, *x.shape[2:])).reshape(-1, *x.shape[2:])
