"""Documents to sentences."""

import re
from collections.abc import Iterator

import sentencex

# No sentence is longer than this, in characters: what goes on without an end (tables, logs) is cut at a space.
MAX_SENTENCE_CHARACTERS = 10_000
# Text with no line longer than this is taken to be wrapped: its single line breaks are spaces.
WRAPPED_WIDTH = 100

_BLANK_LINES = re.compile(r"\n\s*\n")


def split_sentences(text: str) -> Iterator[str]:
  """The sentences of a document, in order, white space made single spaces.

  Paragraphs are kept apart. They are parted by blank lines; in text that is not wrapped, by every line break.
  """
  text = text.replace("\r\n", "\n").replace("\r", "\n")
  lines = text.split("\n")
  paragraphs = _BLANK_LINES.split(text) if max(map(len, lines)) <= WRAPPED_WIDTH else lines
  for paragraph in paragraphs:
    paragraph = " ".join(paragraph.split())
    if not paragraph:
      continue
    for sentence in sentencex.segment("en", paragraph):  # pyright: ignore[reportAttributeAccessIssue]
      sentence = sentence.strip()
      while len(sentence) > MAX_SENTENCE_CHARACTERS:
        cut = sentence.rfind(" ", 1, MAX_SENTENCE_CHARACTERS)
        cut = cut if cut > 0 else MAX_SENTENCE_CHARACTERS
        yield sentence[:cut]
        sentence = sentence[cut:].lstrip()
      if sentence:
        yield sentence
