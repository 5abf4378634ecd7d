"""Stores in a bucket: made there by workers that share no disk, and copied from there to a disk before they are read.

A batch has examples from all over the text, so that a run reads all of a store, and the copy is whole.
"""

import concurrent.futures
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from typing import Any

import tqdm
from absl import logging
from etils import epath

from bert_jax import foreign, records
from bert_jax.data import checksums
from bert_jax.data.corpus import WAY_OUT, read_metadata

_AT_ONCE = 16  # files under way
_USED = ".used"  # beside a copy's files: when it was asked for last
# Locks of the copies that this process reads, by their folders; who makes or removes a copy has its lock alone.
_in_use: dict[str, int] = {}


def is_bucket(folder: epath.PathLike) -> bool:
  """Whether a folder is no folder of a disk, as gs://BUCKET/STORE."""
  return "://" in os.fspath(folder)


def copied(store: epath.Path, cache: str, most_gib: float) -> epath.Path:
  """A complete store of a bucket on a local disk: copied once, each file checked; a copy that was cut short goes on.

  Until this process ends, no other one on this machine takes the copy away.

  Args:
    cache: folder of the copies, each by the hash of its content.
    most_gib: that they may take together; of those that no process uses, the ones that were not asked for the longest
      make room. 0: no bound.

  Raises:
    ValueError: there is no complete store, a file is not as it was written, or there is no room.
  """
  metadata = read_metadata(store)
  home = epath.Path(cache).expanduser()
  folder = home / f"{store.name}-{metadata['content_hash'][:16]}"
  home.mkdir(parents=True, exist_ok=True)
  name = os.fspath(folder)
  lock = _in_use[name] = _in_use.get(name) or _open_lock(folder)
  try:
    fcntl.flock(lock, fcntl.LOCK_SH)
    while not (folder / "metadata.json").exists():
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not (folder / "metadata.json").exists():
        _copy_all(store, metadata, folder, most_gib)
      fcntl.flock(lock, fcntl.LOCK_SH)
    (folder / _USED).write_text("")
  except BaseException:
    os.close(_in_use.pop(name))  # others may try
    raise
  return folder


def _copy_all(store: epath.Path, metadata: dict[str, Any], folder: epath.Path, most_gib: float) -> None:
  """Copies what is missing, by the one process that holds the lock."""
  wanted = _files(store, metadata)
  folder.mkdir(exist_ok=True)
  (folder / _USED).write_text("")
  missing = {name: checksum for name, checksum in wanted.items() if not (folder / name).exists()}
  _make_room(folder, sum((store / name).stat().length for name in missing), most_gib)
  logging.info("copying %s to %s", store, folder)
  _for_each(lambda name: _take(store / name, folder / name, missing[name]), missing)
  _take(store / "metadata.json", folder / "metadata.json", None)  # last: a store that has it is complete


def work_folder(bucket: epath.Path, cache: str) -> epath.Path:
  """Where the files of a bucket's store that are made on this machine stand until they are copied."""
  name = hashlib.sha256(os.fspath(bucket).encode()).hexdigest()[:16]
  return epath.Path(cache).expanduser() / f"{bucket.name}-{name}.work"


def put(folder: epath.Path, target: epath.Path, last: str | None = None) -> None:
  """Copies the files of a folder of a disk, but hidden ones, into one of a bucket; the file `last` after the others."""
  names = [name for name in _names(folder) if name != last]
  _for_each(lambda name: _copy(folder / name, target / name), names)
  if last is not None:
    _copy(folder / last, target / last)


def begin(folder: epath.Path, bucket: epath.Path) -> None:
  """Leaves a bucket with the plan and the tokenizer of an unfinished store, and with shards of that plan only.

  Args:
    folder: of a local disk, where the store is made.
  """
  plan = (folder / "plan.json").read_bytes()
  if not (bucket / "plan.json").exists() or (bucket / "plan.json").read_bytes() != plan:
    if (bucket / "shards").exists():
      (bucket / "shards").rmtree()
    put(folder / "tokenizer", bucket / "tokenizer")
    _copy(folder / "plan.json", bucket / "plan.json")


