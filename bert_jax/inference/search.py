"""Texts that are near to a query, exactly: an index of vectors on a disk, and the search in it.

INDEX/index.json    the model, its weights, how it read the texts; sizes, and checksums of the other files
INDEX/vectors.npy   float32 [N, D], each of length 1, in the order of the texts; faiss.IndexFlatIP, hnswlib (space "ip")
                    and vector databases take the array as np.load gives it
INDEX/texts.jsonl   a line for each text, {"id": …, "text": …}

Every vector is compared with a query, so nothing is missed, and time and memory grow with N. For 100,000 vectors of 384
numbers in the page cache, on one machine with two cores, a query alone takes about 10 ms, and 2 ms each where 256 come
together. Once N · D · 4 bytes no longer fit the page cache (beyond a few million texts), or many ask at once, a vector
database is the better place for vectors.npy.

N texts, D hidden size, Q queries, K answers of a query, B vectors of a block.
"""

import dataclasses
import functools
import itertools
import json
import os
import typing
import weakref
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from absl import logging
from etils import epath

from bert_jax import foreign, records
from bert_jax.data import checksums
from bert_jax.inference import prompts
from bert_jax.inference.embedding import Pooling
from bert_jax.inference.model import Model
from bert_jax.interop import folders, params

FORMAT = 1
ABOUT, VECTORS, TEXTS = "index.json", "vectors.npy", "texts.jsonl"
_WAY_OUT = "make the index again: bert-jax search index"
_PART = 16_384  # texts that are embedded, and whose vectors are in memory, together
_BLOCK = 1 << 22  # numbers of a block of vectors
_QUERIES = 256  # that are compared with a block together


class Entry(NamedTuple):
  """A text of an index, by its name."""

  id: str
  text: str


class Answer(NamedTuple):
  """A text that is near to a query.

  Attributes:
    score: the cosine of the two vectors, -1 to 1.
    position: of the text in the index, from 0.
    id: of the text.
    text: itself.
  """

  score: float
  position: int
  id: str
  text: str


