"""The safetensors format, compared with the library, and what no weight may be."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from etils import epath

from bert_jax.interop import stored
from bert_jax.interop.stored import Stored

ARRAYS = {
  "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5,
  "a é": np.float32([[[7]]]),
  "none": np.zeros((0, 5), np.float32),
  "number": np.array(3.5, np.float32),
}


def save(folder: Path, **arrays: np.ndarray) -> epath.Path:
  safetensors.numpy.save_file(arrays, folder / "x.safetensors")
  return epath.Path(folder / "x.safetensors")


def read(path: epath.Path) -> dict[str, np.ndarray]:
  return {name: array.read() for name, array in stored.open_safetensors(path).items()}


def test_what_is_written_is_what_the_library_writes(tmp_path: Path) -> None:
  path = epath.Path(tmp_path / "x.safetensors")
  stored.write_safetensors(path, [(name, lambda array=array: array) for name, array in ARRAYS.items()])
  assert path.read_bytes() == safetensors.numpy.save(dict(sorted(ARRAYS.items())), metadata={"format": "pt"})
  for found in (read(path), safetensors.numpy.load_file(path)):
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
      np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_fractions_of_other_widths_become_float32(dtype: Any, tmp_path: Path) -> None:
  array = np.array([[0.5, -3.25], [1e-3, 0.0], [7, 9]]).astype(dtype)
  found = stored.open_safetensors(save(tmp_path, x=array))["x"]
  assert found.shape == (3, 2)
  assert found.read().dtype == np.float32
  np.testing.assert_array_equal(found.read(), array.astype(np.float32))


@pytest.mark.parametrize(
  ("array", "message"),
  [
    (np.float32([1, np.nan]), r"holds x with NaN in it"),
    (np.float32([1, -np.inf]), r"holds x with an infinity in it"),
    (np.float64([1, 1e300]), r"holds x with an infinity in it"),
    (np.array([1, np.inf]).astype(ml_dtypes.bfloat16), r"holds x with an infinity in it"),
    (np.int8([1, 2]), r"holds x as I8; weights are F32, F16, BF16 or F64"),
    (np.array([True, False]), r"holds x as BOOL"),
    (np.float32([1, 2]).view(np.int32), r"holds x as I32"),
    (np.int32([17, 4000, 0]).view(np.float32), r"holds x with numbers below 1e-38 only: integers"),
    (np.int64([17, 4000, 0]).view(np.float64), r"holds x with numbers below 2e-308 only: integers"),
    (np.int32([-17, 4]).view(np.float32), r"holds x with NaN in it"),
  ],
  ids=str,
)
def test_what_is_no_weight_is_named(array: np.ndarray, message: str, tmp_path: Path) -> None:
  found = stored.open_safetensors(save(tmp_path, x=array, position_ids=np.arange(4), good=np.float32([1e-45, 1, 0])))
  found["good"].read()
  with pytest.raises(ValueError, match=message):
    found["x"].read()


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F4", "U8"])
def test_quantized_types_are_named(kind: str, tmp_path: Path) -> None:
  header = {"q.weight": {"dtype": kind, "shape": [4], "data_offsets": [0, 2 if kind == "F4" else 4]}}
  text = json.dumps(header).encode()
  path = epath.Path(tmp_path / "x.safetensors")
  path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(header["q.weight"]["data_offsets"][1]))
  with pytest.raises(ValueError, match=rf"x.safetensors holds q.weight as {kind}; .* no quantized ones"):
    stored.open_safetensors(path)["q.weight"].read()


def test_arrays_of_other_files_are_held_to_the_same() -> None:
  for array in (np.int8([3]), np.array(["text"]), np.array(None), np.zeros(2, np.complex64)):
    with pytest.raises(ValueError, match=r"flax_model.msgpack holds a.b as .*; weights are float32"):
      Stored("a.b", array.shape, "flax_model.msgpack", lambda array=array: array).read()


def test_a_file_is_open_to_us_just_where_it_is_to_the_library(tmp_path: Path) -> None:
  """Over headers and lengths that were changed at random places."""
  whole = safetensors.numpy.save(ARRAYS)
  length = int.from_bytes(whole[:8], "little")
  draw = np.random.default_rng(0)
  opened = 0
  path = epath.Path(tmp_path / "x.safetensors")
  for _ in range(600):
    content = bytearray(whole)
    for _ in range(draw.integers(1, 3)):
      place = int(draw.integers(0, 8 + length))
      content[place] = int(draw.choice([*b'0123456789[]{},":-', int(draw.integers(256))]))
    if draw.random() < 0.1:
      content = content[: int(draw.integers(len(content)))]
    path.write_bytes(bytes(content))
    try:
      theirs = safetensors.numpy.load(bytes(content))
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError):
      theirs = None
    said, ours = "", {}
    try:
      ours = read(path)
    except ValueError as error:
      said = str(error)
    if said:
      assert str(path) in said
      continue
    opened += 1
    assert theirs is not None, bytes(content)
    for name, array in ours.items():
      np.testing.assert_array_equal(array, theirs[name])
  assert opened > 10


def test_a_header_of_more_than_there_is_is_not_read(tmp_path: Path) -> None:
  path = epath.Path(tmp_path / "x.safetensors")
  for content in (
    b"",
    b"\xff" * 8,
    (2**40).to_bytes(8, "little") + b"{}",
    (10**6).to_bytes(8, "little") + b"[" * 10**6,
  ):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x.safetensors"):
      stored.open_safetensors(path)
