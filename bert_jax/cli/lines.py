"""Lines of text in, whole files out."""

import os
import sys
from collections.abc import Callable
from typing import IO, Any


def read_lines(file: IO[bytes], origin: str) -> list[str]:
  """All lines, without their ends; blank ones are texts too, so that line n stays line n.

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


def write_whole(path: str, write: Callable[[IO[bytes]], Any]) -> None:
  """Writes a file under another name and renames it, so that there is never a part of one."""
  scratch = f"{path}.tmp"
  try:
    with open(scratch, "wb") as file:
      write(file)
    os.replace(scratch, path)
  finally:
    if os.path.exists(scratch):
      os.remove(scratch)
