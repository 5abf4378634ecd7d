"""What was written is what is read: files are checked by their sha256. JSON files carry their own; see `records.py`."""

import hashlib
from collections.abc import Mapping

from etils import epath


def hash_file(file: epath.Path) -> str:
  """sha256 of a file, in hex; about 1 GB a second where the processor has instructions for it."""
  with file.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]


def verify_files(folder: epath.Path, expected: Mapping[str, str], way_out: str) -> None:
  """Checks files against their checksums.

  Args:
    folder: that they are in.
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
