"""Targets and orders: which, how many, against a loop over single rows, and that nothing else matters."""

import dataclasses
import functools

import numpy as np
import pytest

from bert_jax.config import DataConfig, MaskingConfig
from bert_jax.data import permutations, random_bits
from bert_jax.data.batches import TrainBatches
from bert_jax.data.rows import Batch, Rows
from bert_jax.objective_configs import PermutationConfig
from tests.data.conftest import CLS, MASK, PAD, SEP, MemoryTokenizer

TOKENIZER = MemoryTokenizer(vocab_size=97)
SETTINGS = PermutationConfig(tokens_per_target=5.0, longest_span=4, window=8)
DATA = DataConfig(
  format="segment_pair", max_seq_len=40, segmentations=3, eval_fraction=0.2, masking=MaskingConfig(policy="dynamic")
)


def random_rows(count: int, num_tokens: int, seed: int = 0) -> Rows:
  """Rows of two texts, the last one full, with a [MASK] of the text's own here and there."""
  draw = np.random.default_rng(seed)
  shape, places = (count, num_tokens), np.arange(num_tokens)[None]
  lengths = draw.integers(6, num_tokens + 1, count)
  lengths[-1] = num_tokens
  middle, end = draw.integers(2, lengths - 3)[:, None], lengths[:, None] - 1
  ordinary = np.setdiff1d(np.arange(TOKENIZER.vocab_size), TOKENIZER.special_ids)
  token_ids = np.where(draw.random(shape) < 0.03, MASK, draw.choice(ordinary, shape))
  for where, token in ((places == 0, CLS), ((places == middle) | (places == end), SEP), (places > end, PAD)):
    token_ids = np.where(where, token, token_ids)
  is_text = (places > 0) & (places < end) & (places != middle)
  return Rows(
    token_ids=token_ids.astype(np.int32),
    segment_ids=((places > middle) & (places <= end)).astype(np.int32),
    attention_mask=places <= end,
    is_text=is_text,
    lengths=lengths,
    pair_labels=np.zeros(count, np.int32),
    example_ids=draw.integers(0, 1 << 50, count),
    passes=draw.integers(0, 5, count),
    copies=np.zeros(count, np.int64),
    text_word_starts=(draw.random(shape) < 0.6)[is_text],
    preceding_ids=np.zeros((count, 0), np.int32),
    num_preceding=np.zeros(count, np.int32),
  )


def take(rows: Rows, chosen: np.ndarray, **changes: np.ndarray) -> Rows:
  """Some of these rows."""
  names = {field.name for field in dataclasses.fields(rows)} - {"text_word_starts"}
  parts = {name: getattr(rows, name)[chosen] for name in names}
  starts = rows.word_starts[chosen][parts["is_text"]]
  return Rows(**parts | {"text_word_starts": starts} | changes)


def prepared(rows: Rows, seed: int = 3, settings: PermutationConfig = SETTINGS) -> Batch:
  return permutations.prepare(rows, seed, DATA, TOKENIZER, settings)


def uniform(stream: int, example: int, number_of_pass: int, *more: int, seed: int = 3) -> float:
  return float(random_bits.uniform(random_bits.bits(seed, stream, example, number_of_pass, *more))[0])


def targets_of(batch: Batch) -> np.ndarray:
  """bool [B, T]."""
  found = np.zeros(batch["token_ids"].shape, bool)
  rows, slots = np.nonzero(batch["mlm_weights"])
  found[rows, batch["mlm_positions"][rows, slots]] = True
  assert found.sum() == len(rows), "no token is predicted twice"
  return found


def targets_by_hand(rows: Rows, row: int, settings: PermutationConfig) -> set[int]:
  """The original's loop over one row: spans from left to right, then single tokens."""
  where = int(rows.example_ids[row]), int(rows.passes[row])
  maskable, starts, length = rows.maskable(TOKENIZER)[row], rows.word_starts[row], int(rows.lengths[row])
  free = [place for place in range(length) if maskable[place]]
  goal = min(max(1, round(length / settings.tokens_per_target)), max(0, len(free) - 1))
  weights = np.array([1 / n for n in range(1, settings.longest_span + 1)])
  found: set[int] = set()
  here, number = 1, 0
  while here < length and len(found) < goal:
    draw = uniform(random_bits.TARGET_LENGTH, *where, number) * weights.sum()
    span = min(next(n for n in range(1, len(weights) + 1) if draw < weights[:n].sum()), goal - len(found))
    others = int(settings.tokens_per_target * span)
    left = int(uniform(random_bits.TARGET_PLACE, *where, number) * others)
    begin = here + left
    while begin < length and not (maskable[begin] and starts[begin]):
      begin += 1
    if begin + span > length or begin >= length:
      break
    found |= {place for place in range(begin, begin + span) if maskable[place]}
    here, number = begin + span + others - left, number + 1
  rest = sorted(set(free) - found, key=lambda place: random_bits.bits(3, random_bits.TARGET_FILL, *where, place)[0])
  return found | set(rest[: goal - len(found)])


@pytest.mark.parametrize(
  "settings",
  [SETTINGS, PermutationConfig(tokens_per_target=2.5, longest_span=1), PermutationConfig(tokens_per_target=1.0)],
)
def test_targets_are_those_of_a_loop_over_single_rows(settings: PermutationConfig) -> None:
  rows = random_rows(37, 29)
  batch = prepared(rows, settings=settings)
  found = targets_of(batch)
  for row in range(37):
    assert set(np.flatnonzero(found[row])) == targets_by_hand(rows, row, settings), row
  used = batch["mlm_weights"] > 0
  labels = np.take_along_axis(rows.token_ids, batch["mlm_positions"], axis=1)
  np.testing.assert_array_equal(batch["mlm_labels"], np.where(used, labels, 0))
  assert not np.isin(batch["mlm_labels"][used], [CLS, SEP, PAD, MASK]).any()
  np.testing.assert_array_equal(batch["token_ids"], rows.token_ids)


