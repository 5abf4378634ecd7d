"""Accuracy by the number of labels, of pretrained encoders and of what they have to beat.

Every way of classifying sees the same labelled texts of a draw, and is tested on the same held-out texts; more labels
include the fewer ones.
"""

import dataclasses
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging
from etils import epath

from bert_jax import records, settings
from bert_jax.config import Config
from bert_jax.data import labelled, tables
from bert_jax.data.examples import Task
from bert_jax.data.frames import frame_of
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.data.tasks import load_task, require_sklearn, token_ids
from bert_jax.inference.model import Model
from bert_jax.interop.params import fingerprint
from bert_jax.training.layout import Layout
from bert_jax.transfer import features, few_labels
from bert_jax.transfer.baselines import majority_accuracy, tfidf_accuracy, untrained
from bert_jax.transfer.finetuning import finetune, transfer_settings
from bert_jax.transfer.kinds import KINDS
from bert_jax.transfer.kinds.base import Reading

FROZEN, TUNED, SCRATCH = "frozen", "fine-tuned", "not pretrained"
WORDS = "word vectors"
_TEST_SHARE = 0.3  # of a file of the user's, held out
Vectors = defaultdict[str, dict[str, np.ndarray]]  # way → text → its vector


@dataclasses.dataclass(frozen=True)
class Point:
  """One accuracy.

  Attributes:
    task: its name.
    labels: of each class.
    draw: which texts are labelled.
    way: who classifies, such as "bert, fine-tuned" or "TF-IDF".
    accuracy: share of the test texts that are labelled right.
    test_texts: how many there are.
  """

  task: str
  labels: int
  draw: int
  way: str
  accuracy: float
  test_texts: int


def measure(
  models: Mapping[str, Model],
  config: Config,
  tasks: Sequence[str],
  labels: Sequence[int],
  draws: int,
  layout: Layout,
  workdir: epath.PathLike,
  with_tuning: bool = True,
) -> list[Point]:
  """All points, from `workdir` where they were measured before.

  Args:
    models: by name; the first one's network is the one that is not pretrained.
    config: `data` gives the demo's tasks, `transfer` says how to fine-tune.
    tasks: names of the source's tasks, and files (CSV, TSV, JSON lines) with the columns text and label.
    labels: of each class; a number that a class of a task does not have is left out for it, and said.
    draws: of labelled texts.
    layout: the devices.
    workdir: for checkpoints and what is measured.
    with_tuning: whether the networks are fine-tuned too, which takes most of the time.

  Raises:
    ValueError: there is no such task, or a file cannot be read; scikit-learn is not installed.
  """
  require_sklearn()
  workdir = epath.Path(workdir)
  # Never above the positions that a model has.
  most = min(
    [config.transfer.max_seq_len, *(m.config.longest_input for m in models.values() if m.config.longest_input)]
  )
  config = dataclasses.replace(config, transfer=dataclasses.replace(config.transfer, max_seq_len=most))
  path = workdir / "points.json"
  known = {
    row["key"]: row["accuracy"] for row in (records.read_json(path, "measured again") or {"points": []})["points"]
  }
  points: list[Point] = []
  vectors: Vectors = defaultdict(dict)
  for name in tasks:
    for count in labels:
      for draw in range(draws):
        made = _tasks_of(name, models, config, count, draw)
        if made is None:
          break
        some = next(iter(made.values()))
        for way, accuracy in _ways(models, made, config, draw, layout, workdir / "finetuning", vectors).items():
          if way.endswith(f", {TUNED}") and not with_tuning:
            continue
          key = f"{some.name}, {count} labels, draw {draw}, {way}, {_asked(way, models, made, config)}"
          if key not in known:
            known[key] = accuracy()
            rows = [{"key": one, "accuracy": value} for one, value in known.items()]
            records.write_json(path, {"points": rows})
          points.append(Point(some.name, count, draw, way, known[key], len(some.test)))
        logging.info("%s, %d labels a class, draw %d of %d", some.name, count, draw + 1, draws)
  return points


def _asked(way: str, models: Mapping[str, Model], made: Mapping[str, Task], config: Config) -> str:
  """What a point depends on beside its name."""
  name = way.split(", ")[0]
  model = models.get(name)
  network = settings.fingerprint(settings.to_dict((model or next(iter(models.values()))).config))
  task = made.get(name, next(iter(made.values())))
  weights = model and fingerprint(model.params)[:16]
  return f"{network} {task.fingerprint} {weights} {sorted(transfer_settings(config).items())}"


