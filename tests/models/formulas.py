"""Parts of a network in numpy, float64, a row and a head at a time; and parameters at random to calculate with."""

from typing import Any

import jax
import numpy as np
import scipy.special


def random_params(shapes: Any, seed: int = 0) -> Any:
  """Of these shapes; gains around 1, everything else around 0."""
  draw = np.random.default_rng(seed)
  return jax.tree.map_with_path(
    lambda path, x: draw.normal(float(path[-1].key == "scale"), 0.3, x.shape).astype(np.float32), shapes
  )


def as_float64(params: Any) -> Any:
  return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def of_layer(params: Any, layer: int) -> Any:
  """One layer's of stacked parameters."""
  return jax.tree.map(lambda x: x[layer], params)


def dense(x: np.ndarray, params: Any) -> np.ndarray:
  return x @ params["kernel"] + params.get("bias", 0.0)


def layer_norm(x: np.ndarray, params: Any, eps: float = 1e-12) -> np.ndarray:
  centred = x - x.mean(axis=-1, keepdims=True)
  return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * params["scale"] + params["bias"]


def gelu(x: np.ndarray) -> np.ndarray:
  return x * scipy.special.ndtr(x)


def attend(x: np.ndarray, params: Any, heads: int, bias: np.ndarray | None = None) -> np.ndarray:
  """Self-attention of one text, x [T, D], without the output layer; bias: [H, T, T]."""
  query, key, value = (dense(x, params[name]) for name in ("query", "key", "value"))
  size = x.shape[1] // heads
  mixed = np.zeros_like(x)
  for head in range(heads):
    part = slice(head * size, (head + 1) * size)
    scores = query[:, part] @ key[:, part].T / size**0.5
    if bias is not None:
      scores = scores + bias[head]
    mixed[:, part] = scipy.special.softmax(scores, axis=1) @ value[:, part]
  return mixed
