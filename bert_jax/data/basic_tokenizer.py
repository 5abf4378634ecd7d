"""BERT's rules for casing, accents and word boundaries (BasicTokenizer of google-research/bert, tokenization.py)."""

import unicodedata
from collections.abc import Callable

# Code points set apart as words of their own: the CJK blocks that google-research/bert lists.
_CJK_RANGES = (
  (0x4E00, 0x9FFF),
  (0x3400, 0x4DBF),
  (0x20000, 0x2A6DF),
  (0x2A700, 0x2B73F),
  (0x2B740, 0x2B81F),
  (0x2B820, 0x2CEAF),
  (0xF900, 0xFAFF),
  (0x2F800, 0x2FA1F),
)


def is_cjk(character: str) -> bool:
  """Whether BERT makes a word of this character alone."""
  return any(first <= ord(character) <= last for first, last in _CJK_RANGES)


def is_punctuation(character: str) -> bool:
  """Whether BERT splits words here: all ASCII that is neither letter, digit nor space, and Unicode's P classes."""
  if character.isascii():
    return character.isprintable() and not character.isalnum() and character != " "
  return unicodedata.category(character).startswith("P")


class _Table(dict[int, str]):
  """A table for str.translate that fills itself: what stands for a character, worked out once."""

  def __init__(self, rule: Callable[[str], str]):
    super().__init__()
    self._rule = rule

  def __missing__(self, code_point: int) -> str:
    self[code_point] = result = self._rule(chr(code_point))
    return result


def _clean(character: str, split_cjk: bool = True) -> str:
  if character in "\t\n\r":
    return " "
  if character in "\0\ufffd" or unicodedata.category(character) in ("Cc", "Cf"):
    return ""
  if character.isspace():
    return " "
  return f" {character} " if split_cjk and is_cjk(character) else character


_CLEAN = _Table(_clean)
_CLEAN_CJK_TOGETHER = _Table(lambda character: _clean(character, split_cjk=False))
_UNMARK = _Table(lambda character: "" if unicodedata.category(character) == "Mn" else character)
_PART = _Table(lambda character: f" {character} " if is_punctuation(character) else character)


def split_words(text: str, lowercase: bool, strip_accents: bool, split_cjk: bool = True) -> str:
  """`text` as BERT's words, separated by spaces.

  Control characters go, punctuation and (unless told not to) CJK characters stand alone; letters lose their case and
  accents where asked.
  """
  text = text.translate(_CLEAN if split_cjk else _CLEAN_CJK_TOGETHER)
  if lowercase:
    text = text.lower()
  if strip_accents:
    text = without_marks(text, "NFD")
  return text.translate(_PART)


def without_marks(text: str, form: str) -> str:
  """`text` in a decomposed Unicode form (NFD or NFKD), its combining marks (class Mn) left out."""
  if text.isascii():
    return text
  return unicodedata.normalize(form, text).translate(_UNMARK)  # pyright: ignore[reportArgumentType]
