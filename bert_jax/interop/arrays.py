"""Which array of Hugging Face belongs to which of ours, and the conversion of both.

PyTorch's Linear holds [out, in] where our kernels are [in, out].
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bert_jax.interop.stored import Stored

Path = tuple[str, ...]
Change = Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
  return x


def _transposed(x: np.ndarray) -> np.ndarray:
  return x.T


@dataclasses.dataclass(frozen=True)
class Entry:
  """One of Hugging Face's arrays, and the parameter of ours that holds it.

  Attributes:
    path: of our parameter.
    key: their name.
    layer: the row of our stacked array; None for the whole array.
    ours: makes our array from theirs.
    theirs: makes their array from ours.
  """

  path: Path
  key: str
  layer: int | None = None
  ours: Change = _same
  theirs: Change = _same


@dataclasses.dataclass(frozen=True)
class Place:
  """The place of a module: our path, their prefix, and the layer if it is one of a stack."""

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


def to_ours(arrays: Mapping[str, Stored], entries: list[Entry]) -> Any:
  """Our parameters, float32, from their arrays, which are read one at a time; `arrays` has every key of the entries."""
  layers = Counter(entry.path for entry in entries)
  params: dict[str, Any] = {}
  for entry in entries:
    array = entry.ours(arrays[entry.key].read())
    node = params
    for name in entry.path[:-1]:
      node = node.setdefault(name, {})
    name = entry.path[-1]
    if entry.layer is None:
      assert name not in node, entry.path
      node[name] = np.ascontiguousarray(array)
    else:
      if name not in node:
        node[name] = np.empty((layers[entry.path], *array.shape), np.float32)
      node[name][entry.layer] = array
  return params


def to_theirs(params: Any, entries: list[Entry]) -> dict[str, np.ndarray]:
  """Their arrays from our parameters, or from anything of that shape, such as a gradient."""
  return {entry.key: one_of_theirs(params, entry) for entry in entries}


def one_of_theirs(params: Any, entry: Entry) -> np.ndarray:
  """Like `to_theirs`, for one array."""
  node = params
  for name in entry.path:
    node = node[name]
  array = np.asarray(node)
  array = array if entry.layer is None else array[entry.layer]
  return np.ascontiguousarray(entry.theirs(array))
