"""What was written is what is read: files held against their sha256, and JSON files that carry their own."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

_NONE = "0" * 64  # stands where the checksum will, while it is worked out


def hash_file(file: epath.Path) -> str:
  """sha256 of a file, in hex; about 1 GB a second where the processor has instructions for it."""
  with file.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def verify_files(folder: epath.Path, expected: Mapping[str, str], way_out: str) -> None:
  """Holds files against their checksums.

  Args:
    folder: where they lie.
    expected: the sha256 of each, by its path in the folder.
    way_out: of the message.

  Raises:
    ValueError: naming a file that is missing or is not the one that was written.
  """
  for name, checksum in expected.items():
    file = folder / name
    found = hash_file(file) if file.exists() else "missing"
    if found != checksum:
      raise ValueError(f"{file} has changed since it was written (sha256 {found}, was {checksum}); {way_out}")


def signed_json(content: Mapping[str, Any]) -> str:
  """JSON text that carries the sha256 of itself, as `checksum`."""
  assert "checksum" not in content
  text = json.dumps({"checksum": _NONE, **content}, indent=1) + "\n"
  return text.replace(_NONE, hashlib.sha256(text.encode()).hexdigest(), 1)


def read_signed_json(file: epath.Path, way_out: str) -> dict[str, Any]:
  """What `signed_json` made into a file, without the checksum.

  Raises:
    ValueError: naming the file, which is missing or is not as it was written.
  """
  try:
    raw = file.read_bytes()
    content = json.loads(raw)
    checksum = content.pop("checksum")
    unsigned = raw.replace(checksum.encode(), _NONE.encode(), 1)
  except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
    raise ValueError(f"{file} is missing or damaged ({error!r}); {way_out}") from error
  if (found := hashlib.sha256(unsigned).hexdigest()) != checksum:
    raise ValueError(f"{file} has changed since it was written (sha256 {found}, was {checksum}); {way_out}")
  return content
