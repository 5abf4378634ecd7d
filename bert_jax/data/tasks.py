"""Labelled texts to encoded examples for classification.

The labels are those that documents of a source carry. Texts to test on are the documents that pretraining holds out, so
no model has seen them; the few labelled ones to train on are drawn from the others.

N texts, T tokens.
"""

import dataclasses
import difflib
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bert_jax.config import DataConfig, TransferConfig
from bert_jax.data import random_bits
from bert_jax.data.corpus import is_held_out
from bert_jax.data.examples import Task, TaskExamples
from bert_jax.data.frames import CLS_FIRST, Frame
from bert_jax.data.near_duplicates import split_hashes
from bert_jax.data.sources import Document, labelled_tasks, open_source
from bert_jax.data.tokenize import Rules, hash_text, tokenize
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.objective_configs import ClassificationConfig

LENGTH_MULTIPLE = 32  # tokens: tasks with texts of about the same length share a compiled program
_LABELLED, _TESTED = 32, 33  # streams of `random_bits.bits`, apart from those of pretraining


@dataclasses.dataclass(frozen=True)
class TaskDraws:
  """A task's texts, of which many draws are labelled.

  Attributes:
    name: for messages and folders.
    classes: their names.
    texts: N, whole: those of all draws, and those to test on.
    labels: the class of each text, int32 [N].
    draws: places among `texts` of the labelled ones of each draw, by class: int64 [draws, texts of a draw].
    test: places of those to test on, int64.
  """

  name: str
  classes: tuple[str, ...]
  texts: tuple[str, ...]
  labels: np.ndarray
  draws: np.ndarray
  test: np.ndarray


def check(data: DataConfig, transfer: TransferConfig) -> None:
  """Refuses tasks that the source has no labels for, without reading it.

  Raises:
    ValueError: naming the task, and those that there are.
  """
  known = labelled_tasks(data)
  for name in task_names(transfer):
    if not known:
      raise ValueError(
        f"transfer.tasks={name} needs labelled texts, and data.source={data.source} has none; set data.source=demo, or"
        " leave transfer.tasks empty"
      )
    if name not in known:
      near = difflib.get_close_matches(name, known, 1)
      raise ValueError(
        f"transfer.tasks={name}: data.source={data.source} has the tasks {', '.join(known)}"
        + (f"; did you mean {near[0]}?" if near else "")
      )


def check_whole(data: DataConfig, transfer: TransferConfig) -> None:
  """Raises before pretraining what `load_task` and the baselines would raise after it; it reads the text once.

  Raises:
    ValueError: see `check`, `load_task` and `require_sklearn`.
  """
  check(data, transfer)
  for name in task_names(transfer):
    _chosen(name, data, transfer, [0])  # how many texts there are does not depend on the draw
    require_sklearn()


def require_sklearn() -> None:
  """Raises ValueError where scikit-learn, which the TF-IDF baseline takes, is not installed."""
  try:
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401
  except ImportError as error:
    raise ValueError(
      'the TF-IDF baseline of transfer.tasks needs scikit-learn: pip install "bert_jax[demo]", or leave transfer.tasks'
      " empty"
    ) from error


def task_names(transfer: TransferConfig) -> list[str]:
  """The names in `transfer.tasks`, each once."""
  return list(dict.fromkeys(filter(None, (name.strip() for name in transfer.tasks.split(",")))))


def load_task(
  name: str, data: DataConfig, transfer: TransferConfig, tokenizer: Tokenizer, seed: int, frame: Frame = CLS_FIRST
) -> Task:
  """A task whose labels the source's documents carry.

  Args:
    name: such as wiki_topics.
    data: the source, and the share of documents that is held out; `train_fraction` is of no effect.
    transfer: labels of a class, length, and the size of the test set.
    tokenizer: of the model.
    seed: which texts are labelled. The test set does not depend on it.
    frame: how the model reads a text.

  Raises:
    ValueError: the source has no such task, a class has too few texts, or no text is held out.
  """
  documents, labels, classes, (train,), test = _chosen(name, data, transfer, [seed])
  rows = [*train, *test]
  texts = [documents[i].text for i in rows]
  encoded = encode(texts, tokenizer, transfer.max_seq_len, data.language, frame)

  def part(rows_of: slice, indices: Sequence[int]) -> TaskExamples:
    return TaskExamples(
      **{name: array[rows_of] for name, array in encoded.items()},
      labels={"labels": np.array([classes.index(labels[i]) for i in indices], np.int32)},
      texts=tuple(documents[i].text for i in indices),
    )

  objective = ClassificationConfig(len(classes), transfer.pooling)
  return Task(name, objective, classes, part(slice(len(train)), train), part(slice(len(train), None), test))


def load_draws(name: str, data: DataConfig, transfer: TransferConfig) -> TaskDraws:
  """A task's texts for `transfer.draws` draws: draw d labels the texts that `load_task` labels with d as its seed.

  Raises:
    ValueError: see `load_task`.
  """
  documents, labels, classes, draws, test = _chosen(name, data, transfer, range(transfer.draws))
  used = sorted({*test, *(i for draw in draws for i in draw)})
  return TaskDraws(
    name=name,
    classes=classes,
    texts=tuple(documents[i].text for i in used),
    labels=np.array([classes.index(labels[i]) for i in used], np.int32),
    draws=np.searchsorted(used, draws),
    test=np.searchsorted(used, test),
  )


