"""Counter-based random numbers: known answers, uniformity, permutations."""

import itertools

import numpy as np
import pytest

from bert_jax.data import random_bits


def test_known_answers_never_change():
  # A change here changes every batch of every run: it would break resuming across versions.
  np.testing.assert_array_equal(random_bits.bits(7, 3), np.array([0x1E5507B778C2995D], np.uint64))
  np.testing.assert_array_equal(random_bits.permutation(7, random_bits.bits(11)), [2, 0, 6, 1, 3, 4, 5])


def test_integers_and_arrays_agree_and_broadcast():
  rows, columns = np.arange(3)[:, None], np.arange(5)[None]
  table = random_bits.bits(-4, rows, columns)
  assert table.shape == (3, 5)
  for row, column in itertools.product(range(3), range(5)):
    assert table[row, column] == random_bits.bits(-4, row, column)[0]
  assert len(np.unique(table)) == 15
  assert random_bits.bits(np.int64(-4), np.int32(2)) == random_bits.bits(-4, 2)  # numpy's scalars are integers too


@pytest.mark.parametrize("parts", [(np.arange(1 << 16),), (5, np.arange(1 << 16)), (np.arange(1 << 16), 5)])
def test_every_bit_is_fair(parts: tuple):
  numbers = random_bits.bits(*parts)
  ones = (numbers[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).mean(axis=0)
  assert np.abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(len(numbers))  # 5 sd: 64 bits are looked at
  neighbours = numbers[1:] ^ numbers[:-1]
  changed = (neighbours[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).mean(axis=0)
  assert np.abs(changed - 0.5).max() < 5 * 0.5 / np.sqrt(len(numbers))


def test_below_and_uniform_are_uniform():
  numbers = random_bits.bits(1, np.arange(70_000))
  counts = np.bincount(random_bits.below(numbers, 7), minlength=7)
  assert len(counts) == 7
  assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)
  values = random_bits.uniform(numbers)
  assert values.min() >= 0
  assert values.max() < 1
  assert abs(values.mean() - 0.5) < 5 / np.sqrt(12 * len(values))


def test_streams_go_on_without_repeating():
  taken = list(itertools.islice(random_bits.words(random_bits.bits(2)), 40_000))
  assert len(set(taken)) == 40_000
  floats = list(itertools.islice(random_bits.uniforms(random_bits.bits(2)), 40_000))
  np.testing.assert_array_equal(floats, random_bits.uniform(np.array(taken, np.uint64)))


@pytest.mark.parametrize("size", [1, 2, 17, 1000])
def test_permutations_hold_each_index_once(size: int):
  np.testing.assert_array_equal(np.sort(random_bits.permutation(size, random_bits.bits(size))), np.arange(size))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000, 40_001])
def test_an_order_without_a_table_holds_each_index_once(size: int, monkeypatch: pytest.MonkeyPatch):
  monkeypatch.setattr(random_bits, "LARGE", 0)
  order = random_bits.Order(size, random_bits.bits(size))
  numbers = order(np.arange(size))
  assert order._table is None
  np.testing.assert_array_equal(np.sort(numbers), np.arange(size))
  np.testing.assert_array_equal(order(np.arange(size)[::-3]), numbers[::-3])
  if size > 100:
    # What stands near the beginning comes from everywhere, neighbours are no neighbours, and few stay where they are.
    assert abs(numbers[: size // 10].mean() / (size - 1) - 0.5) < 5 / np.sqrt(12 * size / 10)
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 5 / np.sqrt(size)
    assert np.sum(numbers == np.arange(size)) < 10
    other = random_bits.Order(size, random_bits.bits(size + 1))(np.arange(size))
    assert abs(np.corrcoef(numbers, other)[0, 1]) < 5 / np.sqrt(size)


def test_an_order_of_few_is_the_permutation_and_of_many_never_changes():
  key = random_bits.bits(11)
  np.testing.assert_array_equal(random_bits.Order(7, key)(np.arange(7)), random_bits.permutation(7, key))
  many = random_bits.Order(300_000_000, key)(np.array([0, 1, 2, 299_999_999]))
  np.testing.assert_array_equal(many, [30408306, 110844449, 14967669, 278640844])


@pytest.mark.parametrize("sorts", [True, False])
def test_permutations_are_uniform_over_places_and_pairs(sorts: bool, monkeypatch: pytest.MonkeyPatch):
  monkeypatch.setattr(random_bits, "LARGE", 5 * sorts)
  trials, size = 4000, 5
  table = np.stack([random_bits.Order(size, random_bits.bits(3, trial))(np.arange(size)) for trial in range(trials)])
  expected = trials / size
  for place in range(size):
    counts = np.bincount(table[:, place], minlength=size)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
  # What stands at one place tells nothing of its neighbour, other than that it differs.
  pairs = np.bincount(table[:, 0] * size + table[:, 1], minlength=size * size).reshape(size, size)
  expected = trials / (size * (size - 1))
  assert np.abs(pairs[~np.eye(size, dtype=bool)] - expected).max() < 5 * np.sqrt(expected)
