"""Parameters by their paths, such as `encoder/layers/query/kernel`."""

import hashlib
from typing import Any

import numpy as np
from flax import traverse_util


def flat(params: Any) -> dict[str, np.ndarray]:
  """Path → array, from parameters by module."""
  return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}


def nested(arrays: dict[str, np.ndarray]) -> Any:
  """The inverse of `flat`."""
  return traverse_util.unflatten_dict(arrays, sep="/")


def fingerprint(params: Any) -> str:
  """sha256 of the parameters, in hex: equal for equal bits."""
  hasher = hashlib.sha256()
  for path, array in sorted(flat(params).items()):
    hasher.update(path.encode())
    hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return hasher.hexdigest()
