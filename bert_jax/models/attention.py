"""Scaled dot-product attention: one function, two implementations.

B batch, T queries, S keys, H heads, C head size.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from bert_jax.models.dropout import DropoutKey, dropout


def attention(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array,
  *,
  scale: float | None = None,
  bias: jax.Array | None = None,
  dropout_rate: float = 0.0,
  dropout_key: DropoutKey | None = None,
  implementation: Literal["explicit", "fused"] = "explicit",
) -> tuple[jax.Array, jax.Array | None]:
  """softmax(QKᵀ · scale + bias) V, with dropout on the probabilities (Vaswani et al. 2017, 3.2.1; Devlin et al. 2018).

  Args:
    query: [B, T, H, C].
    key, value: [B, S, H, C].
    mask: bool, broadcast to [B, H, T, S]; False where a query may not look. A query that may look nowhere
      gets the mean of all values: finite, and of no effect, since nothing reads a padded position.
    scale: of the products; None for 1 / √C.
    bias: float32, broadcast to [B, H, T, S], added to the scaled products.
    dropout_rate, dropout_key: see `dropout`.
    implementation: `fused` is `jax.nn.dot_product_attention`, which has no dropout.

  Returns:
    [B, T, H, C], of the dtype of `query`; and the probabilities before dropout, float32 [B, H, T, S], None if fused.
  """
  factor: float = query.shape[-1] ** -0.5 if scale is None else scale
  if implementation == "fused":
    if dropout_key is not None and dropout_rate > 0:
      raise ValueError(
        f"fused attention has no dropout, and its rate is {dropout_rate}; use runtime.attention=explicit"
      )
    return jax.nn.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=factor), None
  scores = jnp.einsum("bthc,bshc->bhts", query * factor, key, preferred_element_type=jnp.float32)
  if bias is not None:
    scores += bias
  scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  probabilities = jax.nn.softmax(scores, axis=-1)
  kept = dropout(probabilities, dropout_rate, dropout_key).astype(value.dtype)
  return jnp.einsum("bhts,bshc->bthc", kept, value), probabilities
