"""Documents that share most of their text, so that they can be kept on one side of a split.

A document is sketched by the smallest hashes of its runs of words (MinHash with one hash function, Broder 1997, "On the
resemblance and containment of documents": a sketch is a fair sample of the runs, and the same one in every document).
Where two sketches share enough of what both can see, the documents are of one group, and so are all that are linked.
"""

import array
import contextlib
import errno
import functools
import itertools
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
from absl import logging

from bert_jax.data.sources import Source
from bert_jax.data.tokenize import hash_text

RUN_WORDS = 8
SKETCH_HASHES = 128  # kept of a document: 1 KiB; one of fewer runs is sketched whole
# Share of the runs of one of the two documents that are in the other. Half is meant; the difference allows for the
# sampling of long documents (two standard deviations of 128 draws).
LEAST_SHARED = 0.4
LEAST_SEEN = 8  # runs that both sketches can see, without which long documents are not judged
# Documents with the same run are compared with so many that follow: boilerplate costs no more than its occurrences.
NEIGHBOURS = 16
_SORTED_AT_ONCE = 1 << 23  # hashes, which takes half a GiB, however large the text
_SAMPLE = 1 << 16

_BASE, _MULTIPLIER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_INVERSE = np.uint64(pow(int(_BASE), -1, 1 << 64))
_ALL = np.uint64(2**64 - 1)
_SHIFT = np.uint64(31)
_CHUNK_BYTES, _OVERLAP_BYTES = 1 << 16, 1 << 10  # worked on at a time, so that it stays in the cache


def sketch(text: str) -> np.ndarray:
  """The smallest hashes of a text's runs of 8 words, ascending, uint64; of all its words where it has fewer.

  A word is a run of ASCII letters and digits or of other characters beyond ASCII; from U+3000 on, where scripts put no
  spaces, every character is one. Case and punctuation do not count.
  """
  raw = np.frombuffer(text.lower().encode(errors="replace"), np.uint8)
  best = np.empty(0, np.uint64)
  for start in range(0, max(1, len(raw)), _CHUNK_BYTES):
    hashes = _hashes(raw[start : start + _CHUNK_BYTES + _OVERLAP_BYTES])  # the overlap has the runs between chunks
    best = np.unique(np.concatenate([best, hashes]))[: SKETCH_HASHES + 1]
  return best


def _hashes(raw: np.ndarray) -> np.ndarray:
  beyond = raw >= 0x80
  of_word = beyond | ((raw >= 0x61) & (raw <= 0x7A)) | ((raw >= 0x30) & (raw <= 0x39))
  begins = of_word & ((raw >= 0xE3) | ~np.concatenate([[False], of_word[:-1]]))
  letters, begins = raw[of_word].astype(np.uint64), begins[of_word]
  if not len(letters):
    return np.empty(0, np.uint64)
  # A run's hash is the sum of its bytes times powers of an odd number, those that begin a word counted apart, brought
  # to the power 0: differences of one running sum, whatever the place.
  powers, inverses = _powers()
  sums = np.zeros(len(letters) + 1, np.uint64)
  np.add.accumulate((letters + begins * np.uint64(256)) * powers[: len(letters)], out=sums[1:])
  starts = np.flatnonzero(begins)
  if not len(starts):
    starts = np.zeros(1, np.int64)
  ends = np.append(starts[1:], len(letters))
  count = max(1, len(starts) - RUN_WORDS + 1)
  firsts, lasts = starts[:count], ends[-count:]
  hashes = (sums[lasts] - sums[firsts]) * inverses[firsts]
  hashes = (hashes ^ (hashes >> _SHIFT)) * _MULTIPLIER
  hashes = (hashes ^ (hashes >> _SHIFT)) * _BASE
  return hashes ^ (hashes >> _SHIFT)


@functools.cache
def _powers() -> tuple[np.ndarray, np.ndarray]:
  """The powers, from 0 on, of the base and of its inverse modulo 2^64."""
  both = []
  for base in (_BASE, _INVERSE):
    powers = np.full(_CHUNK_BYTES + _OVERLAP_BYTES, base)
    powers[0] = 1
    both.append(np.multiply.accumulate(powers))
  return both[0], both[1]


def group_hashes(texts: Iterable[str], hashes: Iterable[int]) -> np.ndarray:
  """A hash for each text that near duplicates share: the least of their own.

  Args:
    texts: N of them, read once.
    hashes: of each text; equal texts have equal ones.

  Returns:
    uint64 [N]; the own hash of a text that is like no other.

  Raises:
    ValueError: the system's folder for temporary files has no room.
  """
  own, ends = array.array("Q"), array.array("q", [0])
  with _named_when_full(), tempfile.TemporaryFile() as file:  # a sketch may take more than the tokens of its document
    for text, text_hash in zip(texts, hashes, strict=True):
      own.append(text_hash)
      found = sketch(text)
      file.write(found.tobytes())
      ends.append(ends[-1] + len(found))
    file.flush()
    sketches = np.memmap(file, np.uint64, "r", shape=(ends[-1],)) if ends[-1] else np.empty(0, np.uint64)
    return least_of_linked(np.array(own, np.uint64), _alike(sketches, np.array(ends)))


