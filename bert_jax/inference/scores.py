"""The logits of a task's head for texts and for pairs of texts.

N texts, B rows of a batch, T tokens, C classes, A answers to choose from.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.architectures import EncoderConfig
from bert_jax.data.frames import Encoded, Text, encode, frame_of
from bert_jax.inference import windows
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

_OF_TEXTS = {"sequence_classification": "logits", "sentence_pairs": "pair_logits"}
_OF_TOKENS = {"token_classification": "logits", "replaced_tokens": "replaced_logits", "question_answering": ""}
ANSWERS = (*_OF_TEXTS, "multiple_choice", *_OF_TOKENS)


def logits(model: "Model", texts: Sequence[Any], batch_size: int) -> Any:
  """See `Model.logits`; texts: a list."""
  if model.network not in ANSWERS:
    raise ValueError(
      f"the model has the head {model.network}, and logits come from {', '.join(ANSWERS)}; fill_mask and embed ask"
      " the other ones, and a folder is opened with another head by bert_jax.load(…, head=…)"
    )
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size} must be at least 1")
  if model.network != "multiple_choice":
    return _logits(model, [checked(text, number) for number, text in enumerate(texts)], batch_size)
  counts = {len(answers) if isinstance(answers, list) else 0 for answers in texts}
  if len(counts) > 1 or 0 in counts:
    raise ValueError("a model of multiple choice takes, for each question, a list of answers; all are of one length")
  flat = [checked(answer, number) for number, answers in enumerate(texts) for answer in answers]
  return _logits(model, flat, batch_size).reshape(len(texts), *counts or (0,))


def of_encoded(model: "Model", encoded: Encoded, batch_size: int) -> list[np.ndarray]:
  """The logits of each text, for a head that answers for each token with a row for each token."""
  tokenizer, frame = model.require_tokenizer(), frame_of(model.config)
  found = [np.zeros(0, np.float32)] * len(encoded.token_ids)
  run = _run(model.config, model.network, model.num_classes, model.classifier_pooling)
  for size, length, indices in windows.batches(encoded.lengths, batch_size, model.config.longest_input):
    rows, kinds = ([part[i] for i in indices] for part in (encoded.token_ids, encoded.segment_ids))
    batch = frame.batch(rows, size, length, tokenizer.pad_id, kinds)
    scores = np.asarray(run(model.device_params, Inputs.of(batch)))
    for row, index in enumerate(indices):
      found[index] = scores[row][batch["attention_mask"][row]] if model.network in _OF_TOKENS else scores[row]
  return found


def checked(text: Any, number: int) -> Text:
  """A text or a pair. Raises ValueError where it is neither."""
  if isinstance(text, str) or (isinstance(text, tuple) and [type(part) for part in text] == [str, str]):
    return text
  raise ValueError(f"text {number} must be a str, or a tuple of two. Got {text!r:.80}")


def class_names(model: "Model") -> tuple[str, ...]:
  """The names of a classifier's classes; those that Hugging Face gives, where a model has none."""
  return model.class_names or tuple(f"LABEL_{number}" for number in range(model.num_classes))


def softmax(logits: np.ndarray) -> np.ndarray:
  """Probabilities over the last axis, float32, computed in float64."""
  logits = logits.astype(np.float64)
  chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return (chances / chances.sum(axis=-1, keepdims=True)).astype(np.float32)


def _logits(model: "Model", texts: list[Text], batch_size: int) -> Any:
  encoded, most = encode(texts, frame_of(model.config), model.require_tokenizer()), model.config.longest_input
  longest = int(encoded.lengths.max(initial=0))
  if most is not None and longest > most:
    number = int(np.argmax(encoded.lengths))
    raise ValueError(f"text {number} has {longest} tokens, and the model has {most} positions; shorten it")
  found = of_encoded(model, encoded, batch_size)
  if model.network in _OF_TOKENS:
    return found
  return np.array(found, np.float32).reshape(len(found), model.num_classes if model.network != "multiple_choice" else 1)


@functools.cache
def _run(config: EncoderConfig, name: str, num_classes: int, pooling: networks.ClassifierPooling):
  """(params, inputs) → [B, C]; for a head that answers for each token, [B, T] or [B, T, C]."""
  network: Any = networks.build(name, config, num_classes, pooling, scan_layers=True)

  def run(params: Any, inputs: Inputs) -> jax.Array:
    if name == "multiple_choice":
      return network.apply({"params": params}, jax.tree.map(lambda x: x[:, None], inputs))["logits"]
    outputs = network.apply({"params": params}, inputs)
    if name == "question_answering":
      return jnp.stack([outputs["start_logits"], outputs["end_logits"]], axis=-1)
    return outputs[(_OF_TEXTS | _OF_TOKENS)[name]]

  return jax.jit(run)
