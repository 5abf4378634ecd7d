"""What the app answers: each kind of request, for a batch of requests to one model."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bert_jax.app import schema
from bert_jax.app.schema import Kind
from bert_jax.inference import guesses, masks, predictions, readings, scores, views
from bert_jax.inference.model import Model

Answer = dict[str, Any]


def _tokens(model: Model, asked: Sequence[schema.AskTokens]) -> list[Answer]:
  return [readings.read(model, one.text, one.pair).data() for one in asked]


def _masks(model: Model, asked: Sequence[schema.AskMasks]) -> list[Answer]:
  read = [readings.read(model, one.text) for one in asked]
  found = guesses.several(
    model, [(reading, sorted(set(one.words)), one.top_k) for one, reading in zip(asked, read, strict=True)]
  )
  return [views.MasksView(reading, words).data() for reading, words in zip(read, found, strict=True)]


def _attention(model: Model, asked: Sequence[schema.AskAttention]) -> list[Answer]:
  return [views.AttentionView.of(model, readings.read(model, one.text, one.pair)).data() for one in asked]


def _predict(model: Model, asked: Sequence[schema.AskPredictions]) -> list[Answer]:
  texts = [tuple(text) if isinstance(text, list) else text for one in asked for text in one.texts]
  names = scores.class_names(model)
  found = iter(predictions.record(answer, names) for answer in model.predict(texts))
  return [{"predictions": [next(found) for _ in one.texts]} for one in asked]


def _similarity(model: Model, asked: Sequence[schema.AskSimilarity]) -> list[Answer]:
  vectors = model.embed([text for one in asked for text in one.texts], normalize=True, long="cut", progress=False)
  found, first = [], 0
  for one in asked:
    some = vectors[first : first + len(one.texts)]
    first += len(one.texts)
    found.append({"matrix": np.round(np.clip(some @ some.T, -1, 1), 4).tolist()})
  return found


KINDS: dict[Kind, Callable[[Model, Any], list[Answer]]] = {
  "tokens": _tokens,
  "masks": _masks,
  "attention": _attention,
  "predict": _predict,
  "similarity": _similarity,
}
_PREDICT = ("sequence_classification", "token_classification", "question_answering")


def kinds_of(model: Model) -> list[Kind]:
  """The kinds of request that a model answers."""
  kinds: list[Kind] = ["tokens", "attention", "similarity"]
  if model.network in masks.FILLERS:
    kinds.insert(0, "masks")
  if model.network in _PREDICT:
    kinds.insert(0, "predict")
  return kinds


def about(name: str, model: Model) -> schema.Served:
  """What a visitor should know of a model."""
  reads = {"question_answering": "question"}.get(model.network, "text") if model.network in _PREDICT else None
  return schema.Served(
    name=name,
    about=model.describe(),
    answers=kinds_of(model),
    reads=reads,  # type: ignore[arg-type]
    classes=list(model.class_names),
  )
