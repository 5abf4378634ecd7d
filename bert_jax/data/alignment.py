"""Where the characters of a changed text come from: spans in the text as it was given.

A span is [begin, end), in characters. `O` is the number of characters of the changed text, `T` of tokens.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Traced(NamedTuple):
  """A changed text, and the span that each of its characters comes from.

  Attributes:
    text: the changed text.
    begins, ends: int64 [O], in the text as it was given; neither decreases.
  """

  text: str
  begins: np.ndarray
  ends: np.ndarray

  def sources(self, spans: np.ndarray) -> np.ndarray:
    """Where spans of the changed text, int [T, 2] and none of them empty, come from: int64 [T, 2]."""
    return np.stack([self.begins[spans[:, 0]], self.ends[spans[:, 1] - 1]], axis=1)


def of_normalized(text: str, places: Sequence[int], length: int) -> Traced:
  """What SentencePiece's `normalize` makes of a text of some length.

  Args:
    text: the result.
    places: where the source of each character begins, and where the last one's ends, as the library gives them [O + 1].
    length: of the text before.
  """
  begins = np.minimum(np.array(places[:-1], np.int64), length - 1)
  bounds = np.unique([*places, length])
  return Traced(text, begins, bounds[np.searchsorted(bounds, begins, side="right")])


class Tracer:
  """Applies a rule to a text and traces what comes out.

  The rule must change characters one by one, except that it may choose between σ and ς by the characters around (as
  `str.lower` does) and may reorder neighbours (as Unicode's decomposed forms do with marks). Such neighbours share one
  span.
  """

  def __init__(self, rule: Callable[[str], str], units: re.Pattern[str] | None = None):
    """Makes one.

    Args:
      rule: text → text.
      units: what it changes as one; each match is a unit, and together they are the whole text. Otherwise characters.
    """
    self._rule, self._units = rule, units
    self._of_unit = functools.cache(rule)

  def __call__(self, text: str) -> Traced:
    units = self._units.findall(text) if self._units else text
    parts = list(map(self._of_unit, units))
    grown = np.fromiter(map(len, parts), np.int64, len(parts))
    sizes = np.fromiter(map(len, units), np.int64, len(parts)) if self._units else np.ones(len(parts), np.int64)
    unit_ends = np.cumsum(sizes)
    result = Traced(self._rule(text), np.repeat(unit_ends - sizes, grown), np.repeat(unit_ends, grown))
    joined = "".join(parts)
    if joined != result.text:
      _share_reordered(joined, result)
    return result


def _share_reordered(joined: str, result: Traced) -> None:
  """Gives characters that stand in another order than one by one the span of all that changed places with them."""
  before, after = joined.replace("ς", "σ"), result.text.replace("ς", "σ")
  assert len(before) == len(after), (joined, result.text)
  begin, missing = 0, Counter[str]()
  for place, (one, other) in enumerate(zip(before, after, strict=True)):
    if one != other:
      missing[one] += 1
      missing[other] -= 1
    if not any(missing.values()):
      if begin < place:
        result.begins[begin : place + 1] = result.begins[begin]
        result.ends[begin : place + 1] = result.ends[place]
      begin = place + 1
  assert begin == len(after), (joined, result.text)


def trimmed(text: str, blank: Callable[[str], bool], spans: np.ndarray, spaces: np.ndarray) -> np.ndarray:
  """Spans that begin and end with visible characters; one of blanks alone stays as it is.

  A visible character that is in none goes to the one behind it: the tokenizers library counts the last character of
  two that are replaced by one.

  Args:
    text: as given.
    blank: whether a character is a space, or read as one or as nothing.
    spans: int64 [T, 2].
    spaces: bool [T]; which tokens are spaces alone. One that was put before a text becomes empty.

  Returns:
    int64 [T, 2].
  """
  visible = ~np.fromiter(map(blank, text), bool, len(text))
  places = np.flatnonzero(visible)
  before = np.concatenate([[0], np.cumsum(visible)])  # visible characters before each place
  first, last = before[spans].T
  some = first < last
  result = spans.copy()
  result[some, 0] = places[first[some]]
  result[some, 1] = places[last[some] - 1] + 1
  put = spaces.copy()
  put[:-1] &= some[:-1] | (spans[:-1, 1] > spans[1:, 0])  # it has visible characters, or the next one's
  put[-1:] &= some[-1:]
  put[1:] &= result[:-1, 1] <= result[1:, 0]
  result[put, 1] = result[put, 0]
  reach = np.arange(len(text) + 1)  # of a span that begins here
  for place in np.flatnonzero(visible & ~_covered(len(text), result)):
    if not _joins(text[place]):
      reach[place + 1] = reach[place]
  begins, ends = result.T
  return np.stack([reach[begins], np.where(begins < ends, ends, reach[ends])], axis=1)


def with_marks(text: str, spans: np.ndarray) -> np.ndarray:
  """Spans, int64 [T, 2], each with the combining marks behind it that are in none.

  A rule dropped these accents, or the library counts the first character of those that it composes. They are part of
  the character before, and a span that ends between would read wrong.
  """
  if text.isascii():
    return spans
  reach = np.arange(len(text) + 1)  # of a span that ends here
  for place in np.flatnonzero(~_covered(len(text), spans))[::-1]:
    if place and _joins(text[place]) and not text[place - 1].isspace():
      reach[place] = reach[place + 1]
  begins, ends = spans.T
  return np.stack([np.where(begins < ends, begins, reach[begins]), reach[ends]], axis=1)


def _joins(character: str) -> bool:
  """Whether a character goes on with the one before: a combining mark, or a Hangul syllable's vowel or last letter."""
  return unicodedata.category(character).startswith("M") or "\u1160" <= character <= "\u11ff"


def _covered(length: int, spans: np.ndarray) -> np.ndarray:
  """Which of a text's characters are in a span."""
  steps = np.zeros(length + 1, np.int64)
  np.add.at(steps, spans[:, 0], 1)
  np.add.at(steps, spans[:, 1], -1)
  return np.cumsum(steps)[:-1] > 0
