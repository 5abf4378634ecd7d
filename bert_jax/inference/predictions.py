"""What a classifier predicts: the likeliest class of each text, with the probability of every class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from absl import logging

from bert_jax.data.frames import Text, encode, frame_of
from bert_jax.inference import scores

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

_ONE_LABEL = "single_label_classification"  # Hugging Face's word; a config without one means the same


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


def class_names(model: "Model") -> tuple[str, ...]:
  """The names of a classifier's classes; those that Hugging Face gives, where a model has none."""
  return model.class_names or tuple(f"LABEL_{number}" for number in range(model.num_classes))


def predict(model: "Model", texts: Sequence[Text], batch_size: int) -> list[Prediction]:
  """See `Model.predict`."""
  kind = model.source.get("problem_type")
  if model.network != "sequence_classification" or model.num_classes < 2 or kind not in (None, _ONE_LABEL):
    of_kind = f" of problem_type={kind}" if kind else ""
    raise ValueError(
      f"predict answers for classifiers of texts with one label of two or more; this model is {model.network} with"
      f" {model.num_classes} outputs{of_kind}. `logits` gives what its head says"
    )
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size} must be at least 1")
  texts = [scores.checked(text, number) for number, text in enumerate(texts)]
  most = model.max_tokens or model.config.longest_input
  encoded = encode(texts, frame_of(model.config), model.require_tokenizer(), most)
  if encoded.cut:
    logging.info("%d of %d texts have more than %d tokens; they are cut", encoded.cut, len(texts), most)
  if not texts:
    return []
  logits = np.stack(scores.of_encoded(model, encoded, batch_size)).astype(np.float64)
  chances = np.exp(logits - logits.max(axis=1, keepdims=True))
  chances = (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)
  names, best = class_names(model), chances.argmax(axis=1)
  return [Prediction(names[place], float(row[place]), row) for place, row in zip(best, chances, strict=True)]