def take(shards: Iterable[epath.Path], folder: epath.Path, but: Iterable[str]) -> None:
  """Copies shards into a folder of a disk, without the arrays `but`; each file checked."""

  def one(shard: epath.Path) -> None:
    expected = records.require_json(shard / "shard.json", WAY_OUT)["sha256"]
    for name in set(expected) - set(but):
      _take(shard / f"{name}.npy", folder / shard.name / f"{name}.npy", expected[name])
    _take(shard / "shard.json", folder / shard.name / "shard.json", None)

  _for_each(one, shards)


def _files(store: epath.Path, metadata: dict[str, Any]) -> dict[str, str]:
  """The sha256 of all files of a store but its metadata.

  Raises:
    ValueError: one would lie outside of the store, and its copy outside of the cache.
  """
  shards = metadata["shards"]
  arrays = {f"shards/{s['name']}/{name}.npy": checksum for s in shards for name, checksum in s["sha256"].items()}
  files = metadata["sha256"] | arrays
  for name in files:
    foreign.inside(store, name)
  return files


def _names(folder: epath.Path) -> list[str]:
  found = []
  for where, _, names in os.walk(folder):
    found += [os.path.relpath(os.path.join(where, name), folder) for name in names if not name.startswith(".")]
  return sorted(found)


def _take(source: epath.Path, target: epath.Path, checksum: str | None) -> None:
  """Copies a file to a disk, whole or not at all; None where the file has its own checksum in it."""
  _copy(source, draft := target.parent / f"{target.name}.tmp")
  if checksum is not None and (found := checksums.hash_file(draft)) != checksum:
    draft.unlink()
    raise ValueError(f"{source} has changed since it was written (sha256 {found}, was {checksum}); {WAY_OUT}")
  draft.replace(target)


def _copy(source: epath.Path, target: epath.Path) -> None:
  target.parent.mkdir(parents=True, exist_ok=True)
  with source.open("rb") as read, target.open("wb") as written:
    shutil.copyfileobj(read, written, 1 << 24)  # pyright: ignore[reportArgumentType]


def _for_each(call: Any, items: Iterable[Any]) -> None:
  """Calls it with each, several at once, with a bar where there is a terminal."""
  items = list(items)
  with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    calls = pool.map(call, items)
    for _ in tqdm.tqdm(calls, desc="copying files", total=len(items), disable=not sys.stderr.isatty()):
      pass


def _make_room(folder: epath.Path, needed: int, most_gib: float) -> None:
  """Removes copies that nobody uses until there is room within the bound, first what was not asked for the longest."""
  most = most_gib * 2**30
  others = [(copy, _size(copy)) for copy in folder.parent.iterdir() if copy != folder and (copy / _USED).exists()]
  others.sort(key=lambda copy: (copy[0] / _USED).stat().mtime)
  taken = _size(folder) + sum(size for _, size in others)
  for copy, size in others:
    if most and taken + needed > most and _remove(copy):
      logging.info("%s makes room for another store", copy)
      taken -= size
  free = shutil.disk_usage(folder).free
  if (most and taken + needed > most) or needed > free:
    raise ValueError(
      f"a copy of {needed / 2**30:.2f} GiB has no room in {folder.parent}, where copies take {taken / 2**30:.2f} GiB,"
      f" those that are in use among them: runtime.store_cache_gib={most_gib:g}, and {free / 2**30:.2f} GiB of the disk"
      " are free; raise it, or set runtime.store_cache to a folder of a larger disk"
    )


def _size(folder: epath.Path) -> int:
  return sum(os.path.getsize(folder / name) for name in _names(folder))


def _remove(copy: epath.Path) -> bool:
  """Removes a copy, if no process makes or reads it; whether it did."""
  lock = _open_lock(copy)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shutil.rmtree(copy, ignore_errors=True)
    return True
  except BlockingIOError:
    return False
  finally:
    os.close(lock)


def _open_lock(copy: epath.Path) -> int:
  return os.open(copy.parent / f".{copy.name}.lock", os.O_RDWR | os.O_CREAT)
