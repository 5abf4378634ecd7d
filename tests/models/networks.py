"""A minute model of sizes that all differ, so that a swapped axis cannot pass, and batches for it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.architectures import BertConfig, EncoderConfig
from bert_jax.config import Config, RuntimeConfig
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.objective_configs import MaskedTokensConfig
from bert_jax.objectives import objective_of
from bert_jax.objectives.masked_tokens import MaskedTokens
from bert_jax.training import step

MODEL = BertConfig(
  vocab_size=99,
  num_layers=3,
  hidden_size=20,
  num_heads=5,
  intermediate_size=37,
  max_positions=16,
  hidden_dropout=0.0,
  attention_dropout=0.0,
  initializer_range=0.2,  # large enough that every part of the network matters to the result
)
WITH_DROPOUT = dataclasses.replace(MODEL, hidden_dropout=0.1, attention_dropout=0.1)


def masked_tokens(model: EncoderConfig, sentence: Any = "nsp", **runtime: Any) -> MaskedTokens:
  """The objective of masked tokens, beside next sentences where nothing else is said."""
  config = Config(model, objective=MaskedTokensConfig(sentence=sentence), runtime=RuntimeConfig(**runtime))  # type: ignore[arg-type]
  objective = objective_of(config)
  assert isinstance(objective, MaskedTokens)
  return objective


def init_params(model: EncoderConfig, seed: int, sentence: Any = "nsp") -> Any:
  """Initial parameters of that objective."""
  return step.init_params(masked_tokens(model, sentence), seed)


def outputs_of(objective: MaskedTokens, params: Any, batch: dict[str, np.ndarray], noise: Noise | None = None) -> Any:
  """Its network's outputs."""
  network = objective.network(objective.name)
  return network.apply({"params": params}, Inputs.of(batch), noise, mlm_positions=batch["mlm_positions"])


def noise_of(rows: int, seed: int = 7) -> Noise:
  return Noise(jnp.uint32(seed), jnp.arange(rows, dtype=jnp.uint32))


def leaf_count(tree: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def random_batch(rows: int = 13, length: int = 7, predictions: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
  """A padded batch: rows have from 3 to `length` tokens, and from none to all prediction slots used."""
  draw = np.random.default_rng(seed)
  lengths = draw.integers(3, length + 1, rows)
  lengths[:2] = 3, length
  used = draw.integers(0, predictions + 1, rows)
  used[:2] = 0, predictions
  places = np.arange(length)
  return {
    "token_ids": draw.integers(1, 99, (rows, length), dtype=np.int32),
    "segment_ids": (places >= lengths[:, None] // 2).astype(np.int32),
    "attention_mask": places < lengths[:, None],
    "mlm_positions": np.array([draw.permutation(3)[:predictions] for _ in range(rows)], np.int32),
    "mlm_labels": draw.integers(1, 99, (rows, predictions), dtype=np.int32),
    "mlm_weights": (np.arange(predictions) < used[:, None]).astype(np.float32),
    "pair_labels": draw.integers(0, 2, rows, dtype=np.int32),
  }
