"""A text, or a pair, as the model reads it: special tokens, segments, positions, and the words that tokens are of.

T tokens, W words.
"""

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bert_jax.data.frames import frame_of
from bert_jax.inference import masks

if TYPE_CHECKING:
  from bert_jax.inference.model import Model


class Word(NamedTuple):
  """A word of a text, as the tokenizer finds words.

  Attributes:
    text: the characters that it stands for.
    first, stop: its tokens are those from `first` up to `stop`, in the row.
    is_mask: whether it is a mask that was written in the text.
  """

  text: str
  first: int
  stop: int
  is_mask: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
  """A row of tokens.

  Attributes:
    token_ids, segment_ids: int32 [T], with special tokens.
    tokens: T, the vocabulary's text of each.
    words: W, of both texts of a pair.
    has_segments: whether the architecture reads segment ids.
  """

  token_ids: np.ndarray
  segment_ids: np.ndarray
  tokens: list[str]
  words: list[Word]
  has_segments: bool

  @property
  def word_of(self) -> list[int | None]:
    """Of each token, the number of its word; None of a special token."""
    found: list[int | None] = [None] * len(self.tokens)
    for number, word in enumerate(self.words):
      found[word.first : word.stop] = [number] * (word.stop - word.first)
    return found

  def data(self) -> dict[str, Any]:
    """As JSON; positions count from 0."""
    return {
      "tokens": [
        {"token": token, "id": int(token_id), "segment": int(segment), "position": place, "word": word}
        for place, (token, token_id, segment, word) in enumerate(
          zip(self.tokens, self.token_ids, self.segment_ids, self.word_of, strict=True)
        )
      ],
      "words": [word.text for word in self.words],
      "has_segments": self.has_segments,
    }


def read(model: "Model", text: str, pair: str | None = None) -> Reading:
  """A text, or a pair, with special tokens. `[MASK]`, or the tokenizer's own mask token, is a mask.

  Raises:
    ValueError: it has more tokens than the model has positions.
  """
  tokenizer, frame = model.require_tokenizer(), frame_of(model.config)
  texts = [text] if pair is None else [text, pair]
  located = [masks.locate(one, masks.marks(one, tokenizer), tokenizer) for one in texts]
  if pair is None:
    token_ids = frame.text(located[0].ids, tokenizer)
    segment_ids = frame.segments(token_ids)
  else:
    token_ids, segment_ids = frame.pair(located[0].ids, located[1].ids, tokenizer)
  model.check_length(len(token_ids))
  begins = [0 if frame.cls_last else 1, frame.second_place(len(located[0].ids))]
  words: list[Word] = []
  for one, (ids, starts, offsets), begin in zip(texts, located, begins, strict=False):
    firsts = np.flatnonzero(starts | (np.arange(len(ids)) == 0))
    for first, stop in itertools.pairwise([*firsts, len(ids)]):
      characters = one[offsets[first, 0] : offsets[stop - 1, 1]].strip()
      is_mask = bool(ids[first] == tokenizer.mask_id)
      words.append(Word(characters, int(begin + first), int(begin + stop), is_mask))
  return Reading(token_ids, segment_ids, tokenizer.tokens(token_ids), words, model.config.num_segments > 1)
