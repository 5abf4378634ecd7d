"""A folder from a stranger is data: paths that stay inside it, files of a bounded size, JSON of a bounded form.

Nothing here knows what the files mean; `data.foreign_tokenizers` and `interop.foreign_configs` do.
"""

import json
import os
import re
from typing import Any

from etils import epath

MOST_BYTES = 2**29  # of a file that is read whole; published tokenizers have up to 34 MB
_DEEPEST = 64  # levels of JSON; published files have under ten
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def inside(folder: epath.PathLike, name: str) -> epath.Path:
  """The path of a file or folder that `folder` names, which need not exist.

  Links are followed to their end, and must end inside too. Of a download by huggingface_hub, whose files are links
  from snapshots/REVISION/ to blobs/, its blobs count as inside.

  Raises:
    ValueError: the path leads out of the folder.
  """
  root, path = epath.Path(folder), epath.Path(folder) / name
  parts = name.split("/")
  if not name or "\0" in name or "\\" in name or ".." in parts or name.startswith("/") or ":" in parts[0]:
    raise ValueError(f"{root} names the path {name!r:.200}, which does not lie inside it; it must")
  if "://" in os.fspath(root):
    return path
  real, end = os.path.realpath(root), os.path.realpath(path)
  rooms = [real]
  above = os.path.dirname(real)
  if os.path.basename(above) == "snapshots":
    rooms.append(os.path.join(os.path.dirname(above), "blobs"))
  if not any(end.startswith(os.path.join(room, "")) for room in rooms):
    raise ValueError(f"{path} is a link to {end}, outside of its folder; put a copy of the file in its place")
  return path


def is_file(folder: epath.PathLike, name: str) -> bool:
  """Whether a regular file (no pipe, no device) stands there.

  Raises:
    ValueError: as `inside`.
  """
  return is_regular(epath.Path(folder) / name) and is_regular(inside(folder, name))


def is_regular(path: epath.Path) -> bool:
  """Whether a path, its links followed, is a file with bytes in it; epath takes pipes and devices for files too."""
  return path.is_file() if "://" in os.fspath(path) else os.path.isfile(path)


def read_bytes(folder: epath.PathLike, name: str) -> bytes:
  """A file of the folder, whole.

  Raises:
    ValueError: as `inside`; there is no regular file, or one of more than `MOST_BYTES`.
  """
  path = inside(folder, name)
  if not is_regular(path):
    raise ValueError(f"{path} is missing, or no regular file")
  size = path.stat().length
  if size > MOST_BYTES:
    raise ValueError(f"{path} has {size:,} bytes; such a file has at most {MOST_BYTES:,}")
  try:
    return path.read_bytes()
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def read_text(folder: epath.PathLike, name: str) -> str:
  """A UTF-8 file of the folder.

  Raises:
    ValueError: as `read_bytes`, or it is not UTF-8.
  """
  content = read_bytes(folder, name)
  try:
    return content.decode()
  except UnicodeDecodeError as error:
    path = epath.Path(folder) / name
    raise ValueError(f"{path} is damaged: not UTF-8 at byte {error.start} ({error.reason}); fetch it again") from error


def read_json(folder: epath.PathLike, name: str) -> Any:
  """The JSON of a file of the folder.

  Raises:
    ValueError: as `read_text`, or as `parse_json`.
  """
  return parse_json(read_text(folder, name), str(epath.Path(folder) / name))


def read_object(folder: epath.PathLike, name: str) -> dict[str, Any]:
  """As `read_json`, of a file that holds an object.

  Raises:
    ValueError: as `read_json`, or it holds something else.
  """
  values = read_json(folder, name)
  if not isinstance(values, dict):
    raise ValueError(f"{epath.Path(folder) / name} is damaged: it holds no object, but {shown(values)}")
  return values


def parse_json(text: str, origin: str) -> Any:
  """Parses JSON, and refuses nesting and texts that later code could fail on.

  Raises:
    ValueError: naming `origin`.
  """
  try:
    values = json.loads(text)
  except RecursionError as error:
    raise ValueError(f"{origin} is nested more than {_DEEPEST} levels deep; no such file is") from error
  except ValueError as error:
    raise ValueError(f"{origin} is damaged: {error}; fetch it again") from error
  level, depth = [values], 0
  while level := [x for x in level if isinstance(x, (dict, list))]:
    depth += 1
    if depth > _DEEPEST:
      raise ValueError(f"{origin} is nested more than {_DEEPEST} levels deep; no such file is")
    level = [x for node in level for x in (node.values() if isinstance(node, dict) else node)]
  if _SURROGATE.search(text):
    try:
      json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
      raise ValueError(f"{origin} is damaged: it holds half a character ({error.reason})") from error
  return values


def shown(value: Any) -> str:
  """A value as it stands in a message, cut short."""
  text = json.dumps(value, default=repr)
  return text if len(text) <= 80 else f"{text[:77]}…"
