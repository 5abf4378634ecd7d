"""Texts as rows of token ids: special tokens, windows over long texts, batches of about equal length.

T tokens, B rows.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from bert_jax.data.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class Frame:
  """How an architecture wants a text: which special tokens go where, and on which side padding.

  Attributes:
    at_end: XLNet's `text <sep> <cls>`, padded on the left; the others have `[CLS] text [SEP]`, padded on the right.
  """

  at_end: bool

  def token_ids(self, ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """With special tokens, int32 [T + 2]."""
    parts = (
      [ids, [tokenizer.sep_id, tokenizer.cls_id]] if self.at_end else [[tokenizer.cls_id], ids, [tokenizer.sep_id]]
    )
    return np.concatenate(parts).astype(np.int32)

  def segment_ids(self, token_ids: np.ndarray) -> np.ndarray:
    """All 0; XLNet's <cls> is a segment of its own, 2."""
    result = np.zeros(len(token_ids), np.int32)
    if self.at_end:
      result[-1] = 2
    return result

  def batch(
    self,
    rows: Sequence[np.ndarray],
    size: int,
    length: int,
    pad_id: int,
    segments: Sequence[np.ndarray] | None = None,
  ) -> tuple[np.ndarray, ...]:
    """token_ids, segment_ids and attention_mask, [size, length]; rows beyond those given are one pad each.

    Args:
      segments: of each row; where they are not given, those of single texts.
    """
    token_ids = np.full((size, length), pad_id, np.int32)
    segment_ids = np.zeros((size, length), np.int32)
    attention_mask = np.zeros((size, length), bool)
    attention_mask[:, -1 if self.at_end else 0] = True  # a row without any would divide by 0
    for row, ids in enumerate(rows):
      place = slice(length - len(ids), length) if self.at_end else slice(0, len(ids))
      token_ids[row, place] = ids
      segment_ids[row, place] = self.segment_ids(ids) if segments is None else segments[row]
      attention_mask[row, place] = True
    return token_ids, segment_ids, attention_mask


def windows(ids: np.ndarray, size: int, stride: int) -> list[np.ndarray]:
  """Windows of `size` tokens, each `stride` after the one before; the last ends with the text and may start nearer."""
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

  The longest come first, so that memory runs out at once or never. Rows are `batch_size`, or fewer where they would
  have more than `most_tokens` tokens, padding counted; the last batch has the next power of two that is enough.
  """
  order = np.argsort(-np.asarray(lengths), kind="stable")
  start = 0
  while start < len(order):
    length = bucket(int(lengths[order[start]]), longest)
    rows = batch_size if most_tokens is None else max(1, min(batch_size, most_tokens // length))
    some = order[start : start + rows]
    yield min(rows, 1 << (len(some) - 1).bit_length()), length, some
    start += rows
