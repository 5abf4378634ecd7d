"""The files that hold a model's arrays: safetensors, whole or in shards; Flax's msgpack; TF1 checkpoints.

Read, all of them give `{name: array}` with the names and shapes of Hugging Face's PyTorch modules. Nothing is
unpickled.
"""

import json
import re
import tempfile
from collections.abc import Callable
from typing import Any

import ml_dtypes  # registers bfloat16 with numpy
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MSGPACK = "flax_model.msgpack"
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl"}

assert ml_dtypes.bfloat16

Arrays = dict[str, np.ndarray]


def read(folder: epath.Path) -> tuple[Arrays, str]:
  """The arrays of a folder, and the name of the file that they came from.

  Raises:
    ValueError: there are none; they are pickled; a file is damaged, cut short or missing.
  """
  readers: tuple[tuple[str, Callable[[epath.Path], Arrays]], ...] = (
    (WEIGHTS, read_safetensors),
    (INDEX, _read_shards),
    (MSGPACK, _read_msgpack),
  )
  for name, reader in readers:
    if (folder / name).is_file():
      return reader(folder / name), name
  checkpoints = sorted(folder.glob("*.ckpt*.index")) or sorted(folder.glob("*.index"))
  if checkpoints:
    return _read_tf1(checkpoints[-1]), checkpoints[-1].name
  pickles = [path for path in sorted(folder.glob("*")) if path.suffix in _PICKLE_SUFFIXES]
  if pickles:
    raise ValueError(
      f"{folder} holds its weights as a pickle ({pickles[0].name}), which can run code when it is read; bert_jax reads"
      ' none. Where you trust it, convert it once, where torch and transformers are installed: python -c "from'
      f" transformers import AutoModel; AutoModel.from_pretrained('{folder}').save_pretrained('CONVERTED')\" (for a"
      " model with a head, its own class in place of AutoModel)"
    )
  raise ValueError(
    f"{folder} holds no weights: no {WEIGHTS}, no {INDEX}, no {MSGPACK} and no TF1 checkpoint (*.ckpt.index)"
  )


def read_safetensors(path: epath.Path) -> Arrays:
  """Raises ValueError where the file is damaged, cut short or missing."""
  try:
    if "://" not in str(path):
      return safetensors.numpy.load_file(str(path))
    with tempfile.NamedTemporaryFile() as local:  # of a bucket; read from bytes, the library knows no bfloat16
      local.write(path.read_bytes())
      local.flush()
      return safetensors.numpy.load_file(local.name)
  except FileNotFoundError as error:
    raise ValueError(f"{path} is missing") from error
  except (safetensors.SafetensorError, ValueError, KeyError) as error:
    raise ValueError(f"{path} is damaged or was cut short ({error}); fetch it again") from error


def write_safetensors(path: epath.Path, arrays: Arrays) -> None:
  """Sorted by name, so that equal arrays are equal bytes; `format` is what transformers asks for."""
  content = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
  path.write_bytes(safetensors.numpy.save(content, metadata={"format": "pt"}))


def _read_shards(index: epath.Path) -> Arrays:
  try:
    places = json.loads(index.read_text())["weight_map"]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{index} is damaged: {error!r}") from error
  arrays: Arrays = {}
  for name in sorted(set(places.values())):
    arrays |= read_safetensors(index.parent / name)
  missing = sorted(set(places) - set(arrays))
  if missing:
    raise ValueError(f"{index} lists {', '.join(missing)}, which its files do not hold")
  return arrays


def _read_msgpack(path: epath.Path) -> Arrays:
  """What transformers 4's Flax classes saved: a tree of PyTorch's names with Flax's layouts."""
  from flax import serialization, traverse_util

  try:
    tree: Any = serialization.msgpack_restore(path.read_bytes())
  except Exception as error:  # msgpack has errors of many kinds
    raise ValueError(f"{path} is damaged or was cut short ({error!r}); fetch it again") from error
  arrays: Arrays = {}
  for (*place, last), leaf in traverse_util.flatten_dict(tree.get("params", tree)).items():
    array = np.asarray(leaf)
    if last == "kernel":
      last, array = "weight", array.T
    elif last in ("embedding", "scale"):
      last = "weight"
    arrays[".".join((*place, last))] = array
  return arrays


def _read_tf1(index: epath.Path) -> Arrays:
  """A checkpoint of google-research/bert, its optimizer's slots left out."""
  try:
    import tensorflow as tf
  except ImportError as error:
    raise ValueError(f"{index} is a TF1 checkpoint, which tensorflow reads: pip install tensorflow") from error
  try:
    reader = tf.train.load_checkpoint(str(index).removesuffix(".index"))
    names = [name for name in reader.get_variable_to_shape_map() if not re.search(r"adam_[mv]$|global_step$", name)]
    return dict(_from_tf1(name, reader.get_tensor(name)) for name in names)
  except (tf.errors.OpError, ValueError) as error:
    raise ValueError(f"{index} or its data files are damaged: {error}") from error


def _from_tf1(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
  """A variable of google-research/bert's modeling.py under its PyTorch name."""
  *place, last = re.sub(r"layer_(\d+)", r"layer/\1", name).split("/")
  if last.endswith("_embeddings"):
    place, last = [*place, last], "weight"
  elif last == "kernel":
    last, array = "weight", array.T
  elif last == "output_weights":
    last = "weight"  # [classes, D], as PyTorch has it
  elif last == "output_bias":
    last = "bias"
  return ".".join((*place, last)), array
