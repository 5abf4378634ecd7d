"""What a batch looks like, without a text to make one of."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from bert_jax.config import Config
from bert_jax.data.rows import Rows
from bert_jax.objectives import objective_of


def batch_shapes(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
  """The arrays of a training batch, as the config's objective makes them, of a run with one phase."""
  data, count = config.data, config.train.batch_size
  tokenizer: Any = SimpleNamespace(
    pad_id=0, cls_id=1, sep_id=2, mask_id=3, special_ids=(0, 1, 2, 3), vocab_size=data.tokenizer.vocab_size
  )
  length, before = data.max_seq_len, data.preceding_tokens
  is_text = np.ones((1, length), bool)
  is_text[:, [0, -1]] = False
  none = np.zeros(1, np.int64)
  rows = Rows(
    token_ids=np.full((1, length), 5, np.int32),
    segment_ids=np.zeros((1, length), np.int32),
    attention_mask=np.ones((1, length), bool),
    is_text=is_text,
    lengths=np.full(1, length),
    pair_labels=np.zeros(1, np.int32),
    example_ids=none,
    passes=none,
    copies=none,
    text_word_starts=np.ones(is_text.sum(), bool),
    preceding_ids=np.zeros((1, before), np.int32),
    num_preceding=np.zeros(1, np.int32),
  )
  made = objective_of(config).prepare(rows, 0, data, tokenizer)
  return {name: jax.ShapeDtypeStruct((count, *array.shape[1:]), array.dtype) for name, array in made.items()}


def of_phase(config: Config, max_seq_len: int, batch_size: int) -> Config:
  """The config of a run that has this phase alone."""
  return dataclasses.replace(
    config,
    data=dataclasses.replace(config.data, max_seq_len=max_seq_len),
    train=dataclasses.replace(config.train, batch_size=batch_size, phases=None),
  )
