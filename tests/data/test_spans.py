"""N-grams and spans against loops that take one word at a time, and rates of prediction apart from that of masking."""

import numpy as np
import pytest

from bert_jax.config import MaskingConfig, num_copies
from bert_jax.data import spans
from bert_jax.data.batches import TrainBatches
from tests.data.conftest import MASK
from tests.data.test_batches import settings
from tests.data.test_masking import chosen_columns, make_rows, words_of


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_lengths_have_the_published_probabilities(most: int) -> None:
  uniform = np.random.default_rng(0).random(200_000)
  at_most = np.full(len(uniform), most)
  harmonic = 1 / np.arange(1, most + 1)
  geometric = 0.2 * 0.8 ** np.arange(most)
  for draw, weights in ((spans.ngram_lengths, harmonic), (spans.span_lengths, geometric)):
    found = np.bincount(draw(uniform, at_most), minlength=most + 1)[1:] / len(uniform)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=4 * 0.5 / len(uniform) ** 0.5)
  if most == 10:
    assert spans.span_lengths(uniform, at_most).mean() == pytest.approx(3.8, abs=0.03)  # SpanBERT, section 3.1


def test_words_are_those_of_a_loop() -> None:
  rows = make_rows(60, 43)
  words = spans.Words.of(rows.maskable, rows.word_starts)
  for row, listed in enumerate(words_of(rows)):
    for number, word in enumerate(listed):
      after = 1  # words from this one on that nothing unmaskable parts
      while number + after < len(listed) and listed[number + after][0] == listed[number + after - 1][-1] + 1:
        after += 1
      for column in word:
        found = words.begins[row, column], words.ends[row, column], words.left[row, column]
        assert found == (word[0], word[-1] + 1, after)


def ngrams_by_hand(words: list[list[int]], budget: int, longest: int, rng: np.random.Generator) -> set[int]:
  taken: set[int] = set()
  for number in rng.permutation(len(words)):
    run = [words[number]]
    while number + len(run) < len(words) and words[number + len(run)][0] == run[-1][-1] + 1 and len(run) < longest:
      run.append(words[number + len(run)])
    weights = 1 / np.arange(1, len(run) + 1)
    run = run[: 1 + rng.choice(len(run), p=weights / weights.sum())]
    while run and sum(map(len, run)) > budget - len(taken):
      run.pop()
    columns = {column for word in run for column in word}
    if taken.isdisjoint(columns):
      taken |= columns
  return taken


def spans_by_hand(words: list[list[int]], budget: int, longest: int, rng: np.random.Generator) -> set[int]:
  taken: set[int] = set()
  columns = [column for word in words for column in word]
  weights = 0.8 ** np.arange(longest)
  while len(taken) < min(budget, len(columns)):
    column = rng.choice(columns)
    if column in taken:
      continue
    number = next(i for i, word in enumerate(words) if column in word)
    most = 1
    while number + most < len(words) and words[number + most][0] == words[number + most - 1][-1] + 1 and most < longest:
      most += 1
    for word in words[number : number + 1 + rng.choice(most, p=weights[:most] / weights[:most].sum())]:
      for place in word:
        if len(taken) < budget:
          taken.add(place)
  return taken


