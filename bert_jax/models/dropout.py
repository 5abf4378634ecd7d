"""Dropout as a function of (seed, row, place): the same on any devices and under any split of the batch.

`jax.random` draws a tensor at a time, so a row's bits depend on the batch that it stands in, and on CPU the
draw costs up to a third of a small training step. Here an element's bits are a hash of (seed, its row in the
global batch, its index in the row), which XLA computes inside the multiplication that uses it.
"""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class DropoutKey:
  """What the bits of one forward pass depend on. `None` in its place means: no dropout.

  Attributes:
    seed: uint32 [], of the step, and after `fold_in` of the place in the network.
    rows: uint32 [B], each row's index in the global batch.
  """

  seed: jax.Array
  rows: jax.Array

  def fold_in(self, place: int | jax.Array) -> "DropoutKey":
    """The key of one place (a layer, a sub-layer) of the network."""
    return DropoutKey(fold(self.seed, place), self.rows)


def fold(seed: jax.Array, number: int | jax.Array) -> jax.Array:
  """A new uint32 seed from a seed and a number, such as a step or a place."""
  number = jnp.asarray(number).astype(jnp.uint32)
  return _mix(seed + (number + jnp.uint32(1)) * jnp.uint32(0x9E3779B9))


def dropout(x: jax.Array, rate: float, key: DropoutKey | None) -> jax.Array:
  """Sets a share `rate` of the elements to 0 and scales the others by 1 / (1 - rate).

  Args:
    x: [B, ...].
    rate: share dropped, at least 0 and below 1.
    key: whose bits to use; None for evaluation, when `x` comes back as it is.
  """
  if key is None or rate == 0.0:
    return x
  keep_below = jnp.uint32(min(2**32 - 1, round((1.0 - rate) * 2**32)))
  kept = random_bits(key, x.shape) < keep_below
  return jnp.where(kept, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def random_bits(key: DropoutKey, shape: tuple[int, ...]) -> jax.Array:
  """uint32 bits [B, ...]; a row's bits depend on the key and on that row's number alone."""
  assert shape[0] == key.rows.shape[0], (shape, key.rows.shape)
  per_row = _mix(key.seed + key.rows * jnp.uint32(0x85EBCA77))  # [B]
  counter = jnp.zeros((1, *shape[1:]), jnp.uint32)
  stride = 1
  for axis in range(len(shape) - 1, 0, -1):
    counter += jax.lax.broadcasted_iota(jnp.uint32, counter.shape, axis) * jnp.uint32(stride)
    stride *= shape[axis]
  return _mix(per_row.reshape(-1, *[1] * (len(shape) - 1)) + counter * jnp.uint32(0x9E3779B9))


def _mix(bits: jax.Array) -> jax.Array:
  """A bijection of uint32 in which every input bit reaches every output bit ("lowbias32", C. Wellons 2018)."""
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
  bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
  return bits ^ (bits >> 16)
