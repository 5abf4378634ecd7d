"""Which pieces of a Unigram tokenizer start a word."""

from collections.abc import Sequence

import numpy as np

from bert_jax.data import basic_tokenizer

UNDERLINE = "\u2581"  # SentencePiece's mark for a space before a piece


class PieceStarts:
  """Which pieces of a Unigram text start a word, by their marks.

  A word starts at a piece with a space before it, at a punctuation mark or symbol, after one, and at a CJK
  character. ALBERT (create_pretraining_data.py) starts one at every piece with a letter beyond ASCII, too; here
  those go on, so that words with accents stay whole.
  """

  def __init__(self, pieces: Sequence[str], letters: Sequence[int] = ()):
    def apart(character: str) -> bool:
      return not (character.isalnum() or _is_mark(character)) or basic_tokenizer.is_cjk(character)

    self._lone_space = np.array([piece == UNDERLINE for piece in pieces])
    self._starts = np.array([bool(piece) and (piece[0] == UNDERLINE or apart(piece[0])) for piece in pieces])
    self._ends = np.array([bool(piece) and piece != UNDERLINE and apart(piece[-1]) for piece in pieces])
    self._starts[list(letters)] = self._ends[list(letters)] = False

  def __call__(self, ids: np.ndarray) -> np.ndarray:
    starts = self._starts[ids]
    starts[1:] |= self._ends[ids[:-1]]
    starts[1:] &= ~self._lone_space[ids[:-1]]  # what follows a space of its own goes with it
    starts[:1] = True
    return starts


def _is_mark(character: str) -> bool:
  return not character.isascii() and basic_tokenizer.without_marks(character, "NFD") == ""
