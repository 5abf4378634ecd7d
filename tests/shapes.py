"""The shapes and dtypes that signatures state, checked while every network and objective is traced.

A third of all that tests compute goes into these checks where they are everywhere, so they are in a process of their
own, `python -m tests.shapes`, and with CHECK_SHAPES=1 in that of the tests, as `.ci/full` has it.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping

CHECKED = ["bert_jax.models", "bert_jax.objectives"]


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
  """The function, checked against its annotations.

  Not that a dataclass is made of arrays: JAX makes its pytrees of shapes, shardings and markers too.
  """
  return function if function.__name__ == "__init__" else beartype.beartype(function)


def install() -> None:
  """From now on, whatever is imported of CHECKED is checked whenever it is called or traced."""
  jaxtyping.install_import_hook(CHECKED, "tests.shapes.checked")


def trace() -> None:
  """Traces each architecture's objective with its gradient, and each network with a head of its own."""
  import jax
  import jax.numpy as jnp

  from bert_jax.architectures import ARCHITECTURES
  from bert_jax.models import networks
  from bert_jax.models.dropout import Noise
  from bert_jax.objectives import objective_of
  from tests.training import test_layout

  for kind in ARCHITECTURES:
    config = test_layout.config_of(kind)
    objective, batch = objective_of(config), jax.tree.map(jnp.asarray, test_layout.batch_of(config, 0))

    def total(params: Any, objective: Any = objective, batch: Any = batch) -> Any:
      rows = jnp.arange(len(batch["token_ids"]), dtype=jnp.uint32)
      sums = objective.sums(params, None, batch, Noise(jnp.uint32(0), rows), 1)
      return sum(sums[name][0] for name in objective.loss_weights)

    jax.eval_shape(lambda total=total, objective=objective: jax.grad(total)(objective.init(jax.random.key(0))))
    evaluated = batch | {"mask_weights": jnp.ones_like(batch["mlm_weights"])}
    jax.eval_shape(
      lambda objective=objective, batch=evaluated: objective.evaluate(
        objective.init(jax.random.key(0)), None, batch, Noise(jnp.uint32(0), jnp.arange(8, dtype=jnp.uint32)), 1
      )
    )
    for network in networks.NETWORKS:
      only = test_layout.ONLY.get(network)
      if kind in only if only else kind == "bert":
        jax.eval_shape(networks.initial(network, test_layout.model_of(kind)))


def see_mistakes() -> None:
  """Calls with a shape or dtype that no signature states; each has to be refused."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from bert_jax.models import networks
  from bert_jax.models.attention import attention
  from bert_jax.objectives.masked_tokens import pair_label

  hidden, seen, heads = np.zeros((3, 7, 20), np.float32), np.ones((3, 7), bool), jnp.zeros((3, 7, 4, 5))
  mistakes: dict[str, Callable[[], Any]] = {
    "a mask that is too short": lambda: networks.embed(hidden, seen[:, :6], "mean", True),
    "a mask of integers": lambda: networks.embed(hidden, seen * 1, "mean", True),
    "hidden states without an axis": lambda: networks.embed(hidden[0], seen, "mean", True),
    "keys without a mask": lambda: jax.eval_shape(attention, heads, heads, heads, jnp.ones((3, 1, 7, 6), bool)),
    "three logits of a pair": lambda: jax.eval_shape(pair_label, jnp.zeros((13, 3)), jnp.zeros(13, int)),
  }
  assert networks.embed(hidden, seen, "mean", True).shape == (3, 20)
  for what, mistake in mistakes.items():
    try:
      mistake()
    except jaxtyping.TypeCheckError:
      continue
    raise AssertionError(f"{what} was not seen")


if __name__ == "__main__":
  os.environ["JAX_PLATFORMS"] = "cpu"
  importlib.import_module("tests.shapes")  # by which name the hook finds `checked`
  install()
  see_mistakes()
  trace()
