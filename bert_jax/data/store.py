"""Text to a tokenized corpus on disk: once, in parallel, resumable.

A store is a folder:
  plan.json        what it is made of; written first
  tokenizer/       what cuts the text
  shards/NNNNN/    token_ids.npy, word_starts.npy (a bit a token), lengths, hashes and labels; shard.json with checksums
  document_offsets.npy, sentence_offsets.npy, document_hashes.npy, document_groups.npy, document_labels.npy
  metadata.json    counts and checksums of all files; written last: a store that has it is complete
Everything is written under another name and moved into place, so what stands under its own name is whole.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from typing import IO, Any, Protocol

import numpy as np
from absl import logging
from etils import epath

from bert_jax import records
from bert_jax.config import DataConfig
from bert_jax.data import buckets, checksums, near_duplicates, sentences, shards, tokenize, tokenizers
from bert_jax.data.corpus import FORMAT_VERSION, WAY_OUT, Corpus, is_held_out, open_corpus, read_metadata
from bert_jax.data.sources import Source, open_source
from bert_jax.settings import deciding

__all__ = ["Corpus", "open_corpus", "prepare"]

_FINGERPRINT = "the fingerprint of the text"
_CHECKSUMS = "checksums.json"  # beside the tokenizer's own files, for a store that is not complete


class Engine(Protocol):
  """Who does what takes long. Whoever does it, the store is the same."""

  def split_hashes(self, source: Source, data: DataConfig) -> np.ndarray:
    """As `near_duplicates.split_hashes`."""
    ...

  def write_shards(self, folder: epath.Path, source: Source, data: DataConfig, groups: np.ndarray) -> None:
    """Writes FOLDER/shards, those that are there already left as they are; `groups` are what `split_hashes` gave."""
    ...


@dataclasses.dataclass(frozen=True)
class ThisMachine:
  """Does the work in processes of this machine; none: one a core, 1: no process but this one."""

  num_workers: int | None = None

  def split_hashes(self, source: Source, data: DataConfig) -> np.ndarray:
    del data
    return near_duplicates.split_hashes(source)

  def write_shards(self, folder: epath.Path, source: Source, data: DataConfig, groups: np.ndarray) -> None:
    shards.write_all(folder, source, data, groups, self.num_workers or os.cpu_count() or 1)


def prepare(
  data: DataConfig, folder: epath.PathLike, num_workers: int | None = None, engine: Engine | None = None
) -> Corpus:
  """The corpus of `data` in `folder`: opened if complete, else made, going on after an interruption.

  Args:
    data: the source, and the tokenizer to load or train.
    folder: where the store is or shall be; on a local disk, as it is memory-mapped.
    num_workers: processes that tokenize; none: one a core; 1: no process but this one. The result is the same.
    engine: who does the work in their place.

  Raises:
    ValueError: bad input, or the folder holds a store of other text or of another tokenizer.
  """
  make(data, folder, num_workers, engine)
  return open_corpus(folder)


def make(
  data: DataConfig, folder: epath.PathLike, num_workers: int | None = None, engine: Engine | None = None
) -> None:
  """As `prepare`, without opening it. Another process that prepares the same folder is waited for."""
  sentences.check_language(data.language)
  folder = epath.Path(folder)
  if buckets.is_bucket(folder):
    raise ValueError(f"data.store={folder} must lie on a local disk, as it is memory-mapped")
  if folder.exists() and any(folder.iterdir()) and not (folder / "plan.json").exists() and not _only_ours(folder):
    raise ValueError(f"data.store={folder} holds other files and no store; give a new or empty folder")
  if (folder / "metadata.json").exists():
    check(data, folder)
    return

  source = open_source(data)
  plan = _plan(data, source)  # with its tokenizer read: what is wrong there shows before anything is written
  if next(iter(source), None) is None:
    raise ValueError(f"data.source={data.source} holds no text; give files with some")
  with _locked(folder) as made:
    if not (folder / "metadata.json").exists():
      try:
        _begin(folder, plan)
        engine = engine or ThisMachine(num_workers)
        groups = engine.split_hashes(source, data)
        _make_tokenizer(folder, source, data, groups)
        engine.write_shards(folder, source, data, groups)
        _remove_half_work(folder)  # of workers that died, whose shards others made
        _refuse_changed_text(folder, data, plan)
        _finish(folder)
      except BaseException:
        _leave_finished_work(folder, made)
        raise
  _check_plan(folder, read_metadata(folder)["made_of"], plan)


def check(data: DataConfig, folder: epath.Path) -> None:
  """Compares a complete store, which may lie in a bucket, with the settings, and with the text where that is at hand.

  Raises:
    ValueError: it is of other text or of another tokenizer.
  """
  made_of = read_metadata(folder)["made_of"]
  try:
    source = open_source(data)
  except ValueError as error:
    _check_plan(folder, made_of, _plan(data, None))
    logging.warning("%s is used as it stands; its text could not be compared: %s", folder, error)
    return
  _check_plan(folder, made_of, _plan(data, source))


def make_in_bucket(
  data: DataConfig, bucket: epath.Path, cache: str, num_workers: int | None = None, engine: Engine | None = None
) -> None:
  """Makes a store in a bucket, where it is not there yet.

  Without an engine, or with one that writes into the folder that it is given, the store is made on this machine's disk
  and copied. `Beam` has its workers write the shards into the bucket.

  Args:
    cache: folder of a local disk, for what is made here.

  Raises:
    ValueError: as `prepare`.
  """
  work = buckets.work_folder(bucket, cache)
  if (bucket / "metadata.json").exists():
    shutil.rmtree(work, ignore_errors=True)  # of a command that was killed at its very end
    check(data, bucket)
    return
  if not (bucket / "plan.json").exists() and bucket.exists() and any(not _is_draft(file) for file in bucket.iterdir()):
    raise ValueError(f"data.store={bucket} holds other files and no store; give a new or empty folder")
  make(data, work, num_workers, engine)
  buckets.begin(work, bucket)
  buckets.put(work, bucket, last="metadata.json")
  for left in bucket.iterdir():
    if _is_draft(left):
      shards.remove(left)
  shutil.rmtree(work, ignore_errors=True)


def _is_draft(file: epath.Path) -> bool:
  return file.name.endswith(".tmp")


# ---- what a store is made of -----------------------------------------------------------------------------


def _plan(data: DataConfig, source: Source | None) -> dict[str, Any]:
  """What decides a store's content, by the names of the settings; without a source, its fingerprint is None."""
  plan: dict[str, Any] = {"the format": FORMAT_VERSION}
  plan |= {f"data.{path}": value for path, value in deciding(data, "store").items()}
  tokenizer, of_no_effect = data.tokenizer, set()
  if not data.source.startswith("text:"):
    of_no_effect.add("data.text_documents")
  if not data.source.startswith(("jsonl:", "tfds:")):
    of_no_effect.add("data.jsonl_field")
  sees_spaces = tokenizer.kind != "wordpiece"
  if tokenizer.path is not None:
    loaded = tokenizers.load(tokenizer.path, tokenizer)
    plan["the hash of data.tokenizer.path"] = loaded.hash
    sees_spaces = tokenize.sees_spaces(loaded)
    of_no_effect |= {name for name in plan if name.startswith("data.tokenizer.")}
    of_no_effect.add("data.eval_fraction")  # which decides what a tokenizer is trained on: not on what is held out
  if not sees_spaces:
    of_no_effect.add("data.sentence_separators")
  plan = {name: value for name, value in plan.items() if name not in of_no_effect | {"data.tokenizer.path"}}
  plan[_FINGERPRINT] = source and source.fingerprint
  return plan


