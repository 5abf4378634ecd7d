"""Folders to write a model to: checked before the work starts, and written completely or not at all."""

import contextlib
import os
from collections.abc import Iterator, Mapping

from etils import epath

from bert_jax import foreign

_PARTIAL = ".partial-"


def new_folder(path: epath.PathLike) -> epath.Path:
  """Checks that a folder is empty or does not exist, and can be written; it creates nothing.

  Raises:
    ValueError: something stands there already, or nothing can be written there.
  """
  folder = epath.Path(path)
  holds_nothing = folder.is_dir() and all(child.name.startswith(_PARTIAL) for child in folder.iterdir())
  if folder.exists() and not holds_nothing:
    raise ValueError(f"{folder} is there already; choose a new folder, so that two models are never mixed up")
  if "://" not in os.fspath(folder):
    above = epath.Path(os.path.abspath(folder))
    while not above.exists():
      above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
      raise ValueError(f"{folder} cannot be written: {above} is no folder, or not one that you may write to")
  return folder


def files_in(folder: epath.Path) -> list[str]:
  """The files of a folder and of the folders in it, sorted, by their paths in it."""
  top = list(folder.iterdir())  # no glob: the folder's own path may hold brackets
  found = [path for path in [*top, *(path for sub in top if sub.is_dir() for path in sub.iterdir())] if path.is_file()]
  return sorted(str(path.relative_to(folder)) for path in found)


def write_files(folder: epath.Path, files: Mapping[str, bytes]) -> None:
  """Writes files by their paths in the folder.

  Raises:
    ValueError: a path leads out of it.
  """
  for name, content in files.items():
    path = foreign.inside(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@contextlib.contextmanager
def atomic(path: epath.PathLike) -> Iterator[epath.Path]:
  """A folder to write to. It appears at `path` when the block ends without an error; otherwise nothing is left.

  It is written under another name and then renamed; in a bucket, where nothing can be renamed, it is written in place.

  Raises:
    ValueError: as `new_folder`.
  """
  folder = new_folder(path)
  there = folder.exists()
  scratch = folder
  if "://" not in os.fspath(folder):
    absolute = epath.Path(os.path.abspath(folder))
    name = f"{_PARTIAL}{os.getpid()}"
    scratch = absolute / name if there else absolute.parent / f"{absolute.name}{name}"
  if scratch != folder and scratch.exists():
    scratch.rmtree()
  scratch.mkdir(parents=True, exist_ok=True)
  try:
    yield scratch
    if scratch == folder:
      return
    if there:  # it may be the current folder of a shell, so it is kept
      for child in scratch.iterdir():
        child.rename(folder / child.name)
      scratch.rmdir()
    else:
      scratch.rename(folder)
  except BaseException:
    if scratch.exists():
      scratch.rmtree()
    raise
