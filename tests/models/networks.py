"""A minute model of sizes that all differ, so that a swapped axis cannot pass, and batches for it."""

import dataclasses

import numpy as np

from bert_jax.config import ModelConfig

MODEL = ModelConfig(
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
    "nsp_labels": draw.integers(0, 2, rows, dtype=np.int32),
  }


def model_inputs(batch: dict[str, np.ndarray]) -> list[np.ndarray]:
  return [batch[name] for name in ("token_ids", "segment_ids", "attention_mask", "mlm_positions")]