@dataclasses.dataclass(frozen=True)
class About:
  """What index.json says.

  Attributes:
    format: of the index.
    model: what `bert_jax.load` opens the model by; empty where that is not known.
    step: of a run, the checkpoint.
    params_sha256: the fingerprint of its weights.
    tokenizer_sha256: that of its tokenizer.
    pooling: over the tokens, of texts and of queries.
    max_tokens: of a text, as `Model.embed` takes it.
    long: how longer texts are read, as `Model.embed` takes it.
    prompt: the name of the prompt of the texts, as `Model.embed` takes it.
    num_texts: N.
    dimensions: D.
    files_sha256: of the other files, by name.
  """

  format: int
  model: str
  step: int | None
  params_sha256: str
  tokenizer_sha256: str
  pooling: str
  max_tokens: int | None
  long: str
  prompt: str | None
  num_texts: int
  dimensions: int
  files_sha256: dict


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
  """An index that is open.

  `Index.build(model, [Entry("1", "a text"), …], "INDEX")` makes one, and `Index.open("INDEX").ask(model, ["a query"])`
  gives the answers to each query.

  Attributes:
    folder: that it is in.
    about: what it is of.
    vectors: float32 [N, D], of length 1, mapped from the disk.
    lines: the bytes of texts.jsonl, uint8, mapped from the disk.
  """

  folder: epath.Path
  about: About
  vectors: np.ndarray
  lines: np.ndarray

  def __repr__(self) -> str:
    return f"<Index: {self.about.num_texts:,} texts, {self.about.dimensions} numbers each, by {self.about.model!r}>"

  # ---- on disk ----

  @classmethod
  def build(
    cls,
    model: Model,
    entries: Iterable[Entry],
    folder: epath.PathLike,
    *,
    name: str = "",
    total: int | None = None,
    pooling: Pooling | None = None,
    max_tokens: int | None = None,
    prompt: str | None = None,
    long: Literal["windows", "cut"] = "windows",
    batch_size: int = 32,
  ) -> "Index":
    """Embeds texts and writes their index, whole or not at all; a part of them is in memory at a time.

    Args:
      entries: ids and texts.
      folder: to write; new or empty.
      name: what opens the model again: a path, or a name on the hub.
      total: how many entries there are, for what is said on the way.
      pooling: as the next ones, see `Model.embed`.
      max_tokens: of a window.
      prompt: the name of the model's prompt for texts; by default `document` or `passage` where it has one, else its
        default.
      long: how to read a text beyond `max_tokens`.
      batch_size: texts at a time.

    Raises:
      ValueError: there is no text, or one has no vector; something stands at `folder`; see also `Model.embed`.
    """
    prompt = _prompt(model, ("document", "passage")) if prompt is None else prompt
    pooling = pooling or model.embedding.pooling or "mean"
    remaining, count = iter(entries), 0
    with folders.atomic(local(folder)) as scratch:
      with (scratch / VECTORS).open("wb") as vectors, (scratch / TEXTS).open("wb") as texts:
        vectors.write(_header(0, model.config.hidden_size))
        while part := list(itertools.islice(remaining, _PART)):
          found = model.embed(
            [entry.text for entry in part],
            *(pooling, True),
            batch_size=batch_size,
            max_tokens=max_tokens,
            prompt=prompt,
            long=long,
          )
          for place in _without_direction(found):  # the first
            raise ValueError(f"the model gives the text with id {part[place].id!r} a vector that is zero or no number")
          vectors.write(found.astype("<f4", copy=False).tobytes())
          texts.writelines((json.dumps(entry._asdict(), ensure_ascii=False) + "\n").encode() for entry in part)
          count += len(part)
          if count != total:
            logging.info("%s texts are embedded", f"{count:,}" + (f" of {total:,}" if total else ""))
        if not count:
          raise ValueError("there is no text to index")
        vectors.seek(0)
        vectors.write(_header(count, model.config.hidden_size))
      about = About(
        format=FORMAT,
        model=os.path.abspath(name) if os.path.exists(name) else name,
        step=model.step,
        params_sha256=_fingerprint(model),
        tokenizer_sha256=model.require_tokenizer().hash,
        pooling=pooling,
        max_tokens=max_tokens,
        long=long,
        prompt=prompt,
        num_texts=count,
        dimensions=model.config.hidden_size,
        files_sha256={file: checksums.hash_file(scratch / file) for file in (VECTORS, TEXTS)},
      )
      records.write_json(scratch / ABOUT, dataclasses.asdict(about))
    return cls.open(folder)

  @classmethod
  def open(cls, folder: epath.PathLike) -> "Index":
    """Opens an index; its files are read once, to see that they are as they were written.

    Raises:
      ValueError: there is none; it is of another version; a file is missing or has changed (its name is given).
    """
    folder = local(folder)
    if not foreign.is_regular(folder / ABOUT):
      raise ValueError(f"{folder} is no index, as it has no {ABOUT}; make one with bert-jax search index")
    about = _about(folder)
    for file in (VECTORS, TEXTS):
      if not foreign.is_file(folder, file):
        raise ValueError(f"{folder / file} is missing; {_WAY_OUT}")
    checksums.verify_files(folder, {file: str(about.files_sha256.get(file)) for file in (VECTORS, TEXTS)}, _WAY_OUT)
    try:
      vectors, lines = np.load(folder / VECTORS, mmap_mode="r"), np.memmap(folder / TEXTS, np.uint8, "r")
    except (ValueError, EOFError) as error:
      raise ValueError(f"the files of {folder} cannot be read: {error}; {_WAY_OUT}") from error
    expected = about.num_texts, about.dimensions
    if vectors.dtype != np.dtype("<f4") or vectors.shape != expected:
      raise ValueError(
        f"{folder / VECTORS} is {vectors.dtype} {vectors.shape}, and {ABOUT} says float32 {expected}; {_WAY_OUT}"
      )
    return cls(folder, about, vectors, lines)

  @functools.cached_property
  def _line_ends(self) -> np.ndarray:
    """Where the lines of texts.jsonl end, int64 [N]."""
    size = 1 << 24
    parts = range(0, len(self.lines), size)
    found = np.concatenate([np.flatnonzero(self.lines[start : start + size] == ord("\n")) + start for start in parts])
    if len(found) != self.about.num_texts:
      raise ValueError(f"{self.folder / TEXTS} has {len(found)} lines for {self.about.num_texts} vectors; {_WAY_OUT}")
    return found

  def entry(self, position: int) -> Entry:
    """The text at a position, counted from 0."""
    start = self._line_ends[position - 1] + 1 if position else 0
    try:
      values = json.loads(self.lines[start : self._line_ends[position]].tobytes())
      return Entry(values["id"], values["text"])
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f"{self.folder / TEXTS}, line {position + 1}, is no entry of an index; {_WAY_OUT}") from error

  # ---- answers ----

  def ask(
    self, model: Model, queries: Sequence[str], top_k: int = 10, *, prompt: str | None = None
  ) -> list[list[Answer]]:
    """The `top_k` nearest texts to each query, the nearest first; see `embed` and `search`."""
    scores, positions = self.search(self.embed(model, queries, prompt=prompt), top_k)
    return [
      [Answer(float(score), int(place), *self.entry(int(place))) for score, place in zip(*row, strict=True)]
      for row in zip(scores, positions, strict=True)
    ]

  def embed(self, model: Model, queries: Sequence[str], *, prompt: str | None = None) -> np.ndarray:
    """Vectors of queries, made as those of the index were.

    Args:
      model: that of the index.
      prompt: the name of the model's prompt for queries; by default `query` where it has one, else its default.

    Returns:
      float32 [Q, D], of length 1.

    Raises:
      ValueError: the model is another.
    """
    self.check_model(model)
    about: typing.Any = self.about
    return model.embed(
      list(queries),
      *(about.pooling, True),
      max_tokens=about.max_tokens,
      prompt=_prompt(model, ("query",)) if prompt is None else prompt,
      long=about.long,
      progress=False,
    )

  def check_model(self, model: Model) -> None:
    """Raises ValueError where a model is not the one that the index was made with."""
    step = "" if self.about.step is None else f", step {self.about.step}"
    for what, found, expected in (
      ("weights", _fingerprint(model), self.about.params_sha256),
      ("tokenizer", model.require_tokenizer().hash, self.about.tokenizer_sha256),
    ):
      if found != expected:
        raise ValueError(
          f"{self.folder} was made with another model ({self.about.model or 'without a name'}{step}): the sha256 of its"
          f" {what} is {expected}, and that of this one's {found}; give that model, or {_WAY_OUT}"
        )

  def search(self, queries: np.ndarray, top_k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The nearest vectors to queries by their cosine, exactly: as if all were compared in float64.

    Args:
      queries: [Q, D], of any length but zero.
      top_k: answers of a query.

    Returns:
      Cosines, float64 [Q, K], falling, and positions, int64 [Q, K]. K is `top_k`, or N where that is smaller. Of equal
      ones the first in the index comes first.

    Raises:
      ValueError: the queries have another shape, or one is zero or no number; `top_k` is less than 1.
    """
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != self.about.dimensions:
      raise ValueError(f"queries must have shape (Q, {self.about.dimensions}), as the index has. Got {queries.shape}")
    if top_k < 1:
      raise ValueError(f"top_k={top_k} must be at least 1")
    with np.errstate(invalid="ignore", divide="ignore"):
      units = unit(queries)
    for number in _without_direction(units):  # the first
      raise ValueError(f"query {number} is zero or no number, and points nowhere; leave it out")
    most = min(top_k, self.about.num_texts)
    scores = np.full((len(queries), most), -np.inf)
    positions = np.full((len(queries), most), self.about.num_texts)
    rows = max(1, _BLOCK // self.about.dimensions)
    for first in range(0, len(queries), _QUERIES):
      some = slice(first, first + _QUERIES)
      for start in range(0, self.about.num_texts, rows):
        _take_in(units[some], self.vectors[start : start + rows], start, scores[some], positions[some])
    return scores, positions


def _take_in(queries: np.ndarray, block: np.ndarray, start: int, scores: np.ndarray, positions: np.ndarray) -> None:
  """Compares queries [Q, D] with vectors [B, D] from the position `start`, and takes the best in, in place.

  A product in float32 says which may be among the best; only these are multiplied again, in float64.

  Args:
    scores: float64 [Q, K], the best so far.
    positions: int64 [Q, K], theirs.
  """
  most, rough = scores.shape[1], queries @ block.T
  # A sum of D products of float32 numbers, in any order, is off by at most D · 2⁻²⁴ where both lengths are 1.
  slack = 1.01 * (queries.shape[1] + 8) * 2.0**-24
  for row in np.flatnonzero(rough.max(axis=1) >= scores[:, -1] - slack):
    near = np.flatnonzero(rough[row] >= scores[row, -1] - slack)
    if len(near) > most:
      found = rough[row, near]
      near = near[found >= np.partition(found, -most)[-most] - 2 * slack]
    # No matrix product: in one, equal vectors may get sums that differ in the last bit, and be no ties.
    exact = (block[near].astype(np.float64) * queries[row]).sum(axis=1)
    all_scores = np.concatenate([scores[row], exact])
    all_positions = np.concatenate([positions[row], start + near])
    best = np.lexsort((all_positions, -all_scores))[:most]
    scores[row], positions[row] = all_scores[best], all_positions[best]


def unit(vectors: np.ndarray) -> np.ndarray:
  """Vectors [N, D] scaled to length 1, float32."""
  wide = vectors.astype(np.float64)
  return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def _without_direction(units: np.ndarray) -> np.ndarray:
  """The places of vectors that are not of length 1, because they were zero or no numbers."""
  return np.flatnonzero(~(np.abs(np.linalg.norm(units, axis=1) - 1) < 1e-3))


def local(folder: epath.PathLike) -> epath.Path:
  """The folder of an index. Raises ValueError for one in a bucket, which cannot be mapped into memory."""
  if "://" in os.fspath(folder):
    raise ValueError(f"{folder} is in a bucket, and an index is read from a disk; copy it to one, or write it there")
  return epath.Path(folder)


def _about(folder: epath.Path) -> About:
  values = records.require_json(folder / ABOUT, _WAY_OUT)
  if (stated := values.get("format")) != FORMAT:
    raise ValueError(
      f"{folder / ABOUT} is of format {foreign.shown(stated)}, and this version of bert_jax reads {FORMAT}; {_WAY_OUT}"
    )
  kinds = typing.get_type_hints(About)
  if set(values) != set(kinds) or not all(isinstance(values[name], kind) for name, kind in kinds.items()):
    raise ValueError(f"{folder / ABOUT} does not hold what an index says of itself; {_WAY_OUT}")
  return About(**values)


def _header(rows: int, columns: int) -> bytes:
  """That of vectors.npy; of one size, whatever the number of rows, so that it can be written again at the end."""
  text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}".encode()
  return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117) + b"\n"


def _prompt(model: Model, names: Sequence[str]) -> str | None:
  """The first of the names that a prompt of the model has."""
  stated = prompts.read(model.files, "the model's files").by_name
  return next((name for name in names if name in stated), None)


_FINGERPRINTS: "weakref.WeakKeyDictionary[Model, str]" = weakref.WeakKeyDictionary()


def _fingerprint(model: Model) -> str:
  """That of a model's weights, made once: it takes a second for a gigabyte."""
  if model not in _FINGERPRINTS:
    _FINGERPRINTS[model] = params.fingerprint(model.params)
  return _FINGERPRINTS[model]