def _check_plan(folder: epath.Path, stored: dict[str, Any], plan: dict[str, Any]) -> None:
  """Refuses a store that is made of something else than the plan says."""
  moved = plan[_FINGERPRINT] is not None and plan[_FINGERPRINT] == stored.get(_FINGERPRINT)
  for name in {**plan, **stored}:
    has, wanted = stored.get(name), plan.get(name)
    if has == wanted or (name == "data.source" and moved) or (name == _FINGERPRINT and wanted is None):
      continue
    raise ValueError(
      f"{folder} is a store of {stored['data.source']} with {name}={has}, but {name}={wanted} is asked for; "
      "give another data.store, the settings it was made with, or remove the folder to prepare it again"
    )


def _made_of(folder: epath.Path) -> dict[str, Any]:
  return records.require_json(folder / "plan.json", WAY_OUT)["made_of"]


def _begin(folder: epath.Path, plan: dict[str, Any]) -> None:
  """Leaves the folder with this plan and only finished work that belongs to it."""
  if (folder / "plan.json").exists():
    try:
      _check_plan(folder, _made_of(folder), plan)
      if (folder / "tokenizer").exists():
        expected = records.require_json(folder / "tokenizer" / _CHECKSUMS, WAY_OUT)["sha256"]
        checksums.verify_files(folder / "tokenizer", expected, WAY_OUT)
    except ValueError as error:
      logging.warning("the unfinished store is begun again: %s", error)
      for name in ("tokenizer", "shards"):
        shutil.rmtree(folder / name, ignore_errors=True)
      (folder / "plan.json").unlink()
  _remove_half_work(folder)
  if not (folder / "plan.json").exists():
    records.write_json(folder / "plan.json", {"made_of": plan})


