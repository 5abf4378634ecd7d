"""Packing: each example once, alone, with the masks that it has without it."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from bert_jax.config import DataConfig, MaskingConfig
from bert_jax.data import packing
from bert_jax.data.batches import TrainBatches
from bert_jax.data.rows import Batch

LENGTH = 40


@hypothesis.given(
  st.lists(st.integers(1, LENGTH), min_size=1, max_size=60), st.integers(1, 6), st.sampled_from([1, 4, 12])
)
def test_a_plan_puts_each_example_where_nothing_else_is(lengths: list[int], most: int, unit: int) -> None:
  sizes = np.array(lengths)
  plan = packing.plan(sizes, LENGTH, most, unit)
  assert plan.num_rows % unit == 0
  taken = np.zeros((plan.num_rows, LENGTH), int)
  for row, start, size in zip(plan.rows, plan.starts, sizes, strict=True):
    assert start + size <= LENGTH
    taken[row, start : start + size] += 1
  assert taken.max() == 1
  for row in range(plan.num_rows):
    orders = plan.orders[plan.rows == row]
    assert sorted(orders) == list(range(len(orders)))
    assert len(orders) <= most
  used = len(np.unique(plan.rows))
  assert plan.num_rows < used + unit, "no more than what the unit asks for"
  if most > 1:
    # Two rows, of which each has room for all of the other, would be one.
    totals = taken.sum(axis=1)
    alone = [t for row, t in enumerate(totals) if (plan.rows == row).sum() == 1]
    assert sum(2 * t <= LENGTH for t in alone) <= 1


def test_long_examples_fill_up_with_short_ones() -> None:
  """Lengths as those of documents; the shortest come last, so that a low limit of examples a row leaves more open."""
  lengths = np.clip(np.random.default_rng(0).lognormal(4, 0.9, 4096), 8, 512).astype(int)
  plan = packing.plan(lengths, 512, 64, 1)
  assert lengths.sum() / (plan.num_rows * 512) > 0.97


def test_parts_of_a_plan_are_its_rows_in_order() -> None:
  lengths = np.random.default_rng(1).integers(3, LENGTH, 57)
  plan = packing.plan(lengths, LENGTH, 4, 12)
  seen = []
  for index in range(3):
    examples, part = plan.part(index, 3)
    seen += examples.tolist()
    np.testing.assert_array_equal(part.rows + index * part.num_rows, plan.rows[examples])
    np.testing.assert_array_equal(part.starts, plan.starts[examples])
  assert sorted(seen) == list(range(57))


def settings(packed: int, **masking) -> DataConfig:
  return DataConfig(
    max_seq_len=LENGTH,
    segmentations=2,
    eval_fraction=0.2,
    short_seq_prob=0.8,
    packing=packed,
    masking=MaskingConfig(**masking),
  )


def sequences(batch: Batch) -> list[tuple]:
  """All of each example in a batch, packed or not, in an order of their own."""
  several = "sequence_ids" in batch
  found = []
  for row, real in enumerate(batch["attention_mask"]):
    ids = batch["sequence_ids"][row] if several else np.zeros(len(real), int)
    for number in np.unique(ids[real]):
      (places,) = np.nonzero(real & (ids == number))
      start = places[0]
      assert (np.diff(places) == 1).all()
      if several:
        assert batch["sequence_starts"][row, number] == start
        np.testing.assert_array_equal(batch["position_ids"][row, places], np.arange(len(places)))
      predicted = [
        (int(position) - start, int(label))
        for position, label, weight in zip(
          batch["mlm_positions"][row], batch["mlm_labels"][row], batch["mlm_weights"][row], strict=True
        )
        if weight and position in places
      ]
      label = batch["pair_labels"][row, number] if several else batch["pair_labels"][row]
      texts = (tuple(batch[name][row, places].tolist()) for name in ("token_ids", "segment_ids"))
      found.append((*texts, tuple(predicted), int(label)))
  return sorted(found)


@pytest.mark.parametrize(
  "masking",
  [
    {},
    {"policy": "dynamic", "rounding": "stochastic", "rate": 0.4},
    {"unit": "whole_word", "max_predictions": 5},
    {"unit": "span"},
    {"prediction_rate": 0.3},
  ],
  ids=str,
)
def test_a_packed_batch_has_the_examples_and_the_masks_of_one_that_is_not(make_corpus, masking: dict) -> None:
  corpus = make_corpus()
  one, packed = (TrainBatches(corpus, settings(n, **masking), 3, 48) for n in (1, 4))
  for step in (0, 5):
    alone, together = one(step), packed(step)
    assert sequences(together) == sequences(alone)
    assert together["mlm_weights"].sum() == alone["mlm_weights"].sum()
    assert len(together["token_ids"]) < 0.9 * len(alone["token_ids"])
    np.testing.assert_array_equal(together["pair_labels"] >= 0, packed_places(together))


def packed_places(batch: Batch) -> np.ndarray:
  """bool [R, S]: where there is an example."""
  most = batch["sequence_starts"].shape[1]
  return (batch["sequence_ids"][:, :, None] == np.arange(most)).any(axis=1)


@pytest.mark.parametrize("processes", [2, 4, 24])
def test_processes_make_parts_of_one_batch(make_corpus, processes: int) -> None:
  """Also one whose rows are all padding."""
  packed = TrainBatches(make_corpus(), settings(4), 3, 48, row_unit=24)
  parts = [packed(1, index, processes) for index in range(processes)]
  for name, array in packed(1).items():
    np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)
  if processes == 24:
    assert any(not part["attention_mask"].any() for part in parts)


def test_rows_come_in_few_sizes(make_corpus) -> None:
  """Each is a program to compile."""
  packed = TrainBatches(make_corpus(), dataclasses.replace(settings(4), segmentations=1), 3, 96, row_unit=2)
  sizes = {len(packed(step)["token_ids"]) for step in range(60)}
  assert all(size % 6 == 0 for size in sizes)
  assert len(sizes) <= 4
