"""The files that hold a model's arrays: safetensors, in one file or in shards; Flax's msgpack; TF1 checkpoints.

All of them give the names and shapes of Hugging Face's PyTorch modules, and an array is read when it is asked for.
Nothing is unpickled.
"""

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath

from bert_jax import foreign
from bert_jax.interop import foreign_configs
from bert_jax.interop.stored import Arrays, Stored, open_safetensors

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MSGPACK = "flax_model.msgpack"
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".pkl"}


def read(folder: epath.Path) -> tuple[Arrays, str]:
  """The arrays of a folder, and the name of the file that they came from.

  Raises:
    ValueError: there are none, or they are pickled; a file is damaged, cut short, missing, or outside the folder.
  """
  readers: tuple[tuple[str, Callable[[epath.Path], Arrays]], ...] = (
    (WEIGHTS, open_safetensors),
    (INDEX, _open_shards),
    (MSGPACK, _open_msgpack),
  )
  for name, reader in readers:
    if foreign.is_file(folder, name):
      return reader(folder / name), name
  files = sorted(folder.iterdir())  # no glob: the folder's own path may hold brackets
  indices = [file for file in files if file.name.endswith(".index")]
  checkpoints = [file for file in indices if ".ckpt" in file.name] or indices
  checkpoints = [path for path in checkpoints if foreign.is_file(folder, path.name)]
  if checkpoints:
    return _open_tf1(checkpoints[-1]), checkpoints[-1].name
  pickles = [path for path in files if path.suffix in _PICKLE_SUFFIXES]
  pickles = [path for path in pickles if path.name.startswith("pytorch_model")] or pickles
  if pickles:
    raise ValueError(
      f"{folder} holds its weights as a pickle ({pickles[0].name}), which can run code when it is read; bert_jax reads"
      " none. Write them once as safetensors, which leaves all else in the folder as it is, where torch is installed"
      f" (it reads arrays alone, and runs nothing):\n{_conversion(folder, [path.name for path in pickles])}"
    )
  raise ValueError(
    f"{folder} holds no weights: no {WEIGHTS}, no {INDEX}, no {MSGPACK} and no TF1 checkpoint (*.ckpt.index)"
  )


def _conversion(folder: epath.Path, files: list[str]) -> str:
  """The shell command that writes all pickled arrays of a folder as safetensors beside them."""
  paths = [str(folder / name) for name in files if name.startswith("pytorch_model") or name == files[0]]
  code = (
    "import safetensors.torch, torch; arrays = {name: x.clone().contiguous() for path in"
    f" {json.dumps(paths, ensure_ascii=False)} for name, x in"
    ' torch.load(path, map_location="cpu", weights_only=True).items()}; safetensors.torch.save_file(arrays,'
    f' {json.dumps(str(folder / WEIGHTS), ensure_ascii=False)}, {{"format": "pt"}})'
  )
  return f"python -c {shlex.quote(code)}"


def _open_shards(index: epath.Path) -> Arrays:
  places = foreign_configs.weight_map(foreign.read_object(index.parent, index.name), str(index))
  arrays: Arrays = {}
  for name in sorted(set(places.values())):
    arrays |= open_safetensors(foreign.inside(index.parent, name))
  missing = sorted(set(places) - set(arrays))
  if missing:
    raise ValueError(f"{index} lists {', '.join(missing[:20])}, which its files do not hold")
  return arrays


def _open_msgpack(path: epath.Path) -> Arrays:
  """What the Flax classes of transformers 4 saved: a tree with PyTorch's names and Flax's layouts."""
  from flax import serialization, traverse_util

  try:
    tree: Any = serialization.msgpack_restore(path.read_bytes())
    tree = tree.get("params", tree)
    leaves = {tuple(map(str, place)): np.asarray(leaf) for place, leaf in traverse_util.flatten_dict(tree).items()}
  except Exception as error:  # msgpack raises errors of many kinds, and what is no map has no `get`
    raise ValueError(f"{path} is damaged or was cut short ({error!r:.200}); fetch it again") from error
  arrays: Arrays = {}
  for (*place, last), array in leaves.items():
    if last == "kernel":
      last, array = "weight", array.T
    elif last in ("embedding", "scale"):
      last = "weight"
    name = ".".join((*place, last))
    arrays[name] = Stored(name, array.shape, str(path), lambda array=array: array)
  return arrays


def _open_tf1(index: epath.Path) -> Arrays:
  """A checkpoint of google-research/bert, without the optimizer's slots."""
  try:
    import tensorflow as tf
  except ImportError as error:
    raise ValueError(f"{index} is a TF1 checkpoint, which tensorflow reads: pip install tensorflow") from error
  for beside in index.parent.iterdir():
    if beside.name.startswith(f"{index.name.removesuffix('.index')}.data-"):
      foreign.inside(index.parent, beside.name)

  def load(variable: str) -> np.ndarray:
    try:
      return _from_tf1(variable, reader.get_tensor(variable))[1]
    except (tf.errors.OpError, ValueError) as error:
      raise ValueError(f"{index} or its data files are damaged: {error}") from error

  try:
    reader = tf.train.load_checkpoint(str(index).removesuffix(".index"))
    shapes = reader.get_variable_to_shape_map()
  except (tf.errors.OpError, ValueError) as error:
    raise ValueError(f"{index} or its data files are damaged: {error}") from error
  arrays: Arrays = {}
  for variable, shape in shapes.items():
    if not re.search(r"adam_[mv]$|global_step$", variable):
      name, like = _from_tf1(variable, np.broadcast_to(np.float32(0), shape))
      arrays[name] = Stored(name, like.shape, str(index), lambda variable=variable: load(variable))
  return arrays


def _from_tf1(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
  """The PyTorch name and array of a variable of google-research/bert's modeling.py."""
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
