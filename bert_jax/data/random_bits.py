"""Random numbers as pure functions of what they are for: no state, equal on every machine and numpy version.

A draw is a hash of integers: `bits(seed, STREAM, epoch, index)` is always the same 64 bits, whatever was
drawn before. Mixing is the finalizer of splitmix64 (Steele, Lea and Flood 2014, figure 15), once a part.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

# Each use draws from a stream of its own, so that no two uses see related numbers.
DOCUMENT_ORDER, BUILD, EXAMPLE_ORDER, MASK_ORDER, MASK_COUNT, MASK_KIND, MASK_TOKEN = range(7)
MASK_LENGTH, MASK_PREDICTED = range(7, 9)
TARGET_LENGTH, TARGET_PLACE, TARGET_FILL, FACTORIZATION = range(9, 13)

LARGE = 1 << 20  # an order of more than these takes no memory of its own
_ROUNDS = 8  # of the network below; four are enough for a perfect round function (Luby and Rackoff 1988)

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


class Order:
  """A random order of range(size), asked place by place: what stands at these places?

  Of up to `LARGE` it is `permutation`, kept; every order is as likely as another. Of more it is computed anew for each
  place, in constant memory: 300 million sorted numbers would take 2.4 GB and half a minute. A place is written as
  (left, right), with right below √size, and in turn each part is shifted by a hash of the other; what falls outside of
  the size goes round again (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", methods 2 and 3).
  """

  def __init__(self, size: int, key: np.ndarray):
    """Sorts, where the size is small; `key` is uint64 [1]."""
    self._size, self._key = size, key
    self._table = permutation(size, key) if size <= LARGE else None
    self._right = math.isqrt(size)
    self._left = -(-size // self._right) if size else 0

  def __call__(self, places: np.ndarray) -> np.ndarray:
    """Each place's number, int64, of the places' shape."""
    if self._table is not None:
      return self._table[places]
    numbers = self._pass(places)
    while len(outside := np.flatnonzero(numbers >= self._size)):
      numbers[outside] = self._pass(numbers[outside])
    return numbers

  def _pass(self, numbers: np.ndarray) -> np.ndarray:
    left, right = np.divmod(numbers, self._right)
    for turn in range(0, _ROUNDS, 2):
      left = (left + below(bits(self._key, turn, right), self._left)) % self._left
      right = (right + below(bits(self._key, turn + 1, left), self._right)) % self._right
    return left * self._right + right
