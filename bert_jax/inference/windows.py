"""Long texts cut into windows, and texts of about equal length put into batches."""

from collections.abc import Iterator, Sequence

import numpy as np


def windows(ids: np.ndarray, size: int, stride: int) -> list[np.ndarray]:
  """Windows of `size` tokens, each `stride` after the one before, but the last one ends with the text."""
  if len(ids) <= size:
    return [ids]
  starts = [*range(0, len(ids) - size, stride), len(ids) - size]
  return [ids[start : start + size] for start in starts]


def bucket(length: int, longest: int | None) -> int:
  """The padded length: a multiple of 8 to 64, of 16 to 256, of 32 to 512, and so on; never above `longest`.

  At most an eighth of a row is padding, and there are a few dozen shapes to compile, not hundreds.
  """
  step = 8
  while length > 8 * step:
    step *= 2
  padded = -(-length // step) * step
  return min(padded, longest) if longest is not None and longest >= length else padded


def batches(
  lengths: Sequence[int] | np.ndarray, batch_size: int, longest: int | None, most_tokens: int | None = None
) -> Iterator[tuple[int, int, np.ndarray]]:
  """(rows, padded length, indices) of batches of texts of about one length.

  The longest come first, so that memory runs out at once or never. A batch has `batch_size` rows, or fewer where these
  would have more than `most_tokens` tokens with padding; the last batch has the smallest power of two that is enough.
  """
  order = np.argsort(-np.asarray(lengths), kind="stable")
  start = 0
  while start < len(order):
    length = bucket(int(lengths[order[start]]), longest)
    rows = batch_size if most_tokens is None else max(1, min(batch_size, most_tokens // length))
    some = order[start : start + rows]
    yield min(rows, 1 << (len(some) - 1).bit_length()), length, some
    start += rows
