"""Examples laid out as rows of tokens, before an objective hides any.

B batch, T tokens, P pieces, W tokens of text, M tokens before an example.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bert_jax.config import DataConfig

if TYPE_CHECKING:
  from bert_jax.data.corpus import Corpus
  from bert_jax.data.tokenizers import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pieces:
  """What rows are made of: pieces of each row, and start, length and segment of all pieces, row by row."""

  counts: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  segments: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rows:
  """`[CLS] piece [SEP] piece [SEP] …`, then padding.

  Attributes:
    token_ids: int32 [B, T].
    segment_ids: int32 [B, T]; the [SEP] after a piece has that of the piece.
    attention_mask: bool [B, T], False on padding.
    is_text: bool [B, T], True on the pieces' own tokens.
    lengths: int64 [B], tokens of each row, special ones counted.
    pair_labels: int32 [B], see `formats.Examples`.
    example_ids: int64 [B], the same for an example wherever it appears.
    passes: int64 [B], which of an example's masks; see `masking.mask_pass`.
    copies: int64 [B], which copy of its example it is, from 0; see `MaskingConfig.prediction_rate`.
    text_word_starts: bool [W], whether a word starts there, for all tokens of text in order.
    preceding_ids: int32 [B, M], what stands before the example in the document that it begins in, behind padding.
    num_preceding: int32 [B], how many of these tokens there are.
  """

  token_ids: np.ndarray
  segment_ids: np.ndarray
  attention_mask: np.ndarray
  is_text: np.ndarray
  lengths: np.ndarray
  pair_labels: np.ndarray
  example_ids: np.ndarray
  passes: np.ndarray
  copies: np.ndarray
  text_word_starts: np.ndarray
  preceding_ids: np.ndarray
  num_preceding: np.ndarray

  @property
  def word_starts(self) -> np.ndarray:
    """bool [B, T]."""
    result = np.zeros(self.token_ids.shape, bool)
    result[self.is_text] = self.text_word_starts
    return result

  def maskable(self, tokenizer: "Tokenizer") -> np.ndarray:
    """bool [B, T]: tokens that may be predicted. Special tokens never are, not even where the text holds them."""
    result = self.is_text
    for mark in (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id):
      result = result & (self.token_ids != mark)
    return result


# What an objective makes of rows: a batch, as a function of each example, its pass and the seed alone.
Prepare = Callable[[Rows, int, DataConfig, "Tokenizer"], Batch]


def lay_out(
  corpus: "Corpus",
  pieces: Pieces,
  pair_labels: np.ndarray,
  example_ids: np.ndarray,
  passes: np.ndarray,
  copies: np.ndarray,
  num_tokens: int,
  preceding_tokens: int = 0,
) -> Rows:
  """Rows of T = `num_tokens` tokens, with M = `preceding_tokens`; see `Rows` for the arguments of its own."""
  tokenizer, shape = corpus.tokenizer, (len(pieces.counts), num_tokens)

  # Text fills what is left of the real places, in order, once the special tokens have theirs.
  widths = pieces.lengths.astype(np.int64) + 1
  ends = np.cumsum(widths)
  row_ends = ends[np.cumsum(pieces.counts) - 1]
  row_begins = np.concatenate([[0], row_ends[:-1]])
  lengths = 1 + row_ends - row_begins
  attention_mask = np.arange(num_tokens) < lengths[:, None]
  separators = ends + np.repeat(np.arange(shape[0]) * num_tokens - row_begins, pieces.counts)
  is_text = attention_mask.copy()
  is_text[:, 0] = False
  is_text.ravel()[separators] = False

  ids, text_word_starts = corpus.gather(pieces.starts, pieces.lengths)
  token_ids = np.full(shape, tokenizer.pad_id, np.int32)
  token_ids[is_text] = ids
  token_ids.ravel()[separators] = tokenizer.sep_id
  token_ids[:, 0] = tokenizer.cls_id

  segment_ids = np.zeros(shape, np.int32)
  if pieces.segments.any():
    segment_ids[:, 1:][attention_mask[:, 1:]] = np.repeat(pieces.segments, widths)
  return Rows(
    token_ids,
    segment_ids,
    attention_mask,
    is_text,
    lengths,
    pair_labels.astype(np.int32),
    example_ids,
    passes,
    copies,
    text_word_starts,
    *_preceding(corpus, pieces.starts[np.cumsum(pieces.counts) - pieces.counts], preceding_tokens),
  )


def _preceding(corpus: "Corpus", starts: np.ndarray, num_tokens: int) -> tuple[np.ndarray, np.ndarray]:
  """`preceding_ids` and `num_preceding` of examples that begin at these places of the corpus, int64 [B]."""
  ids = np.full((len(starts), num_tokens), corpus.tokenizer.pad_id, np.int32)
  if num_tokens == 0:
    return ids, np.zeros(len(starts), np.int32)
  sentences = np.searchsorted(corpus.sentence_offsets, starts, side="right") - 1
  documents = np.searchsorted(corpus.document_offsets, sentences, side="right") - 1
  begins = corpus.sentence_offsets[corpus.document_offsets[documents]]
  counts = np.minimum(starts - begins, num_tokens)
  ids[np.arange(num_tokens) >= num_tokens - counts[:, None]] = corpus.gather(starts - counts, counts)[0]
  return ids, counts.astype(np.int32)


def pad_rows(batch: Batch, num_rows: int, fill: dict[str, int]) -> Batch:
  """A batch with rows of padding added at its end; `fill` has the value of arrays whose padding is not 0."""
  padded = {}
  for name, array in batch.items():
    padded[name] = np.full((num_rows, *array.shape[1:]), fill.get(name, 0), array.dtype)
    padded[name][: len(array)] = array
  return padded
