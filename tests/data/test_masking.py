"""Masks: how many, which, what is shown in their place, and that nothing else matters."""

import dataclasses

import numpy as np
import pytest

from bert_jax.config import MaskingConfig
from bert_jax.data import masking
from tests.data.conftest import CLS, MASK, PAD, SEP, MemoryTokenizer

TOKENIZER = MemoryTokenizer(vocab_size=97)
UNITS = ("token", "whole_word", "ngram", "span")


@dataclasses.dataclass(frozen=True)
class Rows:
  """Rows of text with [CLS], two [SEP] and padding, to be masked."""

  token_ids: np.ndarray
  maskable: np.ndarray
  word_starts: np.ndarray
  lengths: np.ndarray

  def apply(self, config: MaskingConfig, num_slots: int, ids=None, passes=None, seed: int = 1):
    count = len(self.lengths)
    ids = np.arange(count) if ids is None else ids
    passes = np.zeros(count, np.int64) if passes is None else passes
    return masking.apply(
      self.token_ids, self.maskable, self.word_starts, self.lengths, ids, passes, seed, config, num_slots, TOKENIZER
    )

  def take(self, rows: np.ndarray) -> "Rows":
    return Rows(*(array[rows] for array in (self.token_ids, self.maskable, self.word_starts, self.lengths)))


def make_rows(count: int, num_tokens: int, seed: int = 0, full: bool = False) -> Rows:
  rng = np.random.default_rng(seed)
  lengths = np.full(count, num_tokens) if full else rng.integers(5, num_tokens + 1, count)
  ordinary = np.setdiff1d(np.arange(TOKENIZER.vocab_size), TOKENIZER.special_ids)
  token_ids = rng.choice(ordinary, (count, num_tokens)).astype(np.int32)
  column = np.arange(num_tokens)
  middle = rng.integers(2, lengths - 2)
  token_ids[:, 0] = CLS
  token_ids[np.arange(count), middle] = SEP
  token_ids[np.arange(count), lengths - 1] = SEP
  token_ids[column >= lengths[:, None]] = PAD
  return Rows(token_ids, ~np.isin(token_ids, [CLS, SEP, PAD]), rng.random(token_ids.shape) < 0.6, lengths)


def words_of(rows: Rows) -> list[list[list[int]]]:
  """The words of each row as lists of columns, found the slow way."""
  found = []
  for maskable, starts in zip(rows.maskable, rows.word_starts, strict=True):
    words: list[list[int]] = []
    for column in np.flatnonzero(maskable).tolist():
      if starts[column] or not maskable[column - 1]:
        words.append([])
      words[-1].append(column)
    found.append(words)
  return found


def chosen_columns(positions: np.ndarray, weights: np.ndarray) -> list[set[int]]:
  return [set(row[weight > 0].tolist()) for row, weight in zip(positions, weights, strict=True)]


def test_rate_and_split_over_a_million_tokens():
  rows = make_rows(2048, 512, full=True)
  masked, positions, labels, weights = rows.apply(MaskingConfig(rate=0.15), 77)
  assert rows.lengths.sum() >= 1_000_000
  assert (weights.sum(axis=1) == 77).all()  # 0.15 × 512 = 76.8: each row to the nearest, exactly
  used = weights > 0
  shown = np.take_along_axis(masked, positions, 1)[used]
  predicted = used.sum()

  def within(share: float, expected: float, trials: float) -> bool:
    return abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)

  ordinary = TOKENIZER.vocab_size - len(TOKENIZER.special_ids)
  assert within((shown == MASK).mean(), 0.8, predicted)
  # A random token is the original itself once in so many.
  assert within((shown == labels[used]).mean(), 0.1 + 0.1 / ordinary, predicted)
  replaced = shown[(shown != MASK) & (shown != labels[used])]
  counts = np.bincount(replaced, minlength=TOKENIZER.vocab_size)
  assert (counts[TOKENIZER.special_ids] == 0).all()
  others = np.delete(counts, TOKENIZER.special_ids)
  assert np.abs(others - others.mean()).max() < 5 * np.sqrt(others.mean())


@pytest.mark.parametrize("rate", [0.15, 0.4, 0.8])
def test_stochastic_rounding_is_unbiased(rate: float):
  rows = make_rows(20_000, 53)
  _, _, _, weights = rows.apply(MaskingConfig(rate=rate, rounding="stochastic"), 53)
  counts, wanted = weights.sum(axis=1), rate * rows.lengths
  room = rows.maskable.sum(axis=1)
  free = (wanted >= 1) & (wanted + 1 <= room)
  assert free.mean() > 0.5
  assert np.isin(counts[free] - np.floor(wanted[free]), [0, 1]).all()
  fraction = wanted[free] % 1
  deviation = np.sqrt((fraction * (1 - fraction)).sum())
  assert abs((counts[free] - wanted[free]).sum()) < 4 * deviation
  assert counts.min() >= 1


