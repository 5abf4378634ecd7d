"""The logits of a task's head for texts and for pairs of texts.

N texts, B rows of a batch, T tokens, C classes, A answers to choose from.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.architectures import EncoderConfig
from bert_jax.data.frames import Frame, frame_of
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import windows
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

Text = str | tuple[str, str]
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
    return _logits(model, [_checked(text, number) for number, text in enumerate(texts)], batch_size)
  counts = {len(answers) if isinstance(answers, list) else 0 for answers in texts}
  if len(counts) > 1 or 0 in counts:
    raise ValueError("a model of multiple choice takes, for each question, a list of answers; all are of one length")
  flat = [_checked(answer, number) for number, answers in enumerate(texts) for answer in answers]
  return _logits(model, flat, batch_size).reshape(len(texts), *counts or (0,))


def _checked(text: Any, number: int) -> Text:
  if isinstance(text, str) or (isinstance(text, tuple) and [type(part) for part in text] == [str, str]):
    return text
  raise ValueError(f"text {number} must be a str, or a tuple of two. Got {text!r:.80}")


def _logits(model: "Model", texts: list[Text], batch_size: int) -> Any:
  tokenizer, most, frame = model.require_tokenizer(), model.config.longest_input, frame_of(model.config)
  rows = list(framed(texts, frame, tokenizer))
  lengths = [len(token_ids) for token_ids, _ in rows]
  if most is not None and max(lengths, default=0) > most:
    number = int(np.argmax(lengths))
    raise ValueError(f"text {number} has {lengths[number]} tokens, and the model has {most} positions; shorten it")
  found = [np.zeros(0, np.float32)] * len(rows)
  run, params = _run(model.config, model.network, model.num_classes, model.classifier_pooling), model.device_params
  for size, length, indices in windows.batches(lengths, batch_size, most):
    some = [rows[i] for i in indices]
    batch = frame.batch([ids for ids, _ in some], size, length, tokenizer.pad_id, [kinds for _, kinds in some])
    scores = np.asarray(run(params, Inputs.of(batch)))
    for row, index in enumerate(indices):
      found[index] = scores[row][batch["attention_mask"][row]] if model.network in _OF_TOKENS else scores[row]
  if model.network in _OF_TOKENS:
    return found
  return np.array(found, np.float32).reshape(len(found), model.num_classes if model.network != "multiple_choice" else 1)


def framed(texts: list[Text], frame: Frame, tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Token ids with special tokens, and segment ids, for each text: int32 [T] each."""
  flat = [part for text in texts for part in ((text,) if isinstance(text, str) else text)]
  parts = iter([ids for ids, _ in tokenizer.encode(flat)])
  for text in texts:
    if isinstance(text, str):
      token_ids = frame.text(next(parts), tokenizer)
      yield token_ids, frame.segments(token_ids)
    else:
      yield frame.pair(next(parts), next(parts), tokenizer)


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
