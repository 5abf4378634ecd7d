"""What a traced program computes."""

import math
from typing import Any


def products(jaxpr: Any) -> int:
  """Multiply-adds of every dot_general in a traced program, loops multiplied out, of branches the first."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
      total += inner * math.prod(equation.outvars[0].aval.shape)
    times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
    if equation.primitive.name == "cond":
      total += products(equation.params["branches"][0].jaxpr)
      continue
    for value in equation.params.values():
      for item in value if isinstance(value, tuple | list) else (value,):
        inside = getattr(item, "jaxpr", item)
        if hasattr(inside, "eqns"):
          total += times * products(inside)
  return total