def test_nearest_rounds_as_bert_does():
  # 10 × 0.25 = 2.5 and 14 × 0.25 = 3.5: halves go to the even number, as Python's round.
  for length, expected in [(9, 2), (10, 2), (11, 3), (14, 4), (5, 1)]:
    rows = make_rows(31, length, full=True)
    _, _, _, weights = rows.apply(MaskingConfig(rate=0.25), 12)
    assert (weights.sum(axis=1) == expected).all()
    assert round(0.25 * length) == expected


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("slots", [1, 3, 37])
def test_slots(unit, slots: int):
  rows = make_rows(301, 37)
  masked, positions, labels, weights = rows.apply(MaskingConfig(unit=unit, rate=0.5), slots)
  assert positions.shape == labels.shape == weights.shape == (301, slots)
  assert [a.dtype for a in (masked, positions, labels, weights)] == ["int32", "int32", "int32", "float32"]
  wanted = np.clip(np.rint(0.5 * rows.lengths), 1, np.minimum(slots, rows.maskable.sum(axis=1)))
  used = weights.sum(axis=1).astype(int)
  if unit == "token":
    np.testing.assert_array_equal(used, wanted)
  else:
    assert (used <= wanted).all()
  assert set(np.unique(weights)) <= {0.0, 1.0}
  for row in range(301):
    assert (weights[row, : used[row]] == 1).all()
    assert (np.diff(positions[row, : used[row]]) > 0).all()
    assert not positions[row, used[row] :].any()
    assert not labels[row, used[row] :].any()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rate", [0.15, 1.0])
def test_labels_restore_the_text_and_nothing_else_changed(unit, rate: float):
  rows = make_rows(200, 41)
  before = rows.token_ids.copy()
  masked, positions, labels, weights = rows.apply(MaskingConfig(unit=unit, rate=rate, mask_prob=0.6), 41)
  np.testing.assert_array_equal(rows.token_ids, before)  # the input is left alone
  assert (masked != before).any()
  restored = masked.copy()
  where, slots = np.nonzero(weights)
  restored[where, positions[where, slots]] = labels[where, slots]
  np.testing.assert_array_equal(restored, before)


@pytest.mark.parametrize("unit", UNITS)
def test_marks_are_never_predicted(unit):
  rows = make_rows(500, 23)
  masked, _, labels, weights = rows.apply(MaskingConfig(unit=unit, rate=1.0), 23)
  marks = ~rows.maskable
  np.testing.assert_array_equal(masked[marks], rows.token_ids[marks])
  assert not np.isin(labels[weights > 0], [CLS, SEP, PAD]).any()
  # At rate 1 every other token is predicted, but for n-grams that would meet another.
  if unit == "ngram":
    assert (weights.sum(axis=1) <= rows.maskable.sum(axis=1)).all()
  else:
    np.testing.assert_array_equal(weights.sum(axis=1), rows.maskable.sum(axis=1))


def test_tokens_are_uniform_over_the_text():
  rows = make_rows(1, 29, full=True).take(np.zeros(40_000, int))
  _, positions, _, weights = rows.apply(MaskingConfig(rate=0.15), 5)
  counts = np.bincount(positions[weights > 0], minlength=29)[rows.maskable[0]]
  expected = weights.sum() / rows.maskable[0].sum()
  assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
  pairs = positions[:, 0] * 29 + positions[:, 1]  # no preferred neighbours: the lowest two are near as rarely as chance
  adjacent = (np.diff(positions[:, :4], axis=1) == 1).mean()
  rng = np.random.default_rng(0)
  places = np.flatnonzero(rows.maskable[0])
  chance = np.stack([np.sort(rng.choice(places, 4, replace=False)) for _ in range(20_000)])
  assert abs(adjacent - (np.diff(chance, axis=1) == 1).mean()) < 4 * 0.5 * np.sqrt(1 / 60_000 + 1 / 120_000)
  assert len(np.unique(pairs)) > 100


# ---- whole words -------------------------------------------------------------------------------------------


def test_whole_words_are_whole():
  rows = make_rows(700, 61)
  _, positions, _, weights = rows.apply(MaskingConfig(unit="whole_word", rate=0.3), 18)
  for chosen, words in zip(chosen_columns(positions, weights), words_of(rows), strict=True):
    for word in words:
      assert chosen.issuperset(word) or chosen.isdisjoint(word)
    assert chosen <= {column for word in words for column in word}


def test_whole_words_follow_berts_greedy_choice():
  """The choice is maximal: a word that was left out did not fit any more when its turn came."""
  rows = make_rows(900, 61)
  _, positions, _, weights = rows.apply(MaskingConfig(unit="whole_word", rate=0.3), 61)
  budget = np.clip(np.rint(0.3 * rows.lengths), 1, None)
  short = 0
  for chosen, words, wanted in zip(chosen_columns(positions, weights), words_of(rows), budget, strict=True):
    left = wanted - len(chosen)
    assert left >= 0
    short += left > 0
    assert all(len(word) > left for word in words if chosen.isdisjoint(word))
  assert 0 < short < 450  # some rows cannot be filled exactly; that is BERT's rule, not a defect


