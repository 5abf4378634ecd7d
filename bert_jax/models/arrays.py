"""The arrays of signatures; `Float[Array, "B T"]` is one of floating-point numbers with two axes, called B and T."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from jax import Array
else:
  import jax
  import numpy as np

  Array = jax.Array | np.ndarray  # JAX takes numpy's arrays for its own

__all__ = ["Array"]
