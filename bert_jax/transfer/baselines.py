"""What a fine-tuned encoder has to beat: no reading, words counted, words without context, and what it was before."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from bert_jax.data.examples import Task
from bert_jax.data.frames import Frame
from bert_jax.data.labelled import Labelled
from bert_jax.data.tasks import require_sklearn
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.models import networks
from bert_jax.transfer import features, linear
from bert_jax.transfer.features import Features
from bert_jax.transfer.kinds.base import Kind, Reading, Scores

# Names as on the command line → in a table. All see the same texts and draws.
NAMES = {
  "trivial": "no reading",
  "tfidf": "TF-IDF, whole texts",
  "tfidf_cut": "TF-IDF, what the model reads",
  "word_table": "the model's word vectors, without context",
  "word2vec": "word vectors of {file}",
  "random": "random weights, frozen",
  "frozen": "the encoder, frozen",
  "scratch": "random weights, fine-tuned",
}
QUICK = ("trivial", "tfidf", "tfidf_cut", "word_table", "random", "frozen")


def chosen(names: str | None, word_vectors: str | None) -> tuple[str, ...]:
  """The baselines of a comma-separated list; without one, all but the slowest.

  Raises:
    ValueError: there is none of a name.
  """
  found = tuple(filter(None, (name.strip() for name in names.split(",")))) if names is not None else QUICK
  for name in found:
    if name not in NAMES or name == "word2vec":
      known = ", ".join(name for name in NAMES if name != "word2vec")
      raise ValueError(f"--baselines={name} is none of {known}; --word-vectors=FILE adds a file's")
  return (*found, "word2vec") if word_vectors else found


def measure(
  names: tuple[str, ...],
  start: Model,
  kind: Kind,
  train: Labelled,
  dev: Labelled,
  reading: Reading,
  seed: int,
  word_vectors: str | None = None,
) -> dict[str, Scores]:
  """The scores on `dev`, by the names of a table, of the baselines in `names` that this kind of task has.

  Args:
    start: the model before it is fine-tuned.
    seed: of random weights.
    word_vectors: a word2vec text file, for `word2vec`.

  Raises:
    ValueError: scikit-learn is not installed, or the file cannot be read.
  """
  found: dict[str, Scores] = {}
  if "trivial" in names:
    found |= {name: kind.score(dev, answers) for name, answers in kind.trivial(train, dev).items()}
  of_encoder = features.of_embedding if kind.compares else features.of_encoder
  makers: dict[str, Callable[[], Features]] = {
    "tfidf": features.of_tfidf,
    "tfidf_cut": lambda: features.of_tfidf((reading.frame, reading.tokenizer, reading.max_tokens)),
    "word_table": lambda: features.of_table(start, reading.max_tokens),
    "word2vec": lambda: features.of_word2vec(word_vectors or ""),
    "random": lambda: of_encoder(untrained(start, seed), reading.max_tokens),
    "frozen": lambda: of_encoder(start, reading.max_tokens),
  }
  for name in names:
    if name in makers:
      logging.info("baseline: %s", NAMES[name].format(file=word_vectors))
      scores = _of_features(kind, train, dev, makers[name]())
      if scores is not None:
        found[NAMES[name].format(file=word_vectors)] = scores
  return found


def untrained(model: Model, seed: int) -> Model:
  """The same encoder with random weights."""
  network = networks.build("encoder", model.config, scan_layers=True)
  params = jax.jit(lambda key: networks.init(network, "encoder", key))(jax.random.key(seed))
  return dataclasses.replace(model, network="encoder", params=params)


def _of_features(kind: Kind, train: Labelled, dev: Labelled, of: Features) -> Scores | None:
  if kind.compares:
    flat = [[text for pair in part.texts for text in pair] for part in (train, dev)]
    vectors = unit_length(of.of_texts(*flat)[1])
    return kind.score(dev, kind.compared(vectors[::2], vectors[1::2]))
  units = kind.units(train, dev)
  read: Any = of.of_texts if units is None or units.of == "texts" else of.of_words
  if units is None or read is None:
    return None
  x, y = read(units.train, units.dev)
  fitted = (linear.fit_sparse if of.sparse else linear.fit)(units.problem, x, units.targets)
  return kind.score(dev, kind.answers(fitted(y), train, dev))


def unit_length(vectors: Any) -> Any:
  """Vectors scaled to length 1; sparse ones stay so."""
  from sklearn.preprocessing import normalize

  return normalize(vectors)


# ---- of the demo's tasks -----------------------------------------------------------------------------------------


def tfidf_accuracy(task: Task, cut: tuple[Frame, Tokenizer, int] | None = None) -> float:
  """Test accuracy of TF-IDF with logistic regression, on the same labelled and held-out texts.

  Args:
    cut: see `features.of_tfidf`; without it, texts are read whole.

  Raises:
    ValueError: scikit-learn is not installed.
  """
  require_sklearn()
  x, y = features.of_tfidf(cut).of_texts(list(task.train.texts), list(task.test.texts))
  outputs = linear.fit_sparse("single_label", x, task.train.classes)(y)
  return float(np.mean(outputs.argmax(axis=1) == task.test.classes))


def majority_accuracy(task: Task) -> float:
  """Test accuracy of always naming the class that most test texts have: the most that not reading can reach."""
  return float(np.bincount(task.test.classes).max() / len(task.test))