def test_whole_words_have_the_distribution_of_berts_loop():
  rows = make_rows(1, 31, seed=3, full=True).take(np.zeros(30_000, int))
  _, positions, _, weights = rows.apply(MaskingConfig(unit="whole_word", rate=0.2), 6)
  words = words_of(rows.take(np.zeros(1, int)))[0]
  assert {len(word) for word in words} > {1, 2}
  chosen = np.zeros((len(weights), 31), bool)
  chosen[np.nonzero(weights)[0], positions[weights > 0]] = True
  rng = np.random.default_rng(5)
  theirs = np.zeros((20_000, 31), bool)
  for row in theirs:  # the recipe, one word at a time
    left = 6
    for number in rng.permutation(len(words)):
      if len(words[number]) <= left:
        row[words[number]] = True
        left -= len(words[number])
  ours, expected = chosen.mean(axis=0), theirs.mean(axis=0)
  assert np.abs(ours - expected).max() < 4.5 * 0.5 * np.sqrt(1 / 30_000 + 1 / 20_000)
  assert abs(weights.sum(axis=1).mean() - theirs.sum(axis=1).mean()) < 0.02


def test_a_words_rest_at_the_front_is_a_word_and_marks_part_words():
  token_ids = np.array([[CLS, 20, 21, 22, SEP, 23, 24, SEP]], np.int32)
  starts = np.array([[0, 0, 0, 1, 0, 0, 0, 0]], bool)
  rows = Rows(token_ids, np.isin(token_ids, [20, 21, 22, 23, 24]), starts, np.array([8])).take(np.zeros(400, int))
  _, positions, _, weights = rows.apply(MaskingConfig(unit="whole_word", rate=0.25), 2)
  seen = {tuple(sorted(columns)) for columns in chosen_columns(positions, weights)}
  assert seen == {(1, 2), (5, 6), (3,)}  # the one-token word first leaves no room for the others


def test_no_word_fits():
  token_ids = np.array([[CLS, 20, 21, SEP]], np.int32)
  rows = Rows(token_ids, np.isin(token_ids, [20, 21]), np.array([[0, 1, 0, 0]], bool), np.array([4]))
  masked, _, _, weights = rows.apply(MaskingConfig(unit="whole_word", rate=0.15), 3)
  assert not weights.any()
  np.testing.assert_array_equal(masked, token_ids)


# ---- purity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_mask_depends_on_nothing_but_seed_example_and_pass(unit, rounding):
  rows = make_rows(83, 47)
  config = MaskingConfig(unit=unit, rounding=rounding, rate=0.3)
  ids, passes = np.arange(83) * 7919 + (3 << 40), np.arange(83) % 4
  whole = rows.apply(config, 15, ids, passes)
  order = np.random.default_rng(0).permutation(83)
  for group in np.array_split(order, 9):  # other neighbours, another batch size, another order
    part = rows.take(group).apply(config, 15, ids[group], passes[group])
    for one, other in zip(whole, part, strict=True):
      np.testing.assert_array_equal(one[group], other)
  # A longer padded row is no other example.
  wider = Rows(*(np.pad(array, ((0, 0), (0, 6))) for array in (rows.token_ids, rows.maskable, rows.word_starts)),
    rows.lengths,
  )  # fmt: skip
  padded = wider.apply(config, 15, ids, passes)
  for one, other in zip(whole[1:], padded[1:], strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("unit", UNITS)
def test_seed_example_and_pass_all_matter(unit):
  rows = make_rows(1, 60, full=True).take(np.zeros(50, int))
  config = MaskingConfig(unit=unit)
  same = {"ids": np.full(50, 5), "passes": np.full(50, 2), "seed": 3}
  count = np.arange(50)
  seen = [chosen_columns(*rows.apply(config, 9, **same)[1::2])[0]]
  assert len({frozenset(s) for s in chosen_columns(*rows.apply(config, 9, **same)[1::2])}) == 1
  for change in ({"ids": count}, {"passes": count}):
    masks = {frozenset(s) for s in chosen_columns(*rows.apply(config, 9, **(same | change))[1::2])}
    assert len(masks) > 45
  for seed in range(10, 20):
    seen.append(chosen_columns(*rows.apply(config, 9, **(same | {"seed": seed}))[1::2])[0])
  assert len({frozenset(s) for s in seen}) == 11


def test_mask_pass():
  static, dynamic = MaskingConfig(policy="static", duplicates=3), MaskingConfig(policy="dynamic", duplicates=3)
  assert [masking.mask_pass(epoch, static) for epoch in range(7)] == [0, 1, 2, 0, 1, 2, 0]
  assert [masking.mask_pass(epoch, dynamic) for epoch in range(7)] == list(range(7))