@pytest.mark.parametrize(("unit", "by_hand", "longest"), [("ngram", ngrams_by_hand, 3), ("span", spans_by_hand, 5)])
def test_masks_have_the_distribution_of_a_loop_over_words(unit, by_hand, longest: int) -> None:
  """Each token's chance, each pair of neighbours', and the number of tokens."""
  draws = 12_000
  one = make_rows(1, 29, seed=3, full=True)
  rows = one.take(np.zeros(draws, int))
  _, positions, _, weights = rows.apply(MaskingConfig(unit=unit, max_words=longest, rate=0.25), 9)
  ours = np.zeros((draws, 29), bool)
  ours[np.nonzero(weights)[0], positions[weights > 0]] = True
  rng, theirs = np.random.default_rng(5), np.zeros((6_000, 29), bool)
  words = words_of(one)[0]
  assert {len(word) for word in words} >= {1, 2, 3}
  for row in theirs:
    row[list(by_hand(words, 7, longest, rng))] = True
  room = 4.5 * 0.5 * np.sqrt(1 / len(ours) + 1 / len(theirs))
  assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < room
  both = [(x[:, 1:] & x[:, :-1]).mean(axis=0) for x in (ours, theirs)]
  assert np.abs(both[0] - both[1]).max() < room
  assert abs(ours.sum(axis=1).mean() - theirs.sum(axis=1).mean()) < 0.05
  whole = [all(set(word) <= chosen or chosen.isdisjoint(word) for word in words) for chosen in chosen_columns(
    positions, weights
  )]  # fmt: skip
  assert all(whole) == (unit == "ngram"), "the last span may end within a word"


def test_the_tokens_of_a_span_have_one_fate() -> None:
  rows = make_rows(900, 61)
  config = MaskingConfig(unit="span", max_words=10, rate=0.2, mask_prob=0.5, random_prob=0.0)
  masked, positions, _, weights = rows.apply(config, 13)
  hidden = (masked == MASK) & (rows.token_ids != MASK)
  shares = []
  for row, chosen in enumerate(chosen_columns(positions, weights)):
    for column in chosen:
      if column + 1 in chosen:
        assert hidden[row, column] == hidden[row, column + 1]
    shares.append(hidden[row].sum() / max(1, len(chosen)))
  assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


# ---- rates apart ----------------------------------------------------------------------------------------------------


def test_fewer_are_predicted_than_hidden() -> None:
  rows = make_rows(400, 53, full=True)
  both = rows.apply(MaskingConfig(rate=0.4, mask_prob=1, random_prob=0), 22)
  masked, positions, labels, weights = rows.apply(
    MaskingConfig(rate=0.4, prediction_rate=0.15, mask_prob=1, random_prob=0), 8
  )
  np.testing.assert_array_equal(masked, both[0])
  assert ((masked == MASK).sum(axis=1) == round(0.4 * 53)).all()
  assert (weights.sum(axis=1) == round(0.15 * 53)).all()
  for row, chosen in enumerate(chosen_columns(positions, weights)):
    assert (masked[row, list(chosen)] == MASK).all()
  used = weights > 0
  np.testing.assert_array_equal(np.take_along_axis(rows.token_ids, positions, 1)[used], labels[used])
  counts = np.bincount(positions[used], minlength=53)[rows.maskable.all(axis=0)]
  assert counts.std() < 2 * np.sqrt(counts.mean()), "any of the hidden tokens may be predicted"


def test_more_are_predicted_by_copies_whose_masks_do_not_meet(make_corpus) -> None:
  corpus = make_corpus()
  data = settings("doc_sentences", policy="dynamic", rate=0.1, prediction_rate=0.4)
  assert num_copies(data.masking) == 4
  copied, plain = TrainBatches(corpus, data, 3, 12), TrainBatches(corpus, settings("doc_sentences", rate=0.1), 3, 3)
  for step in (0, 57):
    batch, single = copied(step), plain.rows(step)
    np.testing.assert_array_equal(copied.rows(step).token_ids, np.repeat(single.token_ids, 4, axis=0))
    for first in range(0, 12, 4):
      chosen = chosen_columns(batch["mlm_positions"][first : first + 4], batch["mlm_weights"][first : first + 4])
      assert sum(map(len, chosen)) == len(set.union(*chosen)), "no token is predicted twice"
      assert all(chosen)
  assert [copied.epoch_of(copied.num_examples(0) // 3 + more) for more in (0, 1)] == [0, 1]
  halves = [copied(5, part, 2) for part in range(2)]
  for name, array in copied(5).items():
    np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), array)