@contextlib.contextmanager
def _named_when_full() -> Iterator[None]:
  try:
    yield
  except OSError as error:
    if error.errno != errno.ENOSPC:
      raise
    raise ValueError(
      f"{tempfile.gettempdir()} has no room for the sketches of the documents, up to 1 KiB each; set TMPDIR to a folder"
      " of a larger disk"
    ) from error


def least_of_linked(own: np.ndarray, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
  """The least hash among all the documents that each is linked with, uint64 [N].

  Args:
    own: uint64 [N], the hash of each document.
    pairs: documents that are alike, in any order.
  """
  parents = list(range(len(own)))

  def root(i: int) -> int:
    while parents[i] != i:
      parents[i] = parents[parents[i]]
      i = parents[i]
    return i

  for one, other in pairs:
    parents[max(root(one), root(other))] = min(root(one), root(other))
  roots = np.array([root(i) for i in range(len(own))], np.int64)
  least = own.copy()
  np.minimum.at(least, roots, own)
  return least[roots]


def alike(one: np.ndarray, other: np.ndarray) -> bool:
  """Whether two documents share enough of what both of their sketches can see."""
  # Beyond its last hash, a sketch that is not of the whole document says nothing.
  limit = min(s[-1] if len(s) > SKETCH_HASHES else _ALL for s in (one, other))
  mine, theirs = (s[: np.searchsorted(s, limit, "right")] for s in (one, other))
  fewest = min(len(mine), len(theirs))
  if limit < _ALL and fewest < LEAST_SEEN:
    return False
  return len(np.intersect1d(mine, theirs, assume_unique=True)) >= LEAST_SHARED * fewest


def _alike(sketches: np.ndarray, ends: np.ndarray) -> Iterable[tuple[int, int]]:
  """Pairs of documents that are alike, among those that are near each other in some hash.

  Args:
    sketches: of all documents, one after the other.
    ends: where each begins in it, and the end of the last.
  """
  for one, other in _near(sketches, ends).tolist():
    if alike(sketches[ends[one] : ends[one + 1]], sketches[ends[other] : ends[other + 1]]):
      yield one, other


def _near(sketches: np.ndarray, ends: np.ndarray) -> np.ndarray:
  """[pairs, 2] int64: documents that are near each other in some hash, each pair once."""
  # Ranges that hold about equally many hashes, by a sample: the smallest of each document are not spread evenly.
  sample = np.sort(sketches[:: max(1, len(sketches) // _SAMPLE)])
  edges = sample[np.arange(_SORTED_AT_ONCE, len(sketches), _SORTED_AT_ONCE) * len(sample) // max(1, len(sketches))]
  ranges = itertools.pairwise([None, *np.unique(edges), None])
  return np.unique(np.concatenate([_near_within(sketches, ends, *limits) for limits in ranges]), axis=0)


def _near_within(sketches: np.ndarray, ends: np.ndarray, low: np.uint64 | None, high: np.uint64 | None) -> np.ndarray:
  """The same for hashes from `low` on and below `high`."""
  parts = []
  for start in range(0, len(sketches), _SORTED_AT_ONCE):
    part = np.asarray(sketches[start : start + _SORTED_AT_ONCE])
    within = np.ones(len(part), bool) if low is None else part >= low
    if high is not None:
      within &= part < high
    places = np.flatnonzero(within)
    parts.append((part[places], np.searchsorted(ends, start + places, "right") - 1))
  if not parts:
    return np.empty((0, 2), np.int64)
  hashes, owners = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
  order = np.argsort(hashes, kind="stable")
  hashes, owners = hashes[order], owners[order]
  found = [np.empty((0, 2), np.int64)]
  for distance in range(1, NEIGHBOURS + 1):
    same = np.flatnonzero(hashes[distance:] == hashes[:-distance])
    if not len(same):
      break
    found.append(np.stack([owners[same], owners[same + distance]], axis=1))
  return np.unique(np.concatenate(found), axis=0)


_SPLITS: dict[str, np.ndarray] = {}  # of the text that was asked for last, as every task of every run asks for it


def split_hashes(source: Source) -> np.ndarray:
  """[number of documents] uint64: the hash by which each document is held out or not; near duplicates share one."""
  if source.fingerprint not in _SPLITS:
    logging.info("looking for near duplicates in %s", source.description)
    texts, again = itertools.tee(document.text for document in source)
    _SPLITS.clear()
    _SPLITS[source.fingerprint] = group_hashes(texts, map(hash_text, again))
  return _SPLITS[source.fingerprint]
