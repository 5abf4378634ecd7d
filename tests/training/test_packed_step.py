"""Examples that share a row train what they train alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.architectures import ARCHITECTURES, EncoderConfig
from bert_jax.config import Config, DataConfig, TrainConfig
from bert_jax.data.batches import TrainBatches
from bert_jax.models.dropout import Noise
from bert_jax.objective_configs import MaskedTokensConfig
from bert_jax.objectives import objective_of
from tests.data.conftest import random_corpus

SIZES = {
  "vocab_size": 211,
  "num_layers": 2,
  "hidden_size": 24,
  "num_heads": 2,
  "intermediate_size": 40,
  "initializer_range": 0.2,  # so that a neighbour would be seen
  "max_positions": 40,
}
WITHOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0}


def model_of(kind: str) -> EncoderConfig:
  given = SIZES | WITHOUT | ({"local_window": 8, "global_every": 2} if kind == "modernbert" else {})
  known = {field.name for field in dataclasses.fields(ARCHITECTURES[kind])}
  return ARCHITECTURES[kind](**{name: value for name, value in given.items() if name in known})


@pytest.mark.parametrize(
  ("kind", "settings"),
  [
    ("bert", MaskedTokensConfig(sentence="nsp")),
    ("roberta", MaskedTokensConfig(sentence="none", boundary=True)),
    *(
      pytest.param(kind, MaskedTokensConfig(sentence="none"), marks=pytest.mark.exhaustive)
      for kind in ("modernbert", "deberta", "deberta-v2", "mosaic-bert", "crammed-bert", "albert", "distilbert")
    ),
  ],
  ids=lambda x: x if isinstance(x, str) else "",
)
def test_losses_and_gradients_are_those_of_one_example_a_row(kind: str, settings: MaskedTokensConfig) -> None:
  data = DataConfig(max_seq_len=40, segmentations=1, eval_fraction=0.2, short_seq_prob=0.8)
  objective = objective_of(Config(model_of(kind), data, objective=settings, train=TrainConfig(steps=1, batch_size=48)))
  params = objective.init(jax.random.key(0))

  def losses(packing: int) -> tuple[Any, Any, int]:
    made = TrainBatches(random_corpus(), dataclasses.replace(data, packing=packing), 3, 48)(0)
    rows = len(made["token_ids"])

    def total(params: Any) -> Any:
      sums = objective.sums(params, None, made, Noise(jnp.uint32(0), jnp.arange(rows, dtype=jnp.uint32)), 1)
      counts = objective.counts(made)
      return sum(sums[name][0] / counts[name] for name in objective.loss_weights), sums

    (_, sums), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    return sums, gradient, rows

  (alone, of_alone, rows), (together, of_together, fewer) = losses(1), losses(4)
  assert fewer < 0.9 * rows
  for name, (total, count) in alone.items():
    assert together[name][1] == count
    np.testing.assert_allclose(together[name][0], total, rtol=1e-6)  # float32 sums in another order
  norm = sum(float(np.sum(np.square(x))) for x in jax.tree.leaves(of_alone)) ** 0.5
  for one, other in zip(jax.tree.leaves(of_alone), jax.tree.leaves(of_together), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6 * norm)
