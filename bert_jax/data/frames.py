"""Special tokens around texts, cutting and padding: how an architecture reads a text or a pair. T tokens, B rows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bert_jax.architectures import EncoderConfig
from bert_jax.data.tokenizers import Tokenizer

Text = str | tuple[str, str]  # one, or a pair


@dataclasses.dataclass(frozen=True)
class Frame:
  """`[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, padded on the right.

  Attributes:
    cls_last: XLNet's `a <sep> b <sep> <cls>`, padded on the left; its <cls> is a segment of its own, 2.
    separators_between: RoBERTa has two separators between the texts of a pair.
    num_segments: segment ids known; with fewer than two, both texts of a pair are segment 0.
  """

  cls_last: bool = False
  separators_between: int = 1
  num_segments: int = 2

  def text(self, ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """One text with special tokens, int32 [T + 2]."""
    around = ([], [tokenizer.sep_id, tokenizer.cls_id]) if self.cls_last else ([tokenizer.cls_id], [tokenizer.sep_id])
    return np.concatenate([around[0], ids, around[1]]).astype(np.int32)

  def pair(self, one: np.ndarray, other: np.ndarray, tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Two texts with special tokens, and the segment of each token: int32 [T] both."""
    first = self.text(one, tokenizer)
    second = [*[tokenizer.sep_id] * (self.separators_between - 1), *other, tokenizer.sep_id]
    before = len(first) - self.cls_last  # XLNet's <cls> stays last
    token_ids = np.concatenate([first[:before], second, first[before:]]).astype(np.int32)
    segment_ids = self.segments(token_ids)
    segment_ids[before : before + len(second)] = int(self.num_segments > 1)
    return token_ids, segment_ids

  def second_place(self, length: int) -> int:
    """Where in a row of a pair the second text begins, if the first has `length` tokens."""
    return (0 if self.cls_last else 1) + length + self.separators_between

  def segments(self, token_ids: np.ndarray) -> np.ndarray:
    """The segments of one text, int32 [T]."""
    result = np.zeros(len(token_ids), np.int32)
    if self.cls_last:
      result[-1] = 2
    return result

  def batch(
    self,
    rows: Sequence[np.ndarray],
    size: int,
    length: int,
    pad_id: int,
    segments: Sequence[np.ndarray] | None = None,
  ) -> dict[str, np.ndarray]:
    """token_ids, segment_ids and attention_mask, [size, length]; rows beyond those given are one pad each.

    Args:
      segments: of each row; where they are not given, those of single texts.
    """
    token_ids = np.full((size, length), pad_id, np.int32)
    segment_ids = np.zeros((size, length), np.int32)
    attention_mask = np.zeros((size, length), bool)
    attention_mask[:, -1 if self.cls_last else 0] = True  # a row without any would divide by 0
    for row, ids in enumerate(rows):
      place = slice(length - len(ids), length) if self.cls_last else slice(0, len(ids))
      token_ids[row, place] = ids
      segment_ids[row, place] = self.segments(ids) if segments is None else segments[row]
      attention_mask[row, place] = True
    return {"token_ids": token_ids, "segment_ids": segment_ids, "attention_mask": attention_mask}


CLS_FIRST = Frame()  # BERT's


def frame_of(model: EncoderConfig) -> Frame:
  """How an architecture reads texts."""
  return Frame(model.cls_last, model.separators_between, model.num_segments)


# ---- texts ----


@dataclasses.dataclass(frozen=True)
class Encoded:
  """Texts with special tokens.

  Attributes:
    token_ids, segment_ids: of each text, int32 [T].
    cut: how many texts were cut.
  """

  token_ids: list[np.ndarray]
  segment_ids: list[np.ndarray]
  cut: int

  @property
  def lengths(self) -> np.ndarray:
    """Tokens of each text, special ones counted, int64."""
    return np.array([len(row) for row in self.token_ids], np.int64)


def encode(texts: Sequence[Text], frame: Frame, tokenizer: Tokenizer, max_tokens: int | None = None) -> Encoded:
  """Texts, and pairs of texts, as a model reads them.

  A text of more than `max_tokens`, special ones counted, is cut at its end. Of a pair the longer text loses tokens at
  its end, the second one where they are equally long, until both fit (google-research/bert, run_classifier.py).
  """
  parts = iter(tokenizer.encode([part for text in texts for part in ((text,) if isinstance(text, str) else text)]))
  rows, kinds, cut = [], [], 0
  for text in texts:
    ids = [next(parts)[0] for _ in range(1 if isinstance(text, str) else 2)]
    marks = 2 if len(ids) == 1 else 2 + frame.separators_between
    sizes = [len(part) for part in ids]
    kept = sizes if max_tokens is None else fit(sizes, max_tokens - marks)
    cut += kept != sizes
    ids = [part[:size] for part, size in zip(ids, kept, strict=True)]
    if len(ids) == 1:
      rows.append(frame.text(ids[0], tokenizer))
      kinds.append(frame.segments(rows[-1]))
    else:
      row, kind = frame.pair(ids[0], ids[1], tokenizer)
      rows.append(row)
      kinds.append(kind)
  return Encoded(rows, kinds, cut)


def fit(sizes: list[int], room: int) -> list[int]:
  """How many tokens are kept of a text, or of each of a pair; see `encode`."""
  if len(sizes) == 1:
    return [min(sizes[0], room)]
  one, other = sizes
  excess = max(0, one + other - room)
  alone = min(excess, abs(one - other))  # which the longer loses before they take turns, the second first
  of_one = (alone if one > other else 0) + (excess - alone) // 2
  return [one - of_one, other - (excess - of_one)]
