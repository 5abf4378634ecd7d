"""What Hugging Face's DeBERTa cannot be asked: the buckets' published values, and the enhanced mask decoder."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.architectures import DebertaConfig, DebertaV2Config
from bert_jax.models import deberta
from bert_jax.models.inputs import Inputs
from bert_jax.models.networks import ForEnhancedMaskedLM, ForMaskedLM

CONFIG = DebertaConfig(
  vocab_size=61,
  num_layers=3,
  hidden_size=20,
  num_heads=5,
  intermediate_size=37,
  hidden_dropout=0.0,
  attention_dropout=0.0,
  initializer_range=0.2,
  max_positions=17,
  max_distance=6,
)


def test_buckets_are_those_of_deberta_v2() -> None:
  distances = np.array([0, 1, 127, 128, 200, 256, 300, 400, 511])
  wanted = [0, 1, 127, 128, 169, 192, 207, 233, 255]
  assert deberta.log_buckets(distances, 256, 512).tolist() == wanted
  assert deberta.log_buckets(-distances, 256, 512).tolist() == [-bucket for bucket in wanted]


def test_rows_stay_inside_the_table() -> None:
  for config in (CONFIG, DebertaV2Config(max_distance=17, position_buckets=6)):
    rows = deberta.relative_rows(17, config)
    assert rows.min() == 0 or config.max_distance == 17
    assert rows.max() <= deberta.table_rows(config) - 1
    assert (np.diff(rows, axis=1) <= 0).all(), "a key further right is at a smaller distance"
    assert (np.diagonal(rows) == deberta.table_rows(config) // 2).all()


@pytest.mark.parametrize("version", [1, 2])
def test_the_enhanced_decoder_asks_the_last_block_twice(version: int) -> None:
  config: Any = CONFIG
  if version == 2:
    config = DebertaV2Config(**dataclasses.asdict(CONFIG), position_buckets=4)
  draw = np.random.default_rng(0)
  token_ids = draw.integers(1, 61, (4, 11), dtype=np.int32)
  seen = np.arange(11)[None] < np.array([11, 3, 7, 9])[:, None]
  inputs = Inputs(token_ids, np.zeros_like(token_ids), seen)
  network = ForEnhancedMaskedLM(config)
  params: Any = network.init(jax.random.key(0), inputs)["params"]
  outputs: Any = network.apply({"params": params}, inputs)

  plain = {"encoder": {k: v for k, v in params["encoder"].items() if k != "positions"}, "mlm_head": params["mlm_head"]}
  recorded: Any = ForMaskedLM(config, record=True).apply({"params": plain}, inputs)
  before = recorded["hidden_states"][-2]
  block = (deberta.DebertaBlock if version == 1 else deberta.DebertaV2Block)(config)
  table = params["encoder"]["relative_table"]
  if version == 2:
    table = table - table.mean(axis=1, keepdims=True)
    table = table / jnp.sqrt(jnp.mean(table**2, axis=1, keepdims=True) + config.layer_norm_eps)
  state = before + params["encoder"]["positions"][None, :11]
  for _ in range(2):
    state, _ = block.apply(
      {"params": params["encoder"]["last"]}, before, seen[:, None, None], table, None, jnp.uint32(2), state
    )
  np.testing.assert_allclose(outputs["hidden"][seen], state[seen], rtol=1e-4, atol=1e-5)
  assert not np.allclose(outputs["hidden"][seen], recorded["hidden"][seen], atol=0.1)
