"""The checker of shapes and types that `conftest.py` puts around the functions of the models and the objectives."""

from collections.abc import Callable
from typing import Any

import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
  """The function, checked against its annotations.

  Not that a dataclass is made of arrays: JAX makes its pytrees of shapes, shardings and markers too.
  """
  return function if function.__name__ == "__init__" else beartype.beartype(function)