def _chosen(
  name: str, data: DataConfig, transfer: TransferConfig, seeds: Iterable[int]
) -> tuple[list[Document], list[str], tuple[str, ...], list[list[int]], list[int]]:
  """A task's documents, labels and classes, and which documents are to train (for each seed) and to test on.

  Raises as `load_task`.
  """
  documents, groups = _documents_of(name, data) if data.source != "demo" else _documents_of_demo(name, data)
  labels = [str(document.label).partition("/")[2] for document in documents]
  classes = tuple(sorted(set(labels)))
  hashes = np.array([hash_text(document.text) for document in documents], np.uint64)
  held_out = is_held_out(groups, data.eval_fraction)
  order = np.argsort(random_bits.bits(0, _TESTED, hashes), kind="stable")
  test = order[held_out[order]][: transfer.max_test_texts]
  if not len(test):
    raise ValueError(
      f"transfer.tasks={name}: data.eval_fraction={data.eval_fraction} holds out none of its {len(documents)} texts to"
      " test on; raise it, or leave the task out"
    )
  few = transfer.labels_per_class
  train = [_few_of_each_class(labels, hashes, ~held_out, classes, few, seed, name) for seed in seeds]
  return documents, labels, classes, train, test.tolist()


@functools.lru_cache(maxsize=4)
def _documents_of_demo(name: str, data: DataConfig) -> tuple[list[Document], np.ndarray]:
  """The same of the demo, whose text does not change: looking for its near duplicates takes seconds."""
  return _documents_of(name, data)


def _documents_of(name: str, data: DataConfig) -> tuple[list[Document], np.ndarray]:
  """The source's documents with a label of the task, a text that comes again left out; by which hash each is split."""
  documents, groups, tasks, seen = [], [], set(), set()
  source = open_source(data)
  for document, group in zip(source, split_hashes(source), strict=True):
    if document.label is None:
      continue
    task = document.label.partition("/")[0]
    tasks.add(task)
    if task == name and document.text not in seen:
      seen.add(document.text)
      documents.append(document)
      groups.append(group)
  if not tasks:
    raise ValueError(
      f"transfer.tasks={name} needs labelled texts, and data.source={data.source} has none; set data.source=demo, or"
      " leave transfer.tasks empty"
    )
  if not documents:
    raise ValueError(f"transfer.tasks={name}: data.source={data.source} has the tasks {', '.join(sorted(tasks))}")
  return documents, np.array(groups, np.uint64)


def _few_of_each_class(
  labels: list[str],
  hashes: np.ndarray,
  allowed: np.ndarray,
  classes: tuple[str, ...],
  labels_per_class: int,
  seed: int,
  name: str,
) -> list[int]:
  """Indices of as many allowed texts of each class; fewer are a subset of more."""
  available = Counter(label for label, may in zip(labels, allowed, strict=True) if may)
  rarest = min(classes, key=lambda label: (available[label], label))
  if available[rarest] < labels_per_class:
    raise ValueError(
      f"transfer.labels_per_class={labels_per_class} is more than the {available[rarest]} texts of the class {rarest!r}"
      f" of {name} that are not held out; try {available[rarest]}"
    )
  order = np.argsort(random_bits.bits(seed, _LABELLED, hashes), kind="stable")
  chosen: list[int] = []
  for label in classes:
    chosen += [int(i) for i in order if allowed[i] and labels[i] == label][:labels_per_class]
  return chosen


def encode(
  texts: Sequence[str], tokenizer: Tokenizer, max_seq_len: int, language: str = "en", frame: Frame = CLS_FIRST
) -> dict[str, Any]:
  """Texts as a model reads them, cut into sentences and tokens as the corpus is.

  Returns:
    token_ids and segment_ids int32 [N, T], and attention_mask bool [N, T], where T is the least multiple of 32 that
    holds all texts, but at most `max_seq_len`.
  """
  whole = token_ids(texts, tokenizer, language)
  wanted = max(map(len, whole), default=0) + 2
  width = min(max_seq_len, -(-wanted // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
  rows = [frame.text(ids[: width - 2], tokenizer) for ids in whole]
  return frame.batch(rows, len(rows), width, tokenizer.pad_id)


def token_ids(texts: Sequence[str], tokenizer: Tokenizer, language: str = "en") -> list[np.ndarray]:
  """The tokens of whole texts, cut into sentences and tokens as the corpus is, without special ones: int [T] each."""
  tokenized = tokenize(texts, tokenizer, Rules(language))
  owners = np.repeat(np.flatnonzero(tokenized.kept), tokenized.document_lengths)
  lengths = np.bincount(owners, tokenized.sentence_lengths, len(texts)).astype(np.int64)
  return np.split(tokenized.token_ids, np.cumsum(lengths)[:-1])
