"""Several examples in one row of tokens, each reading itself alone, so that less of a batch is padding.

A batch holds the same examples as without it, masked as without it: packing comes last, so a mask stays a function of
(seed, example, pass), and the losses are the same. What varies is how many rows a batch takes.

B examples, T tokens, K predictions of an example; R rows of them, S = `data.packing` examples a row at most, P
predictions a row.
"""

import bisect
import dataclasses

import numpy as np

from bert_jax.config import DataConfig, num_prediction_slots, row_rate
from bert_jax.data.rows import Batch

NO_LABEL = -1  # of the places of a row's pairs that are not taken, as of a text that is no pair


@dataclasses.dataclass(frozen=True)
class Plan:
  """Where each example of a batch goes.

  Attributes:
    rows: int64 [B], the row of each example.
    orders: int64 [B], which of its row's examples it is, from 0.
    starts: int64 [B], the place of its first token.
    num_rows: R, with rows that no example is in.
  """

  rows: np.ndarray
  orders: np.ndarray
  starts: np.ndarray
  num_rows: int

  def part(self, index: int, count: int) -> tuple[np.ndarray, "Plan"]:
    """The examples of the index-th of `count` equal parts of the rows, int64, and where in it they go."""
    size = self.num_rows // count
    (examples,) = np.nonzero(self.rows // size == index)
    rows = self.rows[examples] - index * size
    return examples, Plan(rows, self.orders[examples], self.starts[examples], size)


def plan(lengths: np.ndarray, num_tokens: int, most: int, unit: int) -> Plan:
  """Packs examples by best fit, the longest first: each into the fullest row that has room for it.

  Args:
    lengths: integers [B], tokens of each example.
    num_tokens: T.
    most: S.
    unit: what R is to be a multiple of. Each R is a program to compile, so a multiple of a good part of the batch.
  """
  rows, orders, starts = (np.zeros(len(lengths), np.int64) for _ in range(3))
  counts: list[int] = []  # examples of each row
  room: list[tuple[int, int]] = []  # (places left, row) of those that may take more, ascending
  for example in np.argsort(-lengths, kind="stable").tolist():
    length = int(lengths[example])
    place = bisect.bisect_left(room, (length, -1))
    if place < len(room):
      left, row = room.pop(place)
    else:
      left, row = num_tokens, len(counts)
      counts.append(0)
    rows[example], orders[example], starts[example] = row, counts[row], num_tokens - left
    counts[row] += 1
    if counts[row] < most:
      bisect.insort(room, (left - length, row))
  return Plan(rows, orders, starts, -(-len(counts) // unit) * unit)


def num_slots(data: DataConfig) -> int:
  """P: what the masking rate asks of a full row, and one more for each of its examples, which may round up."""
  full = -int(-row_rate(data.masking) * data.max_seq_len // 1)
  return min(data.max_seq_len, data.packing * num_prediction_slots(data), full + data.packing)


def pack(batch: Batch, plan: Plan, data: DataConfig, pad_id: int) -> Batch:
  """A batch of masked tokens in fewer rows.

  Args:
    batch: as `masking.mask` makes it.
    plan: of its examples.
    data: packing, max_seq_len and the masking rate are read.
    pad_id: of the tokenizer.

  Returns:
    token_ids, segment_ids and attention_mask [R, T]; position_ids int32 [R, T], from 0 in each example; sequence_ids
    int32 [R, T], S on padding; sequence_starts int32 [R, S], where examples begin; mlm_positions, mlm_labels and
    mlm_weights [R, P]; pair_labels [R, S], -1 where there is no example.
  """
  real = batch["attention_mask"]
  lengths, shape = real.sum(axis=1), (plan.num_rows, real.shape[1])
  inside = np.arange(real.shape[1])[None].repeat(len(real), axis=0)[real]
  to = np.repeat(plan.rows, lengths), np.repeat(plan.starts, lengths) + inside

  def spread(values: np.ndarray, fill: int, dtype: type) -> np.ndarray:
    """Values of all tokens of all examples, where they go."""
    result = np.full(shape, fill, dtype)
    result[to] = values
    return result

  def by_example(values: np.ndarray, fill: int) -> np.ndarray:
    result = np.full((plan.num_rows, data.packing), fill, np.int32)
    result[plan.rows, plan.orders] = values
    return result

  packed = {
    "token_ids": spread(batch["token_ids"][real], pad_id, np.int32),
    "segment_ids": spread(batch["segment_ids"][real], 0, np.int32),
    "attention_mask": spread(np.ones(len(inside), bool), 0, bool),
    "position_ids": spread(inside, 0, np.int32),
    "sequence_ids": spread(np.repeat(plan.orders, lengths), data.packing, np.int32),
    "sequence_starts": by_example(plan.starts, 0),
    "pair_labels": by_example(batch["pair_labels"], NO_LABEL),
  }

  # Predictions, in the order of their rows, and in each by their place.
  order = np.lexsort((plan.orders, plan.rows))
  examples, slots = np.nonzero(batch["mlm_weights"][order])
  examples = order[examples]
  rows = plan.rows[examples]
  numbers = np.arange(len(rows)) - np.searchsorted(rows, rows)
  found = {
    "mlm_positions": batch["mlm_positions"][examples, slots] + plan.starts[examples],
    "mlm_labels": batch["mlm_labels"][examples, slots],
    "mlm_weights": batch["mlm_weights"][examples, slots],
  }
  assert not len(numbers) or numbers.max() < num_slots(data), (numbers.max(), num_slots(data))
  for name, values in found.items():
    packed[name] = np.zeros((plan.num_rows, num_slots(data)), batch[name].dtype)
    packed[name][rows, numbers] = values
  return packed
