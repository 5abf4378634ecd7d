"""Labelled texts, and pairs of texts, from tables."""

import dataclasses
import hashlib
import json
from collections import Counter

import numpy as np
from absl import logging
from etils import epath

from bert_jax.data import random_bits, tables
from bert_jax.data.frames import Frame, Text, encode
from bert_jax.data.tasks import LabelledTexts, Task
from bert_jax.data.tokenizers import Tokenizer

_SPLIT = 35  # stream of `random_bits.bits`


@dataclasses.dataclass(frozen=True)
class Columns:
  """Which columns of a table hold what.

  Attributes:
    text: the text, or the first of a pair.
    pair: the second text of a pair; None for single texts.
    label: the class.
  """

  text: str = "text"
  pair: str | None = None
  label: str = "label"


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Texts with a label each, as a table has them.

  Attributes:
    origin: the file, for messages.
    texts: N texts, or pairs of texts.
    labels: N names of classes.
  """

  origin: str
  texts: tuple[Text, ...]
  labels: tuple[str, ...]

  @property
  def fingerprint(self) -> str:
    """A hash of texts and labels."""
    return hashlib.sha256(json.dumps([self.texts, self.labels]).encode()).hexdigest()[:16]

  def part(self, chosen: np.ndarray) -> "Labelled":
    """Those at some places, bool [N]."""
    places = np.flatnonzero(chosen)
    return Labelled(self.origin, tuple(self.texts[i] for i in places), tuple(self.labels[i] for i in places))


def read(path: epath.PathLike, columns: Columns) -> Labelled:
  """The labelled texts of a table.

  Raises:
    ValueError: see `tables.read`; a text or a label is empty (with the line), or there is no row.
  """
  wanted = [columns.text, *([columns.pair] if columns.pair else []), columns.label]
  texts: list[Text] = []
  labels: list[str] = []
  for row in tables.read(path, wanted):
    *parts, label = row.values
    empty = next((name for name, value in zip(wanted, row.values, strict=True) if not value.strip()), None)
    if empty is not None:
      raise ValueError(f"{path}, line {row.line}: the column {empty!r} is empty; fill it, or remove the row")
    texts.append((parts[0], parts[1]) if columns.pair else parts[0])
    labels.append(label.strip())
  if not texts:
    raise ValueError(f"{path} has no row")
  return Labelled(str(path), tuple(texts), tuple(labels))


def hold_out(labelled: Labelled, fraction: float, seed: int = 0) -> tuple[Labelled, Labelled]:
  """Two parts, the second a share of the whole; equal texts are in one part, by their hash and the seed alone."""
  hashes = [hashlib.blake2b(json.dumps(text).encode(), digest_size=8).digest() for text in labelled.texts]
  numbers = np.array([int.from_bytes(digest, "little") for digest in hashes], np.uint64)
  held_out = random_bits.uniform(random_bits.bits(seed, _SPLIT, numbers)) < fraction
  if not held_out.any() or held_out.all():
    raise ValueError(f"a share of {fraction} of the {len(numbers)} rows of {labelled.origin} leaves one part empty")
  return labelled.part(~held_out), labelled.part(held_out)


def classes_of(train: Labelled) -> tuple[str, ...]:
  """The classes, sorted; by value, where all are whole numbers."""
  names = set(train.labels)
  whole = all(name.removeprefix("-").isdecimal() for name in names)
  return tuple(sorted(names, key=lambda name: (int(name), name) if whole else (0, name)))


def check(train: Labelled, dev: Labelled) -> None:
  """Refuses what cannot be learned from, and warns of what makes a figure look better than it is.

  Raises:
    ValueError: one class only, or a label of `dev` that `train` does not have.
  """
  known = set(train.labels)
  if len(known) < 2:
    raise ValueError(f"{train.origin} has one class only, {next(iter(known))!r}; there is nothing to tell apart")
  unseen = Counter(label for label in dev.labels if label not in known)
  if unseen:
    listed = ", ".join(f"{label!r} ({count})" for label, count in unseen.most_common(5))
    raise ValueError(f"{dev.origin} has labels that {train.origin} does not have: {listed}; remove these rows")
  both = set(train.texts) & set(dev.texts)
  if both:
    count = sum(text in both for text in dev.texts)
    logging.warning("%d of the %d texts of %s are in %s too", count, len(dev.texts), dev.origin, train.origin)


def as_task(
  name: str, train: Labelled, test: Labelled, frame: Frame, tokenizer: Tokenizer, max_tokens: int
) -> tuple[Task, int]:
  """The task of telling the classes apart, as a model reads the texts; and how many texts were cut.

  Raises:
    ValueError: see `check`.
  """
  check(train, test)
  classes, cut = classes_of(train), 0
  parts = []
  for labelled in (train, test):
    encoded = encode(labelled.texts, frame, tokenizer, max_tokens)
    rows, width = encoded.token_ids, int(encoded.lengths.max())
    arrays = frame.batch(rows, len(rows), width, tokenizer.pad_id, encoded.segment_ids)
    plain = tuple(text if isinstance(text, str) else "\n".join(text) for text in labelled.texts)
    labels = np.array([classes.index(label) for label in labelled.labels], np.int32)
    parts.append(LabelledTexts(plain, **arrays, labels=labels))
    cut += encoded.cut
  return Task(name, classes, *parts), cut