def _remove_half_work(folder: epath.Path) -> None:
  for left in [*folder.iterdir(), *shards.folders(folder)]:
    if _is_draft(left):
      shards.remove(left)


def _leave_finished_work(folder: epath.Path, made: bool) -> None:
  """After an error: keeps what the next call can go on with, and no trace where there is none."""
  _remove_half_work(folder)
  if not (folder / "tokenizer").exists():
    for name in ("plan.json", ".lock"):
      (folder / name).unlink(missing_ok=True)
    if made:
      folder.rmdir()


def _only_ours(folder: epath.Path) -> bool:
  """Whether a folder holds nothing but what `prepare` leaves before its plan."""
  return all(file.name in (".lock", "plan.json.tmp") for file in folder.iterdir())


@contextlib.contextmanager
def _locked(folder: epath.Path) -> Iterator[bool]:
  """The folder, held by one process at a time until that ends; whether it was made for this."""
  while True:
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
      file = os.fdopen(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666), "a+")
    except FileNotFoundError:  # whose work failed took the folder away again
      continue
    with file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        logging.info("waiting for %s, which prepares the same corpus in %s", holder, folder)
        fcntl.flock(file, fcntl.LOCK_EX)
      if not _stands_there(file, folder / ".lock"):
        continue
      try:
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield made
      finally:
        file.truncate(0)
      return


