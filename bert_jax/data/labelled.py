"""Labelled examples as their files have them, and which of them are held out."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from bert_jax.data import random_bits, tables

_SPLIT = 35  # stream of `random_bits.bits`


@dataclasses.dataclass(frozen=True)
class Columns:
  """Which columns of a table hold what; a number, counted from 1, where the file has no header.

  Attributes:
    text: the text, or the first of a pair.
    pair: the second text of a pair; None for single texts.
    label: what is to be learned; None where nothing is.
    choices: of multiple choice, those of the texts to choose from.
    skip_broken: whether rows with an empty cell, or not as many fields as the header, are left out and
      counted, where they are else an error.
  """

  text: str = "text"
  pair: str | None = None
  label: str | None = "label"
  choices: tuple[str, ...] = ()
  skip_broken: bool = False

  @property
  def names(self) -> list[str]:
    """All of them, in this order."""
    return [self.text, *filter(None, [self.pair]), *self.choices, *filter(None, [self.label])]


@dataclasses.dataclass(frozen=True)
class Labelled:
  """Examples with what is known of them, as a file has them.

  Attributes:
    origin: the file, for messages.
    texts: N, what a model is asked: see `Model.predict`.
    labels: N, what it should answer.
    groups: N names; examples of one group are not divided into training and held-out ones. Empty where each is its own.
  """

  origin: str
  texts: tuple[Any, ...]
  labels: tuple[Any, ...]
  groups: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.texts)

  @property
  def fingerprint(self) -> str:
    """A hash of texts and labels."""
    values = json.dumps([self.texts, self.labels], default=dataclasses.asdict)
    return hashlib.sha256(values.encode()).hexdigest()[:16]

  def part(self, chosen: np.ndarray) -> "Labelled":
    """Those at some places: bool [N], or indices."""
    places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen

    def of(values: tuple[Any, ...]) -> tuple[Any, ...]:
      return tuple(values[i] for i in places) if values else ()

    return Labelled(self.origin, of(self.texts), of(self.labels), of(self.groups))


def rows(path: epath.PathLike, columns: Columns) -> Iterable[tuple[tuple[str, ...], int]]:
  """(values of `columns.names`, line) of each row of a table.

  Raises:
    ValueError: see `tables.read`; a value is blank (with the line), or there is no row.
  """
  line = skipped = 0
  for row in tables.read(path, columns.names, ragged=columns.skip_broken):
    line = row.line
    if not row.values:
      skipped += 1
      continue
    blank = next((n for n, value in zip(columns.names, row.values, strict=True) if not value.strip()), None)
    if blank is not None and columns.skip_broken:
      skipped += 1
      continue
    if blank is not None:
      raise ValueError(f"{path}, line {line}: the column {blank!r} is empty; fill it, or remove the row")
    yield row.values, line
  if skipped:
    logging.warning("%s: %d rows with an empty cell, or not as many fields as the header, are left out", path, skipped)
  if not line:
    raise ValueError(f"{path} has no row")


def hold_out(labelled: Labelled, fraction: float, seed: int = 0) -> tuple[Labelled, Labelled]:
  """Two parts, the second a share of the whole; equal texts, and those of a group, are in one part.

  Which, a hash of the text (or the group) and the seed say alone.
  """
  keys = labelled.groups or labelled.texts
  hashes = [hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest() for key in keys]
  numbers = np.array([int.from_bytes(digest, "little") for digest in hashes], np.uint64)
  held_out = random_bits.uniform(random_bits.bits(seed, _SPLIT, numbers)) < fraction
  if not held_out.any() or held_out.all():
    what = f"{len(set(labelled.groups)):,} groups" if labelled.groups else f"{len(numbers):,} examples"
    raise ValueError(
      f"a share of {fraction} of the {what} of {labelled.origin} leaves one part empty; give another share, or a"
      " file to measure on"
    )
  return labelled.part(~held_out), labelled.part(held_out)


def classes_of(labels: Iterable[str]) -> tuple[str, ...]:
  """The classes, sorted; by value, where all are whole numbers."""
  names = set(labels)
  whole = all(name.removeprefix("-").isdecimal() for name in names)
  return tuple(sorted(names, key=lambda name: (int(name), name) if whole else (0, name)))


def check_classes(train: Labelled, dev: Labelled, of_train: Iterable[str], of_dev: Iterable[str]) -> None:
  """Refuses labels that cannot be learned.

  Args:
    of_train, of_dev: all labels there.

  Raises:
    ValueError: one only, or one of `dev` that `train` does not have.
  """
  known = set(of_train)
  if len(known) < 2:
    only = f"one class only, {next(iter(known))!r}" if known else "no label at all"
    raise ValueError(f"{train.origin} has {only}; there is nothing to tell apart")
  unseen = Counter(label for label in of_dev if label not in known)
  if unseen:
    listed = ", ".join(f"{label!r} ({count})" for label, count in unseen.most_common(5))
    if dev.origin == train.origin:
      raise ValueError(
        f"{train.origin} has labels of which all examples are in the part that is held out: {listed}; add more examples"
        " of them, remove these rows, or give a file to measure on"
      )
    raise ValueError(f"{dev.origin} has labels that {train.origin} does not have: {listed}; remove these rows")


def warn_of_shared(train: Labelled, dev: Labelled) -> None:
  """Says how many examples are in both: they make a figure look better than it is."""
  both = set(map(json.dumps, train.texts)) & set(map(json.dumps, dev.texts))
  if both:
    count = sum(json.dumps(text) in both for text in dev.texts)
    logging.warning("%d of the %d examples of %s are in %s too", count, len(dev.texts), dev.origin, train.origin)
