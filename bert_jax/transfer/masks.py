"""Text with masks: its tokens, and the candidates in readable form."""

import re
from typing import Any, NamedTuple

import numpy as np

from bert_jax.data.tokenizers import Tokenizer

MASK = "[MASK]"  # always understood, whatever the tokenizer calls its mask token


class Candidate(NamedTuple):
  """What the model puts in the place of a mask.

  Attributes:
    token: as text; with `##` before it where it continues the word before, whatever the tokenizer's own mark.
    probability: over the whole vocabulary.
    sequence: the text with this token in that place; other masks stay.
  """

  token: str
  probability: float
  sequence: str


def find(text: str, tokenizer: Tokenizer) -> list[re.Match[str]]:
  """The masks of a text.

  Raises:
    ValueError: there is none.
  """
  marks = list(re.finditer("|".join(map(re.escape, sorted({MASK, tokenizer.mask_token}))), text))
  if not marks:
    raise ValueError(f"the text has no mask: put {MASK} where a token is to be found. Got {text!r}")
  return marks


def token_ids(text: str, marks: list[re.Match[str]], tokenizer: Tokenizer) -> np.ndarray:
  """The text's tokens with the mask's in the place of each mark, without special tokens: int32 [T]."""
  borders = [0, *(border for mark in marks for border in mark.span()), len(text)]
  parts = [text[begin:end] for begin, end in zip(borders[::2], borders[1::2], strict=True)]
  pieces: list[Any] = []
  for number, part in enumerate(parts):
    pieces += [[tokenizer.mask_id]] if number else []
    pieces.append(_part_ids(part, tokenizer, follows_mask=number > 0))
  return np.concatenate(pieces).astype(np.int32)


def _part_ids(part: str, tokenizer: Tokenizer, follows_mask: bool) -> np.ndarray:
  """A part's tokens, as they would be with a word in the mask's place."""
  text = part.rstrip() if follows_mask else part.strip()
  if not text.strip():
    return np.empty(0, np.int32)
  alone = tokenizer.encode([text])[0][0]
  if not follows_mask or tokenizer.kind == "wordpiece":  # which has no mark for a space
    return alone
  # Alone, what stands right after the mask, as in "[MASK].", would be cut as if a space went before it; so a word goes
  # before it. Its own tokens come out unchanged where it did not grow together with the text.
  for word in ("0", "a") if text[0].isalpha() else ("a", "0"):
    (before, _), (both, _) = tokenizer.encode([word, word + text])
    if np.array_equal(both[: len(before)], before):
      return both[len(before) :]
  return alone


def candidate(token_id: int, probability: float, text: str, mark: re.Match[str], tokenizer: Tokenizer) -> Candidate:
  """A token in the place of one mark of a text."""
  token, continues = _readable(token_id, tokenizer)
  before, after = text[: mark.start()], text[mark.end() :]
  left = before.rstrip() if continues else before
  return Candidate("##" + token if continues else token, probability, left + token + after)


def _readable(token_id: int, tokenizer: Tokenizer) -> tuple[str, bool]:
  """A token's text, and whether it continues the word before it."""
  if tokenizer.kind == "wordpiece":
    (token,) = tokenizer.tokens([token_id])
    return token.removeprefix("##"), token.startswith("##")
  anchor = tokenizer.encode(["a"])[0][0]
  alone = tokenizer.decode(anchor)
  behind = tokenizer.decode([*anchor, token_id]).removeprefix(alone)
  text = behind.strip()
  return text, bool(text) and text[0].isalnum() and not behind[0].isspace()
