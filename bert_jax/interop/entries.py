"""One array of Hugging Face's beside one of ours, and all of a model's from either side to the other.

PyTorch's Linear holds [out, in] where our kernels are [in, out].
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Path = tuple[str, ...]
Change = Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
  return x


def _transposed(x: np.ndarray) -> np.ndarray:
  return x.T


@dataclasses.dataclass(frozen=True)
class Entry:
  """One array.

  Attributes:
    path: of our parameter.
    key: their name.
    layer: which row of our stacked array; None for all of it.
    ours: from their array to ours.
    theirs: from our array to theirs.
  """

  path: Path
  key: str
  layer: int | None = None
  ours: Change = _same
  theirs: Change = _same


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a part stands: our path, their prefix, and the layer if it is one of a stack."""

  path: Path
  key: str
  layer: int | None = None

  def array(self, ours: str, theirs: str, into: Change = _same, back: Change = _same) -> Entry:
    return Entry((*self.path, *ours.split(".")), self.key + theirs, self.layer, into, back)

  def dense(self, ours: str, theirs: str, bias: bool = True) -> Iterator[Entry]:
    yield self.array(f"{ours}.kernel", f"{theirs}.weight", _transposed, _transposed)
    if bias:
      yield self.array(f"{ours}.bias", f"{theirs}.bias")

  def norm(self, ours: str, theirs: str, bias: bool = True) -> Iterator[Entry]:
    yield self.array(f"{ours}.scale", f"{theirs}.weight")
    if bias:
      yield self.array(f"{ours}.bias", f"{theirs}.bias")


def to_ours(arrays: dict[str, np.ndarray], found: list[Entry]) -> Any:
  """Our parameters of their arrays, float32; `arrays` has every key of the entries."""
  rows: dict[Path, list[tuple[int, np.ndarray]]] = {}
  for entry in found:
    array = np.asarray(entry.ours(arrays[entry.key]), np.float32)
    rows.setdefault(entry.path, []).append((-1 if entry.layer is None else entry.layer, array))
  params: dict[str, Any] = {}
  for path, parts in rows.items():
    node = params
    for name in path[:-1]:
      node = node.setdefault(name, {})
    parts.sort(key=lambda part: part[0])
    alone = parts[0][0] == -1
    assert not alone or len(parts) == 1, path
    node[path[-1]] = np.ascontiguousarray(parts[0][1]) if alone else np.stack([array for _, array in parts])
  return params


def to_theirs(params: Any, found: list[Entry]) -> dict[str, np.ndarray]:
  """Their arrays of our parameters, or of anything shaped like them, such as a gradient."""
  arrays = {}
  for entry in found:
    node = params
    for name in entry.path:
      node = node[name]
    array = np.asarray(node if entry.layer is None else node[entry.layer])
    arrays[entry.key] = np.ascontiguousarray(entry.theirs(array))
  return arrays
