"""Documents to sentences."""

import difflib
import re
from collections.abc import Iterator

import sentencex

# The languages that sentencex has rules for; it takes any other code for English without a word.
LANGUAGES = tuple(
  "am ar bg bn ca da de el en es fi fr gu hi hy it ja kk kn ml mr my nl pa pl pt ru sk ta te uk".split()  # noqa: SIM905
)

# No sentence is longer than this, in characters: what goes on without an end (tables, logs) is cut at a space.
MAX_SENTENCE_CHARACTERS = 10_000
# Text with no line longer than this is taken to be wrapped: its single line breaks are spaces.
WRAPPED_WIDTH = 100

_BLANK_LINES = re.compile(r"\n\s*\n")


def check_language(language: str) -> None:
  """Refuses languages without rules.

  Raises:
    ValueError: with the languages that there are.
  """
  if language not in LANGUAGES:
    near = difflib.get_close_matches(language.lower().replace("_", "-").partition("-")[0], LANGUAGES, 1)
    raise ValueError(
      f"data.language={language}: there are rules for the sentences of {', '.join(LANGUAGES)}; "
      + (f"did you mean {near[0]}? For another language" if near else "for another one")
      + " give one that ends sentences and abbreviates alike; en suits many, and knows the full stops of all scripts"
    )


def split_sentences(text: str, language: str = "en") -> Iterator[str]:
  """The sentences of a document, in order, white space made single spaces.

  Paragraphs are kept apart. They are separated by blank lines; in text that is not wrapped, by every line break.
  """
  text = text.replace("\r\n", "\n").replace("\r", "\n")
  lines = text.split("\n")
  paragraphs = _BLANK_LINES.split(text) if max(map(len, lines)) <= WRAPPED_WIDTH else lines
  for paragraph in paragraphs:
    paragraph = " ".join(paragraph.split())
    if not paragraph:
      continue
    for sentence in sentencex.segment(language, paragraph):  # pyright: ignore[reportAttributeAccessIssue]
      sentence = sentence.strip()
      while len(sentence) > MAX_SENTENCE_CHARACTERS:
        cut = sentence.rfind(" ", 1, MAX_SENTENCE_CHARACTERS)
        cut = cut if cut > 0 else MAX_SENTENCE_CHARACTERS
        yield sentence[:cut]
        sentence = sentence[cut:].lstrip()
      if sentence:
        yield sentence
