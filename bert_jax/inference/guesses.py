"""What the model expects in the place of a word, from all of its context, from the left alone and from the right alone.

A hidden context is one that no token may look at, so the rest of the row keeps its places. [CLS] and [SEP] stay.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import masks
from bert_jax.inference.masks import Masked
from bert_jax.inference.readings import Reading, Word

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

Side = Literal["both", "left", "right"]
SIDES: tuple[Side, ...] = get_args(Side)


class Guess(NamedTuple):
  """A token in the place of a mask, in the form of `Candidate.token`."""

  token: str
  probability: float


class Expected(NamedTuple):
  """What is expected in one place.

  Attributes:
    guesses: the likeliest tokens, special tokens left out.
    true_probability: of the token that stands there; None where the text has a mask.
    true_rank: of that token among all of the vocabulary, from 1.
  """

  guesses: list[Guess]
  true_probability: float | None
  true_rank: int | None

  def data(self) -> dict[str, Any]:
    """As JSON: probabilities to six digits."""
    return {
      "guesses": [{"token": guess.token, "probability": round(guess.probability, 6)} for guess in self.guesses],
      "true_probability": None if self.true_probability is None else round(self.true_probability, 6),
      "true_rank": self.true_rank,
    }


@dataclasses.dataclass(frozen=True)
class Piece:
  """One token of a masked word.

  Attributes:
    token: that stands there, in the same form as guesses; None where the text has a mask.
    expected: from each side of the context.
  """

  token: str | None
  expected: dict[Side, Expected]


@dataclasses.dataclass(frozen=True)
class MaskedWord:
  """A word whose tokens are all masked.

  Attributes:
    word: its number in the reading.
    text: that stands there.
    pieces: its tokens.
  """

  word: int
  text: str
  pieces: list[Piece]

  def data(self) -> dict[str, Any]:
    """As JSON."""
    return {
      "word": self.word,
      "text": self.text,
      "pieces": [
        {
          "token": piece.token,
          "expected": {side: found.data() for side, found in piece.expected.items()},
        }
        for piece in self.pieces
      ],
    }


class _Question(NamedTuple):
  """A masked word, and the row that asks for it from one side."""

  word: int
  side: Side
  row: Masked


def together(model: "Model", reading: Reading, words: Sequence[int], top_k: int) -> list[MaskedWord]:
  """Several words, all of them masked at a time.

  Args:
    words: numbers of words of the reading.

  Raises:
    ValueError: there is no such word, top_k is out of its range, or the model fills no masks.
  """
  (found,) = several(model, [(reading, words, top_k)])
  return found


def several(model: "Model", asked: Sequence[tuple[Reading, Sequence[int], int]]) -> list[list[MaskedWord]]:
  """`together` for several (reading, words, top_k), in as few batches as they fit."""
  questions = []
  for reading, words, top_k in asked:
    masks.check(model, top_k)
    for number in words:
      if not 0 <= number < len(reading.words):
        raise ValueError(f"word {number} is none of the text's, which has words 0 to {len(reading.words) - 1}")
    questions.append([_question(model, reading, words, number, side) for number in words for side in SIDES])
  found = iter(masks.probabilities(model, [question.row for some in questions for question in some]))
  return [
    _answered(model, reading, some, [next(found) for _ in some], top_k)
    for (reading, _, top_k), some in zip(asked, questions, strict=True)
  ]


def one_by_one(model: "Model", reading: Reading, top_k: int) -> list[MaskedWord]:
  """Every word, each masked by itself; masks that stand in the text are never filled in.

  Raises:
    ValueError: the text has no word, top_k is out of its range, or the model fills no masks.
  """
  masks.check(model, top_k)
  if not reading.words:
    raise ValueError("the text has no word that could be masked")
  questions = [
    _question(model, reading, [number], number, side) for number in range(len(reading.words)) for side in SIDES
  ]
  found = masks.probabilities(model, [question.row for question in questions])
  return _answered(model, reading, questions, found, top_k)


def _question(model: "Model", reading: Reading, masked: Sequence[int], number: int, side: Side) -> _Question:
  ids, word = reading.token_ids.copy(), reading.words[number]
  for other in masked:
    ids[reading.words[other].first : reading.words[other].stop] = model.require_tokenizer().mask_id
  places = np.arange(word.first, word.stop)
  return _Question(number, side, Masked(ids, places, None if side == "both" else _seen(reading, word, side)))


def _seen(reading: Reading, word: Word, side: Side) -> np.ndarray:
  """bool [T]: special tokens, the word itself, and one side of it."""
  special = np.array([number is None for number in reading.word_of])
  place = np.arange(len(special))
  return special | (place < word.stop if side == "left" else place >= word.first)


def _answered(
  model: "Model", reading: Reading, questions: Sequence[_Question], found: Sequence[np.ndarray], top_k: int
) -> list[MaskedWord]:
  pieces: dict[int, list[Piece]] = {}
  tokenizer = model.require_tokenizer()
  for question, chances in zip(questions, found, strict=True):
    word = reading.words[question.word]
    if question.word not in pieces:
      ids = reading.token_ids[word.first : word.stop].tolist()
      pieces[question.word] = [Piece(None if word.is_mask else _shown(i, tokenizer), {}) for i in ids]
    for piece, place, row in zip(pieces[question.word], range(word.first, word.stop), chances, strict=True):
      true = None if word.is_mask else int(reading.token_ids[place])
      guesses = [Guess(_shown(i, tokenizer), chance) for i, chance in masks.likeliest(row, top_k, tokenizer)]
      piece.expected[question.side] = Expected(
        guesses,
        None if true is None else float(row[true]),
        None if true is None else 1 + int(np.sum(row[: tokenizer.vocab_size] > row[true])),
      )
  return [MaskedWord(number, reading.words[number].text, of_word) for number, of_word in pieces.items()]


def _shown(token_id: int, tokenizer: Tokenizer) -> str:
  token, continues = masks.readable(token_id, tokenizer)
  return "##" + token if continues else token
