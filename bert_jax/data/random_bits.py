"""Random numbers as pure functions of what they are for: no state, equal on every machine and numpy version.

A draw is a hash of integers: `bits(seed, STREAM, epoch, index)` is always the same 64 bits, whatever was
drawn before. Mixing is the finalizer of splitmix64 (Steele, Lea and Flood 2014, figure 15), once a part.
"""

import itertools
from collections.abc import Iterator

import numpy as np

# Each use draws from a stream of its own, so that no two uses see related numbers.
DOCUMENT_ORDER, BUILD, EXAMPLE_ORDER, MASK_ORDER, MASK_COUNT, MASK_KIND, MASK_TOKEN = range(7)
MASK_LENGTH, MASK_PREDICTED = range(7, 9)
TARGET_LENGTH, TARGET_PLACE, TARGET_FILL, FACTORIZATION = range(9, 13)

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BLOCK = 1 << 14


def bits(*parts: int | np.ndarray) -> np.ndarray:
  """64 random bits for each combination of the parts.

  Args:
    parts: integers or integer arrays, broadcast against each other from left to right; the costs are those of
      the shapes broadcast so far, so the largest array belongs last.

  Returns:
    uint64, of the broadcast shape, `[1]` where every part is an integer.
  """
  state = np.zeros(1, np.uint64)
  for part in parts:
    # Arrays, never scalars: uint64 arithmetic wraps silently on arrays and warns on scalars.
    number = part.astype(np.uint64) if isinstance(part, np.ndarray) else np.array([int(part) % 2**64], np.uint64)
    state = state + (number + np.uint64(1)) * _GOLDEN
    state ^= state >> np.uint64(30)
    state *= _MIX_1
    state ^= state >> np.uint64(27)
    state *= _MIX_2
    state ^= state >> np.uint64(31)
  return state


def uniform(random_bits: np.ndarray) -> np.ndarray:
  """float64 in [0, 1), of 53 of the bits."""
  return (random_bits >> np.uint64(11)) * 2.0**-53


def below(random_bits: np.ndarray, bound: int) -> np.ndarray:
  """int64 in [0, bound), of the upper 32 bits; the bias is below bound / 2**32."""
  assert 0 < bound < 2**31, bound
  return ((random_bits >> np.uint64(32)) * np.uint64(bound) >> np.uint64(32)).astype(np.int64)


def uniforms(key: np.ndarray) -> Iterator[float]:
  """An endless stream of plain floats in [0, 1), for loops in Python."""
  for block in itertools.count():
    yield from uniform(bits(key, np.arange(block * _BLOCK, (block + 1) * _BLOCK))).tolist()


def words(key: np.ndarray) -> Iterator[int]:
  """An endless stream of plain integers of 64 random bits."""
  for block in itertools.count():
    yield from bits(key, np.arange(block * _BLOCK, (block + 1) * _BLOCK)).tolist()


def permutation(size: int, key: np.ndarray) -> np.ndarray:
  """A random order of range(size), int64: by sorting random bits, so that no library's shuffle is relied on."""
  return np.argsort(bits(key, np.arange(size)), kind="stable")
