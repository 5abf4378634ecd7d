"""What an adaptation is measured by, before and after, as types; and the differences, with their intervals."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from bert_jax.adaptation import new_words
from bert_jax.analysis import statistics
from bert_jax.config import Config
from bert_jax.data.corpus import Corpus
from bert_jax.results import ByDocument, Draws, Facts, FewLabels

DOMAIN, GENERAL = "domain", "general"
PLAIN = ", old vocabulary"  # of a model whose vocabulary was extended, as it came
WAYS = {"random": "random weights", "tfidf": "TF-IDF", "majority": "commonest class"}  # what a task is measured beside


@dataclasses.dataclass(frozen=True)
class Loss:
  """The loss at [MASK] on held-out text, with frozen masks.

  Attributes:
    by_document: nats, of the model and of the best predictor without context, and how many tokens were predicted.
    tokens_per_word: of the held-out documents.
  """

  by_document: ByDocument
  tokens_per_word: float

  @classmethod
  def of(cls, by_document: ByDocument, config: Config, corpus: Corpus) -> "Loss":
    return cls(by_document, new_words.tokens_per_word(corpus, config.data.eval_fraction))

  @property
  def nats(self) -> float:
    """A token."""
    return sum(self.by_document.nats) / sum(self.by_document.count)

  @property
  def context_free(self) -> float:
    """What the best predictor without context reaches on the same places, in nats a token."""
    return sum(self.by_document.trivial_nats) / sum(self.by_document.count)


@dataclasses.dataclass(frozen=True)
class Measured:
  """One model's figures.

  Attributes:
    losses: by DOMAIN and GENERAL, with PLAIN behind the name where it is of the vocabulary as it came.
    tasks: few-label accuracy of the frozen encoder (`pretrained`), and of what it is measured beside.
  """

  losses: dict[str, Loss]
  tasks: FewLabels


@dataclasses.dataclass(frozen=True)
class Adapted:
  """OUTPUT/adapted.json: what came of an adaptation.

  Attributes:
    model, source, general: what was adapted, to what, and the text it was also measured on.
    before, after: training; tasks before it are of the model as it came.
    new_head: whether the head that predicts tokens started at random.
    new_words: that the vocabulary was extended by.
    steps, tokens, predicted_tokens: of training.
    facts: of the text.
    train_seconds: without measuring; None where it is not known.
    config: of the run; hardware, versions, git_commit: what it ran on.
    notes: what was left out.
  """

  model: str
  source: str
  general: str | None
  before: Measured
  after: Measured
  new_head: bool
  new_words: tuple[str, ...]
  steps: int
  tokens: int
  predicted_tokens: int
  facts: Facts
  train_seconds: float | None
  hardware: str
  config: dict[str, Any]
  versions: dict[str, str]
  git_commit: str | None
  notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Difference:
  """After less before: its mean, the ends of its 95 % interval (None where there is none), and what that shows."""

  mean: float
  ends: tuple[float, float] | None
  verdict: Literal["better", "worse", "not shown"]


def of_losses(before: Loss, after: Loss) -> Difference:
  """In nats a token, over the same tokens; the interval is over held-out documents."""
  one, other = before.by_document, after.by_document
  assert (one.documents, one.count) == (other.documents, other.count), "figures of other tokens"
  nats = np.subtract(other.nats, one.nats)
  error = statistics.documents_error(nats.tolist(), one.count)
  return _difference(float(nats.sum() / sum(one.count)), [error] if error else [], higher_is_better=False)


def of_draws(before: Draws, after: Draws) -> Difference:
  """In shares of the test texts; the interval is over draws of labelled texts and over test texts, both paired."""
  by_draw = np.subtract(after.by_draw, before.by_draw)
  by_text = np.subtract(after.by_text, before.by_text) / len(by_draw)
  draws, texts = statistics.draws_error(by_draw.tolist()), statistics.texts_error(by_text.tolist())
  return _difference(float(by_draw.mean()), [error for error in (draws, texts) if error], higher_is_better=True)


def _difference(mean: float, errors: Sequence[statistics.Error], higher_is_better: bool) -> Difference:
  if not errors:
    return Difference(mean, None, "not shown")
  half = statistics.half_width(errors, 1 - statistics.CONFIDENCE)
  found: Any = statistics.verdict(mean - half, mean + half, higher_is_better, margin=0.0)
  return Difference(mean, (mean - half, mean + half), found)