def _ways(
  models: Mapping[str, Model],
  made: Mapping[str, Task],
  config: Config,
  draw: int,
  layout: Layout,
  folder: epath.Path,
  vectors: Vectors,
) -> dict[str, Callable[[], float]]:
  """By name, what measures an accuracy."""

  def tuned(model: Model, task: Task) -> float:
    try:
      return finetune(model, config, task, draw, layout, folder, "fine-tuning").accuracy
    finally:
      shutil.rmtree(folder, ignore_errors=True)

  def linear(way: str, task: Task, model: Callable[[], Model], vectors_of: Callable[..., np.ndarray]) -> float:
    """Of a linear model over vectors of whole texts; those that are known are not made again."""
    known, texts = vectors[way], [*task.train.texts, *task.test.texts]
    if new := [text for text in dict.fromkeys(texts) if text not in known]:
      reader = model()
      ids = token_ids(new, reader.require_tokenizer(), language)
      known.update(zip(new, vectors_of(reader, ids), strict=True))
    found = few_labels.balanced(np.stack([known[text] for text in texts]))
    train, test = found[: len(task.train)], found[len(task.train) :]
    return float(np.mean(few_labels.predicted(train, task.train.classes, test) == task.test.classes))

  def three(name: str, model: Callable[[], Model], task: Task, made_for: str) -> dict[str, Callable[[], float]]:
    frozen, words = (f"{name}, {how}" for how in (FROZEN, WORDS))
    return {
      f"{name}, {TUNED}": lambda: tuned(model(), task),
      frozen: lambda: linear(frozen + made_for, task, model, few_labels.frozen_features),
      words: lambda: linear(words + made_for, task, model, word_means),
    }

  language = config.data.language
  found: dict[str, Callable[[], float]] = {}
  for name, model in models.items():
    found |= three(name, lambda model=model: model, made[name], "")
  first, task = next(iter(models.values())), next(iter(made.values()))
  found |= three(SCRATCH, lambda: untrained(first, draw), task, f", draw {draw}")
  cut = (frame_of(first.config), first.require_tokenizer(), config.transfer.max_seq_len)
  found["TF-IDF"] = lambda: tfidf_accuracy(task)
  found["TF-IDF, what fine-tuning reads"] = lambda: tfidf_accuracy(task, cut)
  found["majority"] = lambda: majority_accuracy(task)
  return found


def word_means(model: Model, texts: Sequence[np.ndarray]) -> np.ndarray:
  """The mean of the encoder's word vectors over each text, what is left of it without any context: float32 [N, D].

  Args:
    texts: their token ids, without special ones.
  """
  table = features.word_table(model)
  return np.stack([table[ids].mean(axis=0) if len(ids) else 0 * table[0] for ids in texts])


# ---- tasks ----


def _tasks_of(name: str, models: Mapping[str, Model], config: Config, count: int, draw: int) -> dict[str, Task] | None:
  """The task as each model reads it; None where a class has fewer labels."""
  transfer = dataclasses.replace(config.transfer, labels_per_class=count)
  if not name.endswith(tables.SUFFIXES):
    try:
      return {
        key: load_task(name, config.data, transfer, model.require_tokenizer(), draw, frame_of(model.config))
        for key, model in models.items()
      }
    except ValueError as error:
      if "labels_per_class" not in str(error):
        raise
      logging.warning("%s", error)
      return None
  kind = KINDS["classification"]
  train, test = labelled.hold_out(kind.read(name, Columns(), training=True), _TEST_SHARE)
  few = _few(train, count, draw)
  if few is None:
    logging.warning("%s: a class has fewer than %d labels; that number is left out", name, count)
    return None
  # Any of them, for a file may be sorted by its labels.
  test = test.part(np.sort(np.random.default_rng(0).permutation(len(test))[: transfer.max_test_texts]))
  stem, length, pooling = os.path.basename(name), transfer.max_seq_len, transfer.pooling
  return {key: kind.prepare(stem, few, test, Reading.of(model, length, pooling)).task for key, model in models.items()}


def _few(train: Labelled, count: int, draw: int) -> Labelled | None:
  """As many of each class, in an order of the draw's; None where a class has fewer."""
  order = np.random.default_rng(draw).permutation(len(train))
  chosen: list[int] = []
  for name in labelled.classes_of(train.labels):
    of_class = [int(i) for i in order if train.labels[i] == name]
    if len(of_class) < count:
      return None
    chosen += of_class[:count]
  return train.part(np.array(chosen))
