"""The shards of a store: some documents' tokens in a folder, which has its own name once it is whole.

A shard's documents are decided by the text alone, so that any number of workers, and of machines, makes the same ones.
"""

import contextlib
import dataclasses
import itertools
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tqdm
from absl import logging
from etils import epath

from bert_jax import records
from bert_jax.config import DataConfig
from bert_jax.data import buckets, checksums, tokenize, tokenizers
from bert_jax.data.corpus import SHARD_ARRAYS, WAY_OUT
from bert_jax.data.sources import Document, Source

# A worker gets so much text at a time (or one longer document), and a shard is closed after so much. Both are counted
# in characters, so that shards do not depend on the number of workers.
UNIT_CHARACTERS = 2_000_000
SHARD_CHARACTERS = 64_000_000


def write_all(folder: epath.Path, source: Source, data: DataConfig, groups: np.ndarray, num_workers: int) -> None:
  done_before = _finished(folder)
  done = sum(shard["num_source_documents"] for shard in done_before)
  if done:
    logging.info("%s: %d shards were finished before; going on after document %d", folder, len(done_before), done)
  units = _units(itertools.islice(source, done, None))
  documents: list[Document] = []
  parts: list[tokenize.Tokenized] = []
  characters, number = 0, len(done_before)

  def write() -> None:
    nonlocal done
    if done + len(documents) > len(groups):
      raise changed(folder, source.description)
    _write(folder / "shards", f"{number:05d}", documents, groups[done : done + len(documents)], parts)
    done += len(documents)

  tokenized = tokenize.tokenize_all(units, str(folder / "tokenizer"), rules_of(data), num_workers)
  with contextlib.closing(tokenized) as results:
    for unit, part in _with_progress(results, source):
      documents += (dataclasses.replace(document, text="") for document in unit)
      parts.append(part)
      characters += sum(len(document.text) for document in unit)
      if characters >= SHARD_CHARACTERS:
        write()
        documents, parts, characters, number = [], [], 0, number + 1
  if documents:
    write()


def bounds(characters: np.ndarray) -> list[int]:
  """The first document of each shard, and the number of all, from the characters of each document."""
  found, unit, shard = [0], 0, 0
  for number, count in enumerate(characters.tolist(), 1):
    unit += count
    if unit >= UNIT_CHARACTERS:
      shard, unit = shard + unit, 0
      if shard >= SHARD_CHARACTERS:
        found.append(number)
        shard = 0
  return found if found[-1] == len(characters) else [*found, len(characters)]


def write_one(
  folder: epath.Path, number: int, documents: Iterable[Document], groups: np.ndarray, data: DataConfig
) -> None:
  """Writes one shard, whose documents are these, unless it is there."""
  target = folder / "shards" / f"{number:05d}"
  if target.exists():
    if _is_whole(target):
      return
    remove(target)
  tokenizer, kept, parts = tokenizers.load(folder / "tokenizer", None), list[Document](), list[tokenize.Tokenized]()
  for unit in _units(documents):
    parts.append(tokenize.tokenize([document.text for document in unit], tokenizer, rules_of(data)))
    kept += (dataclasses.replace(document, text="") for document in unit)
  if len(kept) != len(groups):
    raise changed(folder, data.source)
  try:
    _write(folder / "shards", target.name, kept, groups, parts)
  except OSError:
    if not (target.exists() and _is_whole(target)):  # another was first: the same documents, the same shard
      raise


def rules_of(data: DataConfig) -> tokenize.Rules:
  """How documents are cut."""
  return tokenize.Rules(data.language, spaces=not data.sentence_separators)


def _units(documents: Iterable[Document]) -> Iterator[list[Document]]:
  unit, characters = [], 0
  for document in documents:
    unit.append(document)
    characters += len(document.text)
    if characters >= UNIT_CHARACTERS:
      yield unit
      unit, characters = [], 0
  if unit:
    yield unit


Results = Iterable[tuple[tokenize.Unit, tokenize.Tokenized]]


def _with_progress(results: Results, source: Source) -> Results:
  """The results, shown as a bar, or where there is no terminal as a line a minute."""
  start = last = time.monotonic()
  tokens = 0
  with tqdm.tqdm(desc="tokenizing", total=source.size, unit_scale=True, disable=not sys.stderr.isatty()) as bar:
    for unit, part in results:
      yield unit, part
      tokens += len(part.token_ids)
      now = time.monotonic()
      bar.update(source.position - bar.n)
      bar.set_postfix_str(f"{tokens / (now - start):,.0f} token/s")
      if bar.disable and now > last + 60:
        last = now
        logging.info("tokenizing: %.0f %%, %s tokens", 100 * source.position / source.size, f"{tokens:,}")
  logging.info("tokenized %s tokens in %.0f s", f"{tokens:,}", time.monotonic() - start)


