"""Arrays in files, read one at a time; the safetensors format, read and written one array at a time.

The format (huggingface.co/docs/safetensors): 8 bytes with the header's length, the header as JSON (name → dtype,
shape, place), and the arrays, one after the other without gaps.
"""

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from bert_jax import foreign

_DTYPES: dict[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64}
_BITS |= {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "C64": 64}
_BITS |= {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}
_BITS |= {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
_MOST_HEADER = 100_000_000  # bytes, as the format has it


@dataclasses.dataclass(frozen=True)
class Stored:
  """One array of a file, not read yet.

  Attributes:
    name: of the array in the file that holds it.
    shape: of what `read` returns.
    origin: the file, for messages.
    load: reads it, in the dtype in which it is stored.
  """

  name: str
  shape: tuple[int, ...]
  origin: str = dataclasses.field(repr=False)
  load: Callable[[], np.ndarray] = dataclasses.field(repr=False)

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  def read(self) -> np.ndarray:
    """The array, as float32.

    Raises:
      ValueError: it is not stored as floating-point numbers; it holds NaN, an infinity, or integers that are marked as
        floating-point; or the file was cut short after it was opened.
    """
    array = self.load()
    place = f"{self.origin} holds {self.name}"
    if array.dtype not in _DTYPES.values():
      raise ValueError(
        f"{place} as {array.dtype}; weights are float32, float16, bfloat16 or float64, and bert_jax reads no quantized"
        " ones. Take the model as it was before"
      )
    tiny = 0.0 if array.dtype == np.float16 else float(ml_dtypes.finfo(array.dtype).tiny)
    with np.errstate(over="ignore", under="ignore"):
      result = np.asarray(array, np.float32)
    if not result.size:
      return result
    low, high = float(result.min()), float(result.max())
    if not (math.isfinite(low) and math.isfinite(high)):
      what = "NaN" if math.isnan(low + high) and not np.isinf([low, high]).any() else "an infinity"
      raise ValueError(f"{place} with {what} in it; the file is damaged, or training had failed: fetch it again")
    if max(-low, high) < tiny and array.any():
      raise ValueError(
        f"{place} with numbers below {tiny:.0e} only: integers that are marked as fractions; fetch it again"
      )
    return result


Arrays = dict[str, Stored]  # by name


def open_safetensors(path: epath.Path) -> Arrays:
  """The arrays of a file by name; only the header is read.

  Raises:
    ValueError: the file is missing, damaged or cut short.
  """
  if not foreign.is_regular(path):
    raise ValueError(f"{path} is missing, or no regular file")
  file = _Local(path)
  origin, total = str(path), file.size()
  length = int.from_bytes(file.read(0, 8), "little") if total >= 8 else total
  if length > min(total - 8, _MOST_HEADER):
    raise ValueError(_damaged(path, f"its header is to have {length:,} bytes, and the file has {total:,}"))
  try:
    header = foreign.parse_json(file.read(8, length).decode(), f"{path}, its header,")
  except UnicodeDecodeError as error:
    raise ValueError(_damaged(path, f"its header is not UTF-8: {error.reason}")) from error
  if not isinstance(header, dict):
    raise ValueError(_damaged(path, "its header is no object"))
  header.pop("__metadata__", None)
  rows = [_row(path, name, about) for name, about in header.items()]
  found: Arrays = {}
  end = 0
  for name, begin, stop, kind, shape in sorted(rows, key=lambda row: row[1:3]):
    if begin != end or 8 * (stop - begin) != math.prod(shape) * _BITS[kind]:
      raise ValueError(_damaged(path, f"the place of {name} in it does not fit its shape"))
    end = stop
    found[name] = Stored(name, shape, origin, _loader(file, 8 + length + begin, stop - begin, kind, shape, name))
  if 8 + length + end != total:
    raise ValueError(_damaged(path, f"it has {total:,} bytes, and its header speaks of {8 + length + end:,}"))
  return found


def write_safetensors(path: epath.Path, arrays: Iterable[tuple[str, Callable[[], np.ndarray]]]) -> None:
  """Writes float32 arrays one by one, sorted by name, so that equal arrays give equal files.

  Args:
    arrays: each a name and a function that makes the array. It is called twice, so that no array is kept in memory.
  """
  rows = sorted(arrays)
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # which transformers requires
  end = 0
  for name, make in rows:
    shape = make().shape
    begin, end = end, end + 4 * math.prod(shape)
    header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
  text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
  text += b" " * (-len(text) % 8)
  with path.open("wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for _, make in rows:
      file.write(np.ascontiguousarray(make(), np.float32).reshape(-1).view(np.uint8).data)


class _Local:
  """A file to read parts of; a file in a bucket is fetched first."""

  def __init__(self, path: epath.Path):
    self.origin, self._path, self._fetched = str(path), path, None
    if "://" in str(path):
      self._fetched = tempfile.NamedTemporaryFile()  # noqa: SIM115 (it is removed with the last array that needs it)
      self._fetched.write(path.read_bytes())
      self._fetched.flush()
      self._path = epath.Path(self._fetched.name)

  def size(self) -> int:
    return self._path.stat().length

  def read(self, first: int, count: int) -> bytes:
    with open(self._path, "rb") as file:
      file.seek(first)
      return file.read(count)


def _row(path: epath.Path, name: str, about: Any) -> tuple[str, int, int, str, tuple[int, ...]]:
  """An entry of a header as (name, begin, stop, dtype, shape). Raises ValueError where it is damaged."""
  kind, shape, place = (about.get(k) for k in ("dtype", "shape", "data_offsets")) if isinstance(about, dict) else "???"
  if not (isinstance(shape, list) and isinstance(place, list) and len(shape) <= 8 and len(place) == 2) or not all(
    type(number) is int and 0 <= number < 2**63 for number in (*shape, *place)
  ):
    raise ValueError(_damaged(path, f"its header says nothing sound of {foreign.shown(name)}"))
  if not isinstance(kind, str) or kind not in _BITS:
    raise ValueError(f"{path} holds {name} as {foreign.shown(kind)}, a type that safetensors does not have")
  return name, place[0], place[1], kind, tuple(shape)


def _loader(
  file: _Local, first: int, count: int, kind: str, shape: tuple[int, ...], name: str
) -> Callable[[], np.ndarray]:
  def load() -> np.ndarray:
    if kind not in _DTYPES:
      raise ValueError(
        f"{file.origin} holds {name} as {kind}; weights are F32, F16, BF16 or F64, and bert_jax reads no quantized"
        " ones. Take the model as it was before"
      )
    content = file.read(first, count)
    if len(content) != count:
      raise ValueError(f"{file.origin} was cut short while it was read; fetch it again")
    return np.frombuffer(content, _DTYPES[kind]).reshape(shape)

  return load


def _damaged(path: epath.Path, why: str) -> str:
  return f"{path} is damaged or was cut short ({why}); fetch it again"
