"""Reads lines of text, and writes files completely or not at all."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any


def read_lines(file: IO[bytes], origin: str) -> list[str]:
  """All lines, without their ends; blank ones are kept, so that line n stays line n.

  Raises:
    ValueError: there is no line, or one is not UTF-8.
  """
  content = file.read()
  try:
    lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
  except UnicodeDecodeError as error:
    number = content[: error.start].count(b"\n") + 1
    raise ValueError(f"{origin}, line {number}: not UTF-8 ({error.reason}); convert it, say with iconv") from error
  if lines and not lines[-1]:
    lines.pop()
  if not lines:
    raise ValueError(f"{origin} is empty; give it one text a line")
  blank = sum(not line.strip() for line in lines)
  if blank:
    print(f"{blank} of {len(lines)} lines of {origin} are blank; they count as texts without words", file=sys.stderr)
  return lines


def input_lines(path: str) -> list[str]:
  """The lines of a file, or of stdin for `-`; see `read_lines`.

  Raises:
    ValueError: the file cannot be read, or stdin is closed; see also `read_lines`.
  """
  if path == "-":
    if sys.stdin is None:
      raise ValueError("stdin is closed; name a file, or pipe the texts in")
    return read_lines(sys.stdin.buffer, "stdin")
  try:
    with open(path, "rb") as file:
      return read_lines(file, path)
  except OSError as error:
    raise ValueError(f"{path}: {error.strerror}") from error


def streamed_lines(path: str) -> Iterator[str]:
  """The lines of a file, or of stdin for `-`, one by one; see `read_lines`. Whether it is there is asked at once.

  Raises:
    ValueError: the file cannot be read, has no line, or one that is not UTF-8; stdin is closed.
  """
  if path == "-":
    if sys.stdin is None:
      raise ValueError("stdin is closed; name a file, or pipe the texts in")
    return _decoded(sys.stdin.buffer, "stdin")
  try:
    file = open(path, "rb")  # noqa: SIM115
  except OSError as error:
    raise ValueError(f"{path}: {error.strerror}") from error
  return _decoded(file, path)


def _decoded(file: IO[bytes], path: str) -> Iterator[str]:
  number = 0
  with file:
    for number, line in enumerate(file, 1):
      try:
        yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
      except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert it, say with iconv") from error
  if not number:
    raise ValueError(f"{path} is empty; give it one text a line")


def check_output(path: str, sources: Sequence[str]) -> None:
  """Checks that a file can be written, before the work whose result it will hold.

  Args:
    sources: files that are read; the output may be none of them.

  Raises:
    ValueError: it cannot be written, or it is one of the sources.
  """
  if path == "-":
    if sys.stdout is None:
      raise ValueError("stdout is closed; name a file with --output")
    return
  folder = os.path.dirname(path) or "."
  if not os.path.isdir(folder):
    raise ValueError(f"{path}: there is no folder {folder}; make it first")
  if os.path.exists(path) and not os.path.isfile(path):
    raise ValueError(f"{path} is there and no file; choose another name")
  if not os.access(os.path.dirname(os.path.realpath(path)), os.W_OK | os.X_OK):
    raise ValueError(f"{path}: you may not write to its folder; choose another")
  for source in sources:
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
      raise ValueError(f"{path} is read, and would be overwritten; choose another --output")


def write_whole(path: str, write: Callable[[IO[bytes]], Any]) -> None:
  """Writes a file under a new name and then renames it, so that no incomplete file is ever at `path`."""
  path = os.path.realpath(path)  # a link stays a link
  descriptor, scratch = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
  try:
    with open(descriptor, "wb") as file:
      write(file)
    os.chmod(scratch, os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o666 & ~_umask())
    os.replace(scratch, path)
  finally:
    if os.path.exists(scratch):
      os.remove(scratch)


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask
