"""Tags of words, and what they mark: names, parts of speech. W words."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bert_jax.data import tag_schemes, words
from bert_jax.data.frames import Encoded, frame_of
from bert_jax.inference import scores

if TYPE_CHECKING:
  from bert_jax.inference.model import Model


class Span(NamedTuple):
  """Something that a text names.

  Attributes:
    label: what kind of thing.
    text: the words.
    start, stop: in the text's characters.
    probability: the mean of its words' tags'.
  """

  label: str
  text: str
  start: int
  stop: int
  probability: float


class Tags(NamedTuple):
  """What a tagger says of a text.

  Attributes:
    words: as they were given, or as the tokenizer finds them in a text.
    tags: of each word.
    probabilities: of each tag; float32 [W].
    spans: what the tags mark, where they are of a scheme such as B-PER, I-PER, O; else each word.
  """

  words: tuple[str, ...]
  tags: tuple[str, ...]
  probabilities: np.ndarray
  spans: tuple[Span, ...]

  def parts(self, lengths: Sequence[int]) -> list["Tags"]:
    """Those of the parts of a text that was given in words, each part as if it were a text; lengths: in words."""
    found, first = [], 0
    for length in lengths:
      of_part = slice(first, first + length)
      text, places = words.joined(self.words[of_part])
      found.append(_tags(text, places, list(self.tags[of_part]), self.probabilities[of_part]))
      first += length
    return found


def predict(model: "Model", texts: Sequence[Any], batch_size: int) -> list[Tags]:
  """Tags of texts, each a str or a list of words.

  Words of a str are those that the tokenizer splits it into: a punctuation mark is one by itself. A text longer than
  those that the head was fine-tuned on is read in windows that overlap.
  """
  tokenizer, split = model.require_tokenizer(), []
  for number, text in enumerate(texts):
    if isinstance(text, str):
      located = tokenizer.encode_with_offsets([text])[0]
      split.append((text, _words(located.starts, located.offsets)))
    elif isinstance(text, list | tuple) and all(isinstance(word, str) for word in text):
      split.append(words.joined(text))
    else:
      raise ValueError(f"text {number} must be a str, or a list of words. Got {text!r:.80}")
  most = model.max_tokens or model.config.longest_input or 512
  windows = words.cut(split, frame_of(model.config), tokenizer, most)
  segments = [frame_of(model.config).segments(window.token_ids) for window in windows]
  logits = scores.of_encoded(model, Encoded([w.token_ids for w in windows], segments, 0), batch_size)
  names, found = scores.class_names(model), [_untagged(len(places), model) for _, places in split]
  for window, row in zip(windows, logits, strict=True):
    seen = window.words >= 0
    chances = scores.softmax(row[seen])
    tags, probabilities = found[window.example]
    for place, word in enumerate(window.words[seen]):
      tags[word] = names[int(chances[place].argmax())]
      probabilities[word] = chances[place].max()
  return [_tags(text, places, *of) for (text, places), of in zip(split, found, strict=True)]


def _words(starts: np.ndarray, offsets: np.ndarray) -> list[tuple[int, int]]:
  """Where the words of a text begin and end: from the tokens that start them, but for those of a space alone."""
  found: list[tuple[int, int]] = []
  for is_start, (begin, end) in zip(starts, offsets.tolist(), strict=True):
    if end > begin and (is_start or not found):
      found.append((begin, end))
    elif end > begin:
      found[-1] = (found[-1][0], max(end, found[-1][1]))
  return found


def _untagged(number: int, model: "Model") -> tuple[list[str], np.ndarray]:
  """Tags and probabilities of words that no token stands for."""
  return ["O" if "O" in model.class_names else ""] * number, np.zeros(number, np.float32)


def _tags(text: str, places: words.Places, tags: list[str], probabilities: np.ndarray) -> Tags:
  spans = []
  for label, first, stop in tag_schemes.spans(tags):
    start, end = places[first][0], places[stop - 1][1]
    spans.append(Span(label, text[start:end], start, end, float(probabilities[first:stop].mean())))
  return Tags(tuple(text[a:b] for a, b in places), tuple(tags), probabilities, tuple(spans))
