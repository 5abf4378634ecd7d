"""What a task's head predicts. N texts, C classes.

What each head is asked and what it answers:
  sequence_classification   a text or a pair     `Prediction`, `Labels` or `Value`, by the model's `problem`
  token_classification      a text, or its words `Tags` (see `tags.py`)
  question_answering        (question, passage)  `Answer` (see `answers.py`)
  multiple_choice           a list of texts or pairs to choose from   `Choice`
  encoder                   a pair of texts      `Value`, the cosine of their vectors
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import logging

from bert_jax.data.frames import Text, encode, frame_of
from bert_jax.inference import answers, scores, tags

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

ENCODERS = ("encoder", "pooled_encoder")


class Prediction(NamedTuple):
  """What a classifier says of a text.

  Attributes:
    label: the likeliest class.
    probability: of that class.
    probabilities: of each class, in the order of the model's `class_names`; float32, they sum to 1.
  """

  label: str
  probability: float
  probabilities: np.ndarray


class Labels(NamedTuple):
  """What a classifier of any number of labels says of a text.

  Attributes:
    labels: those whose probability is above a half, the likeliest first.
    probabilities: of each label, in the order of the model's `class_names`; float32, each by itself.
  """

  labels: tuple[str, ...]
  probabilities: np.ndarray


class Value(NamedTuple):
  """A number: what a regression predicts, or a cosine."""

  value: float


class Choice(NamedTuple):
  """Which of several texts fits.

  Attributes:
    index: the likeliest, from 0.
    probability: of that one.
    probabilities: of each; float32, they sum to 1.
  """

  index: int
  probability: float
  probabilities: np.ndarray


def predict(model: "Model", texts: Sequence[Any], batch_size: int) -> list[Any]:
  """See `Model.predict`."""
  of_head = {
    "sequence_classification": _classified,
    "token_classification": tags.predict,
    "question_answering": answers.predict,
    "multiple_choice": _chosen,
    **dict.fromkeys(ENCODERS, _compared),
  }
  if model.network not in of_head:
    raise ValueError(
      f"the model has the head {model.network}, which predicts nothing; fine-tune it for a task (bert-jax finetune), or"
      f" open it with one of the heads {', '.join(of_head)}: bert_jax.load(…, head=…). `logits` and `fill_mask` ask"
      " others"
    )
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size} must be at least 1")
  return of_head[model.network](model, list(texts), batch_size) if texts else []


def _logits(model: "Model", texts: Sequence[Text], batch_size: int) -> np.ndarray:
  """[N, C]; texts longer than those that the head was fine-tuned on are cut."""
  most = model.max_tokens or model.config.longest_input
  encoded = encode(texts, frame_of(model.config), model.require_tokenizer(), most)
  if encoded.cut:
    logging.info("%d of %d texts have more than %d tokens; they are cut", encoded.cut, len(texts), most)
  return np.stack(scores.of_encoded(model, encoded, batch_size))


def _classified(model: "Model", texts: list[Any], batch_size: int) -> list[Any]:
  logits = _logits(model, [scores.checked(text, number) for number, text in enumerate(texts)], batch_size)
  if model.problem == "regression":
    if model.num_classes != 1:
      raise ValueError(f"a regression with {model.num_classes} numbers has no one value; `logits` gives them all")
    return [Value(float(row[0])) for row in logits]
  names = scores.class_names(model)
  if model.problem == "multi_label":
    chances = (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    return [Labels(tuple(names[i] for i in np.argsort(-row, kind="stable") if row[i] > 0.5), row) for row in chances]
  chances = scores.softmax(logits)
  return [
    Prediction(names[place], float(row[place]), row) for place, row in zip(chances.argmax(axis=1), chances, strict=True)
  ]


def _chosen(model: "Model", questions: list[Any], batch_size: int) -> list[Choice]:
  if not all(isinstance(choices, list) and choices for choices in questions):
    raise ValueError("a model of multiple choice takes, for each question, a list of texts or pairs to choose from")
  flat = [scores.checked(choice, number) for number, choices in enumerate(questions) for choice in choices]
  logits = _logits(model, flat, batch_size)[:, 0]
  found = []
  for row in np.split(logits, np.cumsum([len(choices) for choices in questions])[:-1]):
    chances = scores.softmax(row)
    found.append(Choice(int(row.argmax()), float(chances.max()), chances))
  return found


def _compared(model: "Model", pairs: list[Any], batch_size: int) -> list[Value]:
  for number, pair in enumerate(pairs):
    if not isinstance(scores.checked(pair, number), tuple):
      raise ValueError(f"text {number} must be a tuple of two texts, whose likeness an encoder predicts; see `embed`")
  flat = [text for pair in pairs for text in pair]
  vectors = model.embed(flat, batch_size=batch_size, normalize=True, long="cut")
  return [Value(float(one @ other)) for one, other in zip(vectors[::2], vectors[1::2], strict=True)]


# ---- as JSON ----


def record(answer: Any, classes: tuple[str, ...] | None = None) -> dict[str, Any]:
  """An answer as JSON has it, with the probabilities of all `classes`, or of all texts to choose from."""
  found = answer._asdict()
  probabilities = found.pop("probabilities", None)
  if "tags" in found:
    spans = [record(span) for span in found.pop("spans")]
    chances = {} if classes is None else {"probabilities": [round(float(p), 6) for p in probabilities]}
    return {"words": list(found["words"]), "tags": list(found["tags"]), **chances, "spans": spans}
  if "text" in found and "null_margin" in found:
    found["answer"] = found.pop("text")
  if "labels" in found and len(probabilities) == 1:  # how well a passage answers a query
    found["score"] = float(probabilities[0])
  if probabilities is not None and classes is not None:
    names = classes or [str(place) for place in range(len(probabilities))]
    found["probabilities"] = {name: round(float(p), 6) for name, p in zip(names, probabilities, strict=True)}
  return {name: _rounded(value) if isinstance(value, float) else value for name, value in found.items()}


def _rounded(value: float) -> float | None:
  """To six digits; None for what JSON has no number for, such as the margin of a passage without words."""
  return round(value, 6) if math.isfinite(value) else None