@pytest.mark.parametrize("share", [6.0, 7.0])
def test_one_of_k_tokens_is_predicted_most_of_them_in_spans(share: float) -> None:
  settings = PermutationConfig(tokens_per_target=share)
  rows = random_rows(50, 512)
  rows = dataclasses.replace(rows, text_word_starts=np.ones_like(rows.text_word_starts))
  batch = prepared(rows, settings=settings)
  assert batch["mlm_positions"].shape == (50, {6.0: 86, 7.0: 74}[share]), "85 of 512 in the original"
  np.testing.assert_array_equal(batch["mlm_weights"].sum(axis=1), np.rint(rows.lengths / share))
  found = targets_of(batch)
  beside = found[:, 1:] & found[:, :-1]
  # Spans of 1 to 5 tokens by 1 / n have 2.19 on average, in which 1.19 follow another: more than half of all targets,
  # and less where single tokens fill up.
  assert 0.4 < beside.sum() / found.sum() < 0.6
  alone = targets_of(prepared(rows, settings=dataclasses.replace(settings, longest_span=1)))
  assert (alone[:, 1:] & alone[:, :-1]).sum() / alone.sum() < 0.1


def test_ranks_are_an_order_within_windows_that_follow_each_other() -> None:
  rows = random_rows(37, 29)
  batch = prepared(rows)
  for row, ranks in enumerate(batch["ranks"]):
    length, targets = int(rows.lengths[row]), targets_of(batch)[row]
    read = {place: place - 1 if place else length - 1 for place in range(length)}  # <cls> is read last
    for place in range(29):
      in_order = place < length and (targets[place] or rows.token_ids[row, place] in (CLS, SEP, MASK))
      assert (ranks[place] >= 0) == in_order
      assert not in_order or ranks[place] // 8 == read[place] // 8
    used = ranks[ranks >= 0]
    assert len(np.unique(used)) == len(used)
    places = [place for place in read if ranks[place] >= 0]
    same = {(read[one] % 8, int(ranks[one]) % 8) for one in places}
    assert len({offset for offset, _ in same}) == len(same), "every window has the same permutation"
  one = prepared(rows, settings=dataclasses.replace(SETTINGS, window=None))["ranks"]
  assert one.max() < 29
  assert (one[targets_of(batch)] // 8 != batch["ranks"][targets_of(batch)] // 8).any()


def test_every_order_of_a_window_is_as_likely() -> None:
  rows, many = random_rows(1, 12), 4000
  repeated = take(rows, np.zeros(many, np.int64), example_ids=np.arange(many))
  ranks = prepared(repeated, settings=PermutationConfig(window=12))["ranks"]
  counts = np.bincount(ranks[:, 0], minlength=12)  # of <cls>
  assert np.abs(counts - many / 12).max() < 5 * (many / 12) ** 0.5
  separator = int(rows.lengths[0]) - 1
  earlier = (ranks[:, 0] < ranks[:, separator]).mean()
  assert abs(earlier - 0.5) < 5 * 0.5 / many**0.5


def test_they_are_functions_of_seed_example_and_pass() -> None:
  rows = random_rows(37, 29)
  whole, chosen = prepared(rows), np.array([31, 4, 4, 0])
  for name, array in prepared(take(rows, chosen)).items():
    np.testing.assert_array_equal(array, whole[name][chosen], err_msg=name)
  others = [
    prepared(rows, seed=4),
    prepared(dataclasses.replace(rows, passes=rows.passes + 1)),
    prepared(dataclasses.replace(rows, example_ids=rows.example_ids + 1)),
  ]
  for other in others:
    assert (targets_of(other) != targets_of(whole)).any(axis=1).mean() > 0.8
    assert (other["ranks"][:, 0] != whole["ranks"][:, 0]).mean() > 0.6  # of <cls>, which is never a target


def test_a_row_comes_with_what_stands_before_it_in_its_document(make_corpus) -> None:
  corpus = make_corpus()
  data = dataclasses.replace(DATA, preceding_tokens=13)
  prepare = functools.partial(permutations.prepare, settings=SETTINGS)
  batches = TrainBatches(corpus, data, 4, 33, prepare=prepare)
  batch, rows = batches(1), batches.rows(1)
  examples = batches.examples(0)
  for row in range(33):
    start = int(examples.piece_starts[examples.piece_offsets[rows.example_ids[row]]])
    wanted = [
      int(corpus.token_ids[place])
      for place in range(max(0, start - 13), start)
      if corpus.token_document[place] == corpus.token_document[start]
    ]
    assert batch["num_preceding"][row] == len(wanted)
    assert batch["preceding_ids"][row].tolist() == [PAD] * (13 - len(wanted)) + wanted
  assert 0 < np.mean(batch["num_preceding"] == 13) < 1
  without = TrainBatches(corpus, DATA, 4, 33, prepare=prepare)(1)
  assert set(batch) - set(without) == {"preceding_ids", "num_preceding"}
  for name, array in without.items():
    np.testing.assert_array_equal(array, batch[name], err_msg=name)
