"""Files of text: which ones a folder or glob means, each real one once, and how much of one is read at a time."""

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from typing import IO

from absl import logging
from etils import epath

# No document is larger than this, in bytes, so that memory is bounded whatever a compressed file unfolds to: a document
# is held whole, several times over, while it is cut into sentences and tokens.
MAX_DOCUMENT_BYTES = 64 << 20


def match(pattern: str, suffixes: tuple[str, ...]) -> list[epath.Path]:
  """The files of a folder and its subfolders that end so, or of a glob, sorted by name.

  Links are followed; a file that several names lead to is read under the first of them.

  Raises:
    ValueError: what matches is no regular file: a FIFO, a device, a socket, or a link to nothing.
  """
  path = epath.Path(pattern).expanduser()
  if "://" in pattern:
    return _match_remote(path, suffixes)
  if path.is_dir():
    found = [name for name in _walk(os.fspath(path)) if name.endswith(packed(*suffixes))]
  elif os.path.lexists(path):
    found = [os.fspath(path)]
  elif "**" in path.parts:
    found = list(_glob_deep(path.parts))
  else:
    found = [name for name in glob.glob(os.fspath(path)) if not os.path.isdir(name)]
  files: dict[tuple[int, int], str] = {}
  for name in sorted(map(epath.Path, found)):
    files.setdefault(_identity(os.fspath(name)), os.fspath(name))
  if len(files) < len(found):
    logging.info("%s: %d names lead to files that have others; each file is read once", path, len(found) - len(files))
  return [epath.Path(name) for name in files.values()]


def packed(*suffixes: str) -> tuple[str, ...]:
  """Endings of file names, with those of compressed files."""
  return tuple(suffix + packed for suffix in suffixes for packed in ("", ".gz", ".xz", ".zst"))


def _walk(folder: str) -> Iterator[str]:
  """All files under a folder. A subfolder is entered once, however many links lead to it, so no link makes a loop."""
  seen = set()
  for where, folders, names in os.walk(folder, followlinks=True):
    here = os.stat(where)
    if (here.st_dev, here.st_ino) in seen:
      folders.clear()
      continue
    seen.add((here.st_dev, here.st_ino))
    folders.sort()
    yield from (os.path.join(where, name) for name in names)


def _glob_deep(pattern: tuple[str, ...]) -> Iterator[str]:
  """The files that a glob with ** means; Python's own goes round and round where links make a loop."""
  fixed = next(i for i, part in enumerate(pattern) if glob.has_magic(part))
  folder = os.path.join(*pattern[:fixed]) if fixed else "."
  for name in _walk(folder) if os.path.isdir(folder) else ():
    if _fits(epath.Path(name).relative_to(folder).parts, pattern[fixed:]):
      yield name


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
  """Whether a glob means a path: ** stands for any number of folders; hidden names are to be named with their dot."""
  if not pattern:
    return not parts
  if pattern == ("**",):
    return bool(parts) and all(part[0] != "." for part in parts)
  if pattern[0] == "**":
    return _fits(parts, pattern[1:]) or (bool(parts) and parts[0][0] != "." and _fits(parts[1:], pattern))
  hidden = bool(parts) and parts[0][0] == "." and pattern[0][0] != "."
  return bool(parts) and not hidden and fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _identity(name: str) -> tuple[int, int]:
  """What tells a real file from all others: device and inode."""
  try:
    found = os.stat(name)
  except OSError as error:
    raise ValueError(f"{name} cannot be read: {error.strerror}; remove it, or leave it out with a glob") from error
  if not stat.S_ISREG(found.st_mode):
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    raise ValueError(
      f"{name} is {kinds.get(stat.S_IFMT(found.st_mode), 'something else')} and must be a regular file, as text is "
      "read several times; write what it gives to a file first"
    )
  return found.st_dev, found.st_ino


def _match_remote(path: epath.Path, suffixes: tuple[str, ...]) -> list[epath.Path]:
  """The same in a bucket, which has neither links nor FIFOs."""
  if path.is_file():
    return [path]
  if path.is_dir():
    return sorted(file for file in _walk_remote(path) if file.name.endswith(packed(*suffixes)))
  fixed = next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), None)
  if fixed is None:
    return []
  found = epath.Path(*path.parts[:fixed]).glob("/".join(path.parts[fixed:]))
  return sorted(file for file in found if file.is_file())


def _walk_remote(folder: epath.Path) -> Iterator[epath.Path]:
  for path in folder.iterdir():  # epath's own glob knows no **
    if path.is_dir():
      yield from _walk_remote(path)
    else:
      yield path


def common_folder(files: list[epath.Path]) -> epath.Path:
  """The deepest folder that holds all files."""
  folder = files[0].parent
  while not all(file.is_relative_to(folder) for file in files):
    folder = folder.parent
  return folder


def read_whole(stream: IO[bytes], name: str, way_out: str) -> bytes:
  """A stream to its end.

  Raises:
    ValueError: it holds more than `MAX_DOCUMENT_BYTES`.
  """
  content = stream.read(MAX_DOCUMENT_BYTES + 1)
  if len(content) > MAX_DOCUMENT_BYTES:
    raise too_large(name, way_out)
  return content


def read_lines(stream: IO[bytes], file: epath.Path, way_out: str) -> Iterator[bytes]:
  """The lines of a stream, with their ends.

  Raises:
    ValueError: naming a line of more than `MAX_DOCUMENT_BYTES`.
  """
  number = 0
  while line := stream.readline(MAX_DOCUMENT_BYTES + 1):
    number += 1
    if len(line) > MAX_DOCUMENT_BYTES:
      raise too_large(f"{file}, line {number}", way_out)
    yield line


def too_large(name: str, way_out: str) -> ValueError:
  """The error for a document of more than `MAX_DOCUMENT_BYTES`."""
  return ValueError(f"{name} is one document of more than {MAX_DOCUMENT_BYTES:,} bytes, which is the most; {way_out}")
