"""Learning rates that fall from the head to the embeddings, or are 0 below some layer. L layers."""

from typing import Any

import jax
import numpy as np


def shares(params: Any, decay: float, top_layers: int | None) -> Any:
  """Of each parameter, the share of the learning rate that it gets; of stacked layers, an array with one for each.

  The head has all of it, the top layer `decay` times as much, each layer `decay` times that of the layer above it, and
  the embeddings that of the lowest layer once more. (Clark et al. 2020's code leaves out one step between head and top
  layer, where a pooler once was.)

  Args:
    params: `encoder` and heads.
    top_layers: layers, from the top, that are trained at all; what is below them is not. None: everything.
  """
  encoder = params["encoder"]
  stacked = len(jax.tree.leaves(encoder["layers"])[0])
  below = int("first" in encoder)
  total = stacked + below + int("last" in encoder)

  def share(path: tuple[Any, ...], parameter: Any) -> Any:
    names = [key.key for key in path]
    if names[0] != "encoder":
      depth: Any = total + 1
    elif names[1] == "layers":
      depth = np.arange(stacked).reshape(-1, *[1] * (parameter.ndim - 1)) + below + 1
    else:
      depth = {"first": 1, "last": total, "final_norm": total}.get(names[1], 0)
    rate = np.power(np.float64(decay), total + 1 - depth)
    if top_layers is not None:
      rate = np.where(depth > total - top_layers, rate, 0)
    return np.broadcast_to(rate, np.shape(depth) + (1,) * (parameter.ndim - np.ndim(depth))).astype(np.float32)

  return jax.tree.map_with_path(share, params)
