"""Learning rates by layer, of every architecture that stacks its layers."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from bert_jax.models import networks
from bert_jax.training import layer_rates
from tests.interop import small

CONFIGS = small.CONFIGS | small.OWN_CONFIGS
STACKED = [name for name in CONFIGS if name != "albert"]


def shares(name: str, decay: float, top: int | None) -> dict[str, np.ndarray]:
  config = dataclasses.replace(CONFIGS[name], vocab_size=61)
  shapes: Any = jax.eval_shape(networks.initial("token_classification", config, 5))
  found = layer_rates.shares(shapes, decay, top)
  assert jax.tree.all(jax.tree.map(lambda x, y: x.ndim == y.ndim, shapes, found)), (
    "they multiply without broadcasting ranks"
  )
  return {"/".join(key.key for key in path): share for path, share in jax.tree.leaves_with_path(found)}


@pytest.mark.parametrize("name", STACKED)
def test_each_layer_has_a_share_of_that_above_it(name: str) -> None:
  """From the head (1) through L layers to the embeddings: d, d², …, d to the power of L + 1."""
  found, layers = shares(name, 0.5, None), CONFIGS[name].num_layers
  of_layers = {
    part: value.ravel() for part, value in found.items() if "output/kernel" in part and "attention" not in part
  }
  in_order = np.concatenate(
    [value for key in ("first", "layers", "last") for part, value in of_layers.items() if key in part]
  )
  np.testing.assert_allclose(in_order, 0.5 ** np.arange(layers, 0, -1))
  assert found["classifier/kernel"].ravel() == 1
  words = next(value for part, value in found.items() if part.endswith("words"))
  np.testing.assert_allclose(words.ravel(), 0.5 ** (layers + 1))


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("top", [0, 1, 2])
def test_below_the_top_layers_nothing_is_trained(name: str, top: int) -> None:
  found = shares(name, 1.0, top)
  of_layers = [value for part, value in found.items() if "output/kernel" in part and "attention" not in part]
  assert sum(float(np.sum(value)) for value in of_layers) == top
  assert found["classifier/bias"].ravel() == 1
  assert all(
    not value.any() for part, value in found.items() if part.endswith(("words", "positions", "relative_table"))
  )
