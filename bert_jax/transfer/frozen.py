"""Frozen features: the encoder as it is, read once, and a logistic regression over the mean of a text's vectors.

N texts, D hidden size, C classes.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from bert_jax import console
from bert_jax.architectures import EncoderConfig
from bert_jax.data.frames import frame_of
from bert_jax.data.tasks import LabelledTexts, Task, require_sklearn
from bert_jax.inference import windows
from bert_jax.inference.model import Model
from bert_jax.models import networks
from bert_jax.models.encoder import text_mean
from bert_jax.models.inputs import Inputs
from bert_jax.objectives.classification import NAME

STRENGTHS = (0.01, 0.1, 1.0)  # inverse, as scikit-learn's C; a part of the training texts picks one
_PICKING_SHARE = 0.2


def fit(start: Model, task: Task, max_tokens: int, batch_size: int = 32) -> Model:
  """A classifier whose encoder is that of `start`, and whose layer is fitted to the frozen features of the task.

  Features are standardized for the fit; their means and deviations go into the layer.

  Raises:
    ValueError: scikit-learn is not installed.
  """
  require_sklearn()
  from sklearn.linear_model import LogisticRegression
  from sklearn.model_selection import train_test_split

  features = mean_vectors(start, task.train, batch_size)
  center, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
  features, labels = (features - center) / spread, task.train.labels

  def fitted(strength: float, x: np.ndarray, y: np.ndarray) -> Any:
    return LogisticRegression(C=strength, max_iter=1000).fit(x, y)

  best = STRENGTHS[1]  # where a class has too few texts for both parts
  if np.bincount(labels).min() * _PICKING_SHARE >= 1:
    parts: Any = train_test_split(features, labels, test_size=_PICKING_SHARE, random_state=0, stratify=labels)
    best = max(STRENGTHS, key=lambda strength: fitted(strength, parts[0], parts[2]).score(parts[1], parts[3]))
  final = fitted(best, features, labels)
  weights, bias = final.coef_.T, final.intercept_  # [D, C] and [C]; of two classes, those of the second alone
  if len(task.classes) == 2:
    weights, bias = np.concatenate([-weights / 2, weights / 2], axis=1), np.concatenate([-bias / 2, bias / 2])
  kernel = weights / spread[:, None]
  layer = {"kernel": kernel.astype(np.float32), "bias": (bias - center @ kernel).astype(np.float32)}
  return dataclasses.replace(
    start,
    network=NAME,
    params={"encoder": start.params["encoder"], "classifier": layer},
    source={name: value for name, value in start.source.items() if name != "problem_type"},  # of another head
    num_classes=len(task.classes),
    class_names=task.classes,
    classifier_pooling="mean",
    max_tokens=max_tokens,
    finetuned=f"{task.name}: {len(task.train.labels)} texts of {len(task.classes)} classes, the encoder frozen",
  )


def mean_vectors(model: Model, texts: LabelledTexts, batch_size: int) -> np.ndarray:
  """The mean over each text's vectors, special tokens included: float32 [N, D]."""
  lengths = texts.attention_mask.sum(axis=1)
  found = np.zeros((len(lengths), model.config.hidden_size), np.float32)
  frame, pad_id = frame_of(model.config), model.require_tokenizer().pad_id
  run, params = _run(model.config), {"encoder": model.device_params["encoder"]}
  with console.progress_bar(len(lengths), "text") as bar:
    for size, length, indices in windows.batches(lengths, batch_size, model.config.longest_input):
      seen = [texts.attention_mask[i] for i in indices]
      rows = [texts.token_ids[i][mask] for i, mask in zip(indices, seen, strict=True)]
      kinds = [texts.segment_ids[i][mask] for i, mask in zip(indices, seen, strict=True)]
      inputs = Inputs.of(frame.batch(rows, size, length, pad_id, kinds))
      found[indices] = np.asarray(run(params, inputs))[: len(indices)]
      bar.update(len(indices))
  return found


@functools.cache
def _run(config: EncoderConfig):
  """(params, inputs) → [B, D]."""
  network = networks.build("encoder", config, scan_layers=True)

  def run(params: Any, inputs: Inputs) -> jax.Array:
    outputs: Any = network.apply({"params": params}, inputs)
    return text_mean(outputs["hidden"], inputs.attention_mask)

  return jax.jit(run)
