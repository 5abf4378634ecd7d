"""Our own files, written whole or not at all; JSON and JSON lines carry a checksum, so that damage is never a result.

The checksum is the key `crc32` beside the others, so that a person reads the files as before.
"""

import contextlib
import json
import math
import zlib
from collections.abc import Iterator
from typing import Any

from absl import logging
from etils import epath

KEY = "crc32"


def _checksum(values: dict[str, Any]) -> str:
  """The checksum of the values, whatever their order and layout in a file."""
  return f"{zlib.crc32(json.dumps(values, sort_keys=True, allow_nan=False).encode()):08x}"


def storable(value: Any) -> Any:
  """`value` with null for what JSON has no number for: NaN and the infinities."""
  if isinstance(value, dict):
    return {name: storable(part) for name, part in value.items()}
  if isinstance(value, list | tuple):
    return [storable(part) for part in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def _sealed(values: dict[str, Any]) -> dict[str, Any]:
  plain = json.loads(json.dumps(storable(values), allow_nan=False))  # keys as JSON has them
  plain.pop(KEY, None)  # of values that were read by other means
  return plain | {KEY: _checksum(plain)}


def _unsealed(text: str) -> dict[str, Any]:
  """The values of a sealed object.

  Raises:
    ValueError: it is not what was written, with the reason.
  """
  try:
    values = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"it is no JSON: {error}") from error
  if not isinstance(values, dict) or not isinstance(stated := values.pop(KEY, None), str):
    raise ValueError(f"its checksum {KEY} is missing")
  try:
    found = _checksum(values)
  except ValueError:  # NaN or Infinity, which is never written
    found = "none"
  if found != stated:
    raise ValueError(f"its checksum is {found}, and {KEY} says {stated}")
  return values


# ---- files of one object ---------------------------------------------------------------------------------------------


def write_json(path: epath.Path, values: dict[str, Any]) -> None:
  """Writes JSON with its checksum, whole or not at all; what is not finite is written as null.

  Raises:
    ValueError: it cannot be written.
  """
  write_text(path, json.dumps(_sealed(values), indent=1, sort_keys=True) + "\n")


def read_json(path: epath.Path, way_out: str) -> dict[str, Any] | None:
  """What `write_json` wrote; None where there is no such file.

  Args:
    path: of the file.
    way_out: what to do where it is damaged, for the message.

  Raises:
    ValueError: the file is not as it was written.
  """
  try:
    return _unsealed(path.read_bytes().decode(errors="replace"))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error.strerror}; {way_out}") from error
  except ValueError as error:
    raise ValueError(f"{path} is not as it was written ({error}); {way_out}") from error


def require_json(path: epath.Path, way_out: str) -> dict[str, Any]:
  """As `read_json`, of a file that must be there.

  Raises:
    ValueError: it is missing, or not as it was written.
  """
  values = read_json(path, way_out)
  if values is None:
    raise ValueError(f"{path} is missing; {way_out}")
  return values


def write_text(path: epath.Path, text: str) -> None:
  """Writes a file so that a reader, or a process that is killed, sees the old or the new one and never a part.

  Raises:
    ValueError: it cannot be written.
  """
  write_bytes(path, text.encode())


def write_bytes(path: epath.Path, content: bytes) -> None:
  """As `write_text`."""
  try:
    with replacing(path) as draft:
      draft.write_bytes(content)
  except OSError as error:
    raise write_error(path, error) from error


@contextlib.contextmanager
def replacing(path: epath.Path) -> Iterator[epath.Path]:
  """A file beside `path` to write to, which takes its place when the block ends without an error.

  What is at hand where a run is killed is the old file or the new one, and perhaps a `.tmp` that the next one replaces.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  draft = path.parent / (path.name + ".tmp")
  yield draft
  draft.replace(path)


def write_error(path: epath.Path, error: OSError) -> ValueError:
  """What to tell a user whose disk is full."""
  return ValueError(f"could not write {path}: {error.strerror}. Make room there and run the same command again")


# ---- files of lines --------------------------------------------------------------------------------------------------


def line(values: dict[str, Any]) -> str:
  """One line, with its checksum as the last value."""
  return json.dumps(_sealed(values)) + "\n"


def read_lines(path: epath.Path) -> list[dict[str, Any]]:
  """The lines of a file that are as they were written; none where there is no file.

  A damaged line is named in the log and left out. A last line that a kill cut short is left out without a word.
  """
  try:
    content = path.read_bytes().decode(errors="replace")
  except (FileNotFoundError, NotADirectoryError):
    return []
  texts = content.split("\n")
  read = []
  for number, text in enumerate(texts, 1):
    if not text:
      continue
    try:
      read.append(_unsealed(text))
    except ValueError as error:
      if number < len(texts):
        logging.warning("%s, line %d is not as it was written and is left out: %s", path, number, error)
  return read
