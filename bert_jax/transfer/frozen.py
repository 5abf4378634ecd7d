"""Frozen features: the encoder as it is, read once, and a linear model over them as the head of a model."""

import dataclasses

import numpy as np

from bert_jax.data.examples import Task
from bert_jax.data.labelled import Labelled
from bert_jax.inference.model import Model
from bert_jax.models.family import architecture_of
from bert_jax.transfer import features, linear
from bert_jax.transfer.kinds.base import Kind


def fit(start: Model, kind: Kind, task: Task, train: Labelled, dev: Labelled, max_tokens: int) -> Model:
  """A model whose encoder is that of `start`, and whose head is fitted to its features of the training examples.

  A head over texts reads the mean over a text's vectors, one over words the vector of a word's first token.

  Raises:
    ValueError: the kind has no linear head, or the architecture has a layer before it; scikit-learn is not installed.
  """
  units = kind.units(train, dev)
  if units is None or kind.name == "multiple_choice":
    raise ValueError(f"--way=frozen has no head for {kind.name}; take --way=full")
  if units.of == "words" and architecture_of(start.config).token_layer is not None:
    raise ValueError(
      f"{start.config.kind} has a layer of its own before its tags, which is not fitted; take --way=full"
    )
  of = features.of_encoder(start, max_tokens)
  read = of.of_texts if units.of == "texts" else of.of_words
  assert read is not None
  found, _ = read(units.train, [])
  layer = linear.fit(units.problem, found, units.targets)
  head = {"kernel": layer.kernel.astype(np.float32), "bias": layer.bias.astype(np.float32)}
  params = {"encoder": start.params["encoder"], "classifier": head}
  words = f"{task.name}: {len(train)} examples, the encoder frozen"
  model = start.with_head(task.objective, params, task.classes, words)
  return dataclasses.replace(model, max_tokens=max_tokens)
