"""What a model reads, expects and looks at, to be seen: in a notebook, on a page of its own, or as plain text.

The drawing is in `page/draw.js`, which the app shares. T tokens, L layers, H heads.
"""

import abc
import base64
import dataclasses
import html
import importlib.resources
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bert_jax.inference import embedding
from bert_jax.inference.guesses import SIDES, Expected, MaskedWord
from bert_jax.inference.readings import Reading

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

MOST_TOKENS = 128  # of which attention is drawn: 144 heads are 2.4 million numbers then


def page_file(name: str) -> str:
  """A file of the drawing code: draw.js or draw.css."""
  return (importlib.resources.files("bert_jax.inference") / "page" / name).read_text(encoding="utf-8")


class _View(abc.ABC):
  """Something that draws itself; `print` gives plain text, a notebook shows the drawing."""

  _kind: str
  _height: int

  @abc.abstractmethod
  def data(self) -> dict[str, Any]:
    """What is drawn, as JSON; the app's API answers with the same."""

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the drawing as an HTML file that needs nothing else."""
    with open(path, "w", encoding="utf-8") as file:
      file.write(self._page())

  def _page(self) -> str:
    text = json.dumps(self.data(), ensure_ascii=True).replace("<", "\\u003c")  # so that no text ends the element
    return (
      '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>bert_jax</title>'
      f"<style>{page_file('draw.css')}</style></head><body><main id=root></main>"
      f'<script type="application/json" id=data>{text}</script>'
      f"<script>{page_file('draw.js')}\n"
      f"Draw.{self._kind}(document.getElementById('root'),"
      " JSON.parse(document.getElementById('data').textContent), {});</script></body></html>"
    )

  def _repr_html_(self) -> str:
    """The page in a frame of its own: its style touches no other cell, and its script reaches nothing outside."""
    return (
      f'<iframe sandbox="allow-scripts" title="{self._kind}" srcdoc="{html.escape(self._page())}"'
      f' style="width:100%;height:{self._height}px;border:0"></iframe>'
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TokensView(_View):
  """A text, or a pair, as the model reads it."""

  reading: Reading
  _kind = "tokens"

  def __repr__(self) -> str:
    return f"<TokensView: {len(self.reading.tokens)} tokens, {len(self.reading.words)} words; print() shows them>"

  def __str__(self) -> str:
    reading = self.reading
    width = max(5, *map(len, reading.tokens))
    lines = [f"{'position':>8}  {'token':{width}}  {'id':>7}  segment"]
    for place, token in enumerate(reading.tokens):
      lines.append(f"{place:8}  {token:{width}}  {reading.token_ids[place]:7}  {reading.segment_ids[place]:7}")
    return "\n".join(lines)

  @property
  def _height(self) -> int:
    return min(560, 150 + 30 * len(self.reading.tokens))

  def data(self) -> dict[str, Any]:
    return self.reading.data()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MasksView(_View):
  """What is expected in the place of each word."""

  reading: Reading
  words: list[MaskedWord]
  _kind = "masks"
  _height = 520

  def __repr__(self) -> str:
    return f"<MasksView: {len(self.words)} words, each masked by itself; print() shows what is expected there>"

  def __str__(self) -> str:
    lines = []
    for word in self.words:
      for number, piece in enumerate(word.pieces):
        part = f", token {number + 1} of {len(word.pieces)}" if len(word.pieces) > 1 else ""
        lines.append(f"{word.text}{part}")
        lines += [f"  {side:6}{_in_words(piece.expected[side])}" for side in SIDES]
    return "\n".join(lines)

  def data(self) -> dict[str, Any]:
    return self.reading.data() | {"masked": [word.data() for word in self.words]}


def _in_words(expected: Expected) -> str:
  guesses = ", ".join(f"{guess.token} {100 * guess.probability:.1f} %" for guess in expected.guesses)
  if expected.true_probability is None:
    return guesses
  return f"{guesses}  (this one {100 * expected.true_probability:.1f} %, rank {expected.true_rank:,})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AttentionView(_View):
  """What each head of each layer looks at.

  Attributes:
    reading: the row.
    probabilities: float32 [L, H, T, T]; they sum to 1 over the last axis, the tokens that are looked at.
  """

  reading: Reading
  probabilities: np.ndarray
  _kind = "attention"
  _height = 760

  @classmethod
  def of(cls, model: "Model", reading: Reading) -> "AttentionView":
    """Raises ValueError where the text has more tokens than can be drawn."""
    if len(reading.tokens) > MOST_TOKENS:
      raise ValueError(
        f"the text has {len(reading.tokens)} tokens, and attention is drawn of {MOST_TOKENS} at most; shorten it, or"
        " take the numbers: model.attentions(text)"
      )
    return cls(reading, embedding.attention(model, reading.token_ids, reading.segment_ids))

  def __repr__(self) -> str:
    layers, heads, tokens, _ = self.probabilities.shape
    return f"<AttentionView: {layers} layers of {heads} heads, {tokens} tokens; print() shows the last layer's mean>"

  def __str__(self) -> str:
    mean, tokens = self.probabilities[-1].mean(axis=0), self.reading.tokens
    width = max(map(len, tokens))
    lines = [f"What each token looks at most: the last of {len(self.probabilities)} layers, mean of its heads"]
    for token, row in zip(tokens, mean, strict=True):
      most = np.argsort(-row, kind="stable")[:3]
      lines.append(f"  {token:{width}}  " + ", ".join(f"{tokens[i]} {100 * row[i]:.0f} %" for i in most))
    return "\n".join(lines)

  def data(self) -> dict[str, Any]:
    """`weights`: of [L, H, T, T], a byte each, 255 for a probability of 1, as base64."""
    layers, heads, *_ = self.probabilities.shape
    weights = np.rint(255 * np.clip(self.probabilities, 0, 1)).astype(np.uint8).tobytes()
    drawn = {"layers": layers, "heads": heads, "weights": base64.b64encode(weights).decode()}
    return self.reading.data() | drawn
