"""Words as a tagger reads them: what it says of a word, it says at the word's first token. T tokens, W words."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bert_jax.data import passages
from bert_jax.data.frames import Frame
from bert_jax.data.tokenizers import Tokenizer

Places = Sequence[tuple[int, int]]  # where each word of a text begins and ends


@dataclasses.dataclass(frozen=True)
class Window:
  """`[CLS] a text, or a part of it [SEP]`.

  Attributes:
    example: which text.
    token_ids: int32 [T].
    words: int32 [T], of the first token of each word that is to be tagged here, which word of the text it is; else -1.
  """

  example: int
  token_ids: np.ndarray
  words: np.ndarray


def cut(texts: Sequence[tuple[str, Places]], frame: Frame, tokenizer: Tokenizer, max_tokens: int) -> list[Window]:
  """Texts in windows of at most `max_tokens`, special ones counted; most texts fit one.

  Windows begin half a window after one another, and a word is to be tagged in one of them: where its first token has
  most context. A word whose characters the tokenizer drops has no token, and is in none.
  """
  windows, room = [], max_tokens - 2
  located = tokenizer.encode_with_offsets([text for text, _ in texts])
  for example, ((_, places), of_text) in enumerate(zip(texts, located, strict=True)):
    first = first_tokens(of_text.offsets, places)
    parts = passages.spans(len(of_text.ids), room, max(1, room // 2))
    for (start, count), most in zip(parts, passages.most_context(parts), strict=True):
      row = frame.text(of_text.ids[start : start + count], tokenizer)
      tagged = np.where(most, first[start : start + count], -1)
      outside = [-1, -1]
      around = [tagged, outside] if frame.cls_last else [outside[:1], tagged, outside[:1]]
      windows.append(Window(example, row, np.concatenate(around).astype(np.int32)))
  return windows


def first_tokens(offsets: np.ndarray, places: Places) -> np.ndarray:
  """Of each token, int32 [T]: the word whose first token it is, or -1.

  It is the first that ends within the word, so that a token of a space alone is none.
  """
  found = np.full(len(offsets), -1, np.int32)
  visible = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
  starts, stops = np.array(places, np.int64).reshape(-1, 2).T
  first = np.searchsorted(offsets[visible, 1], starts, side="right")
  has = first < len(visible)
  has[has] = offsets[visible[first[has]], 0] < stops[has]
  tokens, owners = np.unique(visible[first[has]], return_index=True)  # of words that share a token, the first has it
  found[tokens] = np.flatnonzero(has)[owners]
  return found


def joined(words: Sequence[str]) -> tuple[str, Places]:
  """Words as a text, with a space between them, and where they stand."""
  begins = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
  return " ".join(words), [(begin, begin + len(word)) for begin, word in zip(begins, words, strict=False)]
