"""Noise as a function of (seed, row, place), and dropout: the same on any devices and under any split of the batch.

`jax.random` draws a tensor at a time, so a row's bits depend on the batch that it stands in, and on CPU the
draw costs up to a third of a small training step. Here an element's bits are a hash of (seed, its row in the
global batch, its index in the row), which XLA computes inside the multiplication that uses it.
"""

import enum

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Float, UInt32

from bert_jax.models.arrays import Array


class InLayer(enum.IntEnum):
  """The places of a layer that draw noise."""

  ATTENTION = 0  # the probabilities
  ATTENTION_OUTPUT = 1
  OUTPUT = 2
  RELATIVE_TABLE = 3  # DeBERTa
  INNER = 4  # XLNet
  QUERY_STREAM = 8  # XLNet: what its query stream adds to the place


class OutsideLayers(enum.IntEnum):
  """The places outside the layers that draw noise."""

  EMBEDDINGS = 0
  POOLER = 1
  CLASSIFIER = 2
  CONVOLUTION = 3  # DeBERTa
  REPLACEMENTS = 4  # ELECTRA: which tokens the generator draws
  QUERY_STREAM = 10  # XLNet
  DISTANCES = 11  # XLNet
  LAST = 12  # XLNet


@struct.dataclass
class Noise:
  """What the random bits of one forward pass depend on. `None` in its place means: no dropout.

  Attributes:
    seed: of the step, and after `fold_in` of the place in the network.
    rows: each row's index in the global batch.
  """

  seed: UInt32[Array, ""]
  rows: UInt32[Array, " B"]

  def fold_in(self, number: int | Array) -> "Noise":
    """The noise of one part, such as a layer or a network."""
    return Noise(fold(self.seed, number), self.rows)


def in_layer(noise: Noise | None, layer: UInt32[Array, ""], place: int) -> Noise | None:
  """The noise of a place of a layer; layers count from 0 through the whole encoder."""
  return noise and noise.fold_in(layer).fold_in(place)


def outside_layers(noise: Noise | None, num_layers: int, place: OutsideLayers) -> Noise | None:
  """The noise of a place outside the layers, whose numbers go on behind those of the layers."""
  return noise and noise.fold_in(num_layers + int(place))


def fold(seed: UInt32[Array, ""], number: int | Array) -> UInt32[Array, ""]:
  """A new seed from a seed and a number, such as a step or a place."""
  number = jnp.asarray(number).astype(jnp.uint32)
  return _mix(seed + (number + jnp.uint32(1)) * jnp.uint32(0x9E3779B9))


def dropout(x: Float[Array, "*shape"], rate: float, noise: Noise | None) -> Float[Array, "*shape"]:
  """Sets a share `rate` of the elements to 0 and scales the others by 1 / (1 - rate).

  Args:
    rate: share dropped, at least 0 and below 1.
    noise: whose bits to use; None for evaluation, when `x` comes back as it is.
  """
  if noise is None or rate == 0.0:
    return x
  keep_below = jnp.uint32(min(2**32 - 1, round((1.0 - rate) * 2**32)))
  kept = random_bits(noise, x.shape) < keep_below
  return jnp.where(kept, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def random_bits(noise: Noise, shape: tuple[int, ...]) -> UInt32[Array, "B ..."]:
  """Bits of that shape; a row's bits depend on the noise and on that row's number alone."""
  assert shape[0] == noise.rows.shape[0], (shape, noise.rows.shape)
  per_row = _mix(noise.seed + noise.rows * jnp.uint32(0x85EBCA77))  # [B]
  counter = jnp.zeros((1, *shape[1:]), jnp.uint32)
  stride = 1
  for axis in range(len(shape) - 1, 0, -1):
    counter += jax.lax.broadcasted_iota(jnp.uint32, counter.shape, axis) * jnp.uint32(stride)
    stride *= shape[axis]
  return _mix(per_row.reshape(-1, *[1] * (len(shape) - 1)) + counter * jnp.uint32(0x9E3779B9))


def _mix(bits: Array) -> Array:
  """A bijection of uint32 in which every input bit reaches every output bit ("lowbias32", C. Wellons 2018)."""
  bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
  bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
  return bits ^ (bits >> 16)