def _write(
  folder: epath.Path, name: str, documents: list[Document], groups: np.ndarray, parts: list[tokenize.Tokenized]
) -> None:
  kept = np.concatenate([part.kept for part in parts])
  labels = [document.label for document in itertools.compress(documents, kept)]
  names = sorted({label for label in labels if label is not None})
  codes = {None: 0, **{label: code for code, label in enumerate(names, 1)}}
  arrays = {
    "token_ids": np.concatenate([part.token_ids for part in parts]),
    "word_starts": np.packbits(np.concatenate([part.word_starts for part in parts]), bitorder="little"),
    "sentence_lengths": np.concatenate([part.sentence_lengths for part in parts]),
    "document_lengths": np.concatenate([part.document_lengths for part in parts]),
    "document_hashes": np.concatenate([part.document_hashes for part in parts]),
    "document_groups": groups[kept],
    "document_labels": np.array([codes[label] for label in labels], np.uint16),
  }
  assert set(arrays) == set(SHARD_ARRAYS)
  for document in itertools.compress(documents, ~kept):
    logging.warning("%s holds no token and was skipped", document.name)
  if buckets.is_bucket(folder):
    with tempfile.TemporaryDirectory() as draft:
      _describe(epath.Path(draft), name, documents, labels, names, arrays)
      buckets.put(epath.Path(draft), folder / name, last="shard.json")
    return
  shard = folder / f"{name}-{uuid.uuid4().hex[:8]}.tmp"  # a worker that is taken for dead may still be at it
  shard.mkdir(parents=True)
  _describe(shard, name, documents, labels, names, arrays)
  os.replace(shard, folder / name)


def _describe(
  shard: epath.Path,
  name: str,
  documents: list[Document],
  labels: list[str | None],
  names: list[str],
  arrays: dict[str, np.ndarray],
) -> None:
  """Writes a shard's arrays, and shard.json after them."""
  for array_name, array in arrays.items():
    np.save(shard / f"{array_name}.npy", array)
  description = {
    "name": name,
    "num_source_documents": len(documents),
    "num_documents": len(labels),
    "num_sentences": len(arrays["sentence_lengths"]),
    "num_tokens": len(arrays["token_ids"]),
    "labels": names,
    "sha256": {array_name: checksums.hash_file(shard / f"{array_name}.npy") for array_name in SHARD_ARRAYS},
  }
  records.write_json(shard / "shard.json", description)


def folders(folder: epath.Path) -> list[epath.Path]:
  """What is in FOLDER/shards, by name. No glob: the folder's own path may hold brackets."""
  return sorted((folder / "shards").iterdir()) if (folder / "shards").exists() else []


def _finished(folder: epath.Path) -> list[dict[str, Any]]:
  """Descriptions of the shards up to the first that is missing or damaged; what comes after it is removed."""
  shards = []
  for number, shard in enumerate(folders(folder)):
    try:
      if shard.name != f"{number:05d}":
        raise ValueError(f"there is no shard {number:05d} before it")
      description = _described(shard)
    except (OSError, ValueError) as error:
      logging.warning("%s and what follows it is made again: %s", shard, error)
      for left in folders(folder)[number:]:
        remove(left)
      break
    shards.append(description)
  return shards


def _described(shard: epath.Path) -> dict[str, Any]:
  """What a shard's shard.json says, once its files are found to be as it says.

  Raises:
    OSError, ValueError: they are not.
  """
  description = records.require_json(shard / "shard.json", WAY_OUT)
  files = {f"{name}.npy": checksum for name, checksum in description["sha256"].items()}
  checksums.verify_files(shard, files, WAY_OUT)
  return description


def _is_whole(shard: epath.Path) -> bool:
  try:
    _described(shard)
  except (OSError, ValueError) as error:
    logging.warning("%s is made again: %s", shard, error)
    return False
  return True


def array(folder: epath.Path, shard: dict[str, Any], name: str) -> np.ndarray:
  """An array of a shard, of which `shard` is what its shard.json says."""
  return np.load(folder / "shards" / shard["name"] / f"{name}.npy")


def changed(folder: epath.Path, description: str) -> ValueError:
  """What is raised where a text is not what it was."""
  return ValueError(f"the text of {description} changed while {folder} was made of it; run the same command again")


def remove(path: epath.Path) -> None:
  path.rmtree() if path.is_dir() else path.unlink()
