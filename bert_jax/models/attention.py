"""Scaled dot-product attention: one function, two implementations.

B batch, T queries, S keys, H heads, C head size, W size of the values, as a rule C.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Float32

from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise, dropout

LOWEST = -1e30  # added where a query may not look; large enough to leave nothing of a score, and finite


def attention(
  query: Float[Array, "B T H C"],
  key: Float[Array, "B S H C"],
  value: Float[Array, "B S H W"],
  mask: Bool[Array, "#B #H #T #S"],
  *,
  scale: float | None = None,
  bias: Float[Array, "#B #H #T #S"] | None = None,
  dropout_rate: float = 0.0,
  noise: Noise | None = None,
  implementation: Literal["explicit", "fused"] = "explicit",
) -> tuple[Float[Array, "B T H W"], Float32[Array, "B H T S"] | None]:
  """softmax(QKᵀ · scale + bias) V, with dropout on the probabilities (Vaswani et al. 2017, 3.2.1; Devlin et al. 2018).

  Args:
    mask: broadcast to [B, H, T, S]; False where a query may not look. A query that may look nowhere gets the mean of
      all values: finite, and of no effect, since nothing reads a padded position.
    scale: of the products; None for 1 / √C.
    bias: broadcast to [B, H, T, S], added to the scaled products.
    dropout_rate, noise: see `dropout`.
    implementation: `fused` is `jax.nn.dot_product_attention`, which has no dropout.

  Returns:
    The mixed values, of the dtype of `query`; and the probabilities before dropout, None if fused.
  """
  factor: float = query.shape[-1] ** -0.5 if scale is None else scale
  if implementation == "fused":
    if noise is not None and dropout_rate > 0:
      raise ValueError(
        f"fused attention has no dropout, and its rate is {dropout_rate}; use runtime.attention=explicit"
      )
    return jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=factor), None
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


def _heads_first(x: Float[Array, "B T H C"]) -> Float[Array, "N T C"]:
  """[B, T, H, C] → [B · H, T, C]."""
  return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])


def _by_head(x: Array, batch: int, heads: int) -> Array:
  """What broadcasts to [B, H, T, S] as what broadcasts to [B · H, T, S]."""
  return jnp.broadcast_to(x, (batch, heads, *x.shape[2:])).reshape(-1, *x.shape[2:])