def _stands_there(file: IO[str], path: epath.Path) -> bool:
  """Whether an open file is the one that a path names, and was not removed meanwhile."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False


# ---- the work --------------------------------------------------------------------------------------------


def _make_tokenizer(folder: epath.Path, source: Source, data: DataConfig, groups: np.ndarray) -> None:
  if (folder / "tokenizer").exists():
    return
  if data.tokenizer.path is not None:
    tokenizer = tokenizers.load(data.tokenizer.path, data.tokenizer)
  else:
    logging.info("training the tokenizer on %s", source.description)
    tokenizer = tokenizers.train(_training_texts(source, groups, data.eval_fraction), data.tokenizer, data.language)
  tokenizer.save(folder / "tokenizer.tmp")
  files = sorted((folder / "tokenizer.tmp").iterdir())
  records.write_json(folder / "tokenizer.tmp" / _CHECKSUMS, {"sha256": {f.name: checksums.hash_file(f) for f in files}})
  os.replace(folder / "tokenizer.tmp", folder / "tokenizer")


def _training_texts(source: Source, groups: np.ndarray, eval_fraction: float) -> Iterator[str]:
  """The texts that are not held out; all of them, if chance holds out all."""
  training = ~is_held_out(groups, eval_fraction)
  training |= not training.any()
  yield from (document.text for document in itertools.compress(source, training))


def _refuse_changed_text(folder: epath.Path, data: DataConfig, plan: dict[str, Any]) -> None:
  if open_source(data).fingerprint != plan[_FINGERPRINT]:
    shutil.rmtree(folder / "shards")
    raise shards.changed(folder, data.source)


# ---- completion ------------------------------------------------------------------------------------------


def _finish(folder: epath.Path) -> None:
  """Offsets over all shards, then the metadata."""
  written = [records.require_json(shard / "shard.json", WAY_OUT) for shard in shards.folders(folder)]
  totals = {name: sum(shard[name] for shard in written) for name in ("num_documents", "num_sentences", "num_tokens")}
  if not totals["num_tokens"]:
    shutil.rmtree(folder / "shards")
    raise ValueError(f"the text of {folder} has no token: it holds nothing but characters that the tokenizer drops")
  labels = sorted({label for shard in written for label in shard["labels"]})

  def recoded(shard: dict[str, Any], codes: np.ndarray) -> np.ndarray:
    return np.array([0] + [labels.index(label) + 1 for label in shard["labels"]], np.uint16)[codes]

  for name, total in (("document", "num_documents"), ("sentence", "num_sentences")):
    parts = (shards.array(folder, shard, f"{name}_lengths") for shard in written)
    _write_offsets(folder / f"{name}_offsets.npy", totals[total], parts)
  for name in ("document_hashes", "document_groups"):
    _write_array(folder / f"{name}.npy", np.concatenate([shards.array(folder, shard, name) for shard in written]))
  codes = np.concatenate([recoded(shard, shards.array(folder, shard, "document_labels")) for shard in written])
  _write_array(folder / "document_labels.npy", codes)

  tokenizer = tokenizers.load(folder / "tokenizer", None)
  made_of = _made_of(folder)
  content = [FORMAT_VERSION, tokenizer.hash, labels, [[shard["labels"], shard["sha256"]] for shard in written]]
  metadata = {
    "format_version": FORMAT_VERSION,
    "source": {"description": made_of["data.source"], "fingerprint": made_of[_FINGERPRINT]},
    "made_of": made_of,
    "tokenizer": {
      "hash": tokenizer.hash,
      "kind": tokenizer.kind,
      "lowercase": tokenizer.lowercase,
      "vocab_size": tokenizer.vocab_size,
    },
    "dtype": tokenize.token_dtype(tokenizer.vocab_size).name,
    **totals,
    "labels": labels,
    "content_hash": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
    "shards": written,
    "sha256": {file: checksums.hash_file(folder / file) for file in _files_beside_shards(folder)},
  }
  records.write_json(folder / "metadata.json", metadata)


def _files_beside_shards(folder: epath.Path) -> list[str]:
  """All files that are there once the store is complete, but the arrays of the shards."""
  files = [file for file in folder.iterdir() if file.name.endswith(".npy")]
  files += [*(folder / "tokenizer").iterdir(), *(shard / "shard.json" for shard in shards.folders(folder))]
  return ["plan.json", *sorted(str(file.relative_to(folder)) for file in files)]


def _write_offsets(file: epath.Path, total: int, lengths: Iterable[np.ndarray]) -> None:
  """The running sum of all lengths, from 0, written a shard at a time."""
  with records.replacing(file) as draft:
    offsets = np.lib.format.open_memmap(draft, "w+", np.int64, (total + 1,))
    offsets[0] = end = 0
    for part in lengths:
      offsets[end + 1 : end + 1 + len(part)] = offsets[end] + np.cumsum(part, dtype=np.int64)
      end += len(part)
    assert end == total, (end, total)
    offsets.flush()


def _write_array(file: epath.Path, array: np.ndarray) -> None:
  with records.replacing(file) as draft, draft.open("wb") as stream:
    np.save(stream, array)
