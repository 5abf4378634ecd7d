"""A tiny network that knows four sentences by heart, saved from four devices."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax import settings
from bert_jax.architectures import BertConfig
from bert_jax.config import (
  Config,
  DataConfig,
  OptimConfig,
  RuntimeConfig,
  TokenizerConfig,
  TrainConfig,
  TransferConfig,
)
from bert_jax.data import tokenizers
from bert_jax.inference.model import Model
from bert_jax.objective_configs import MaskedTokensConfig
from bert_jax.training.checkpoints import Checkpoints
from bert_jax.training.layout import make_layout
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.step import TrainState, init_state, train_step_of

SENTENCES = (
  "paris is the capital of france.",
  "the cat sat on the mat.",
  "snow is white and cold.",
  "a ship sails over the sea.",
)
STEPS = 120


@pytest.fixture(scope="session")
def tokenizer() -> tokenizers.Tokenizer:
  return tokenizers.train(SENTENCES * 50, TokenizerConfig(vocab_size=86))


@pytest.fixture(scope="session")
def config(tokenizer: tokenizers.Tokenizer) -> Config:
  return Config(
    model=BertConfig(
      vocab_size=tokenizer.vocab_size,
      num_layers=2,
      hidden_size=48,
      num_heads=3,
      intermediate_size=80,
      max_positions=40,
      hidden_dropout=0.1,
      attention_dropout=0.1,
    ),
    data=DataConfig(max_seq_len=24),
    optim=OptimConfig(peak_lr=3e-3, warmup_steps=10),
    objective=MaskedTokensConfig(),
    train=TrainConfig(steps=STEPS, batch_size=32),
    transfer=TransferConfig(labels_per_class=8, batch_size=8, epochs=15, peak_lr=1e-3),
    runtime=RuntimeConfig(scan_layers=True),  # quick to compile
  )


@pytest.fixture(scope="session")
def trained(config: Config, tokenizer: tokenizers.Tokenizer) -> TrainState:
  """Trained to fill any one mask in the four sentences, and laid on four devices."""
  layout = make_layout("data:1")
  batch = memory_batch(config, tokenizer)
  state, step = init_state(config, layout), train_step_of(config, layout)
  hyper = hyperparameters(config.optim, STEPS, {"mlm_loss": 1.0})
  for _ in range(STEPS):
    state, _ = step(state, None, layout.put(batch), hyper, jnp.uint32(0))
  return jax.device_put(state, make_layout("data:4").whole)


def model_of(config: Config, tokenizer: tokenizers.Tokenizer, params: Any) -> Model:
  return Model(config.model, "masked_lm", params, tokenizer, run=config, step=STEPS)


@pytest.fixture(scope="session")
def model(config: Config, tokenizer: tokenizers.Tokenizer, trained: TrainState) -> Model:
  return model_of(config, tokenizer, jax.device_get(trained.params))


def memory_batch(config: Config, tokenizer: tokenizers.Tokenizer) -> dict[str, np.ndarray]:
  """Each sentence with each of its tokens masked in turn, to fill the batch."""
  rows, length = config.train.batch_size, config.data.max_seq_len
  batch = {name: np.zeros((rows, length), np.int32) for name in ("token_ids", "segment_ids")}
  batch["token_ids"][:] = tokenizer.pad_id
  batch["attention_mask"] = np.zeros((rows, length), bool)
  batch["mlm_positions"], batch["mlm_labels"] = np.zeros((rows, 1), np.int32), np.zeros((rows, 1), np.int32)
  batch["mlm_weights"], batch["pair_labels"] = np.ones((rows, 1), np.float32), np.full(rows, -1, np.int32)
  encoded = [np.array([tokenizer.cls_id, *ids, tokenizer.sep_id]) for ids, _ in tokenizer.encode(SENTENCES)]
  places = [(ids, place) for ids in encoded for place in range(1, len(ids) - 1)]
  assert len(places) <= rows, len(places)
  for row in range(rows):
    ids, place = places[row % len(places)]
    batch["token_ids"][row, : len(ids)] = ids
    batch["token_ids"][row, place] = tokenizer.mask_id
    batch["attention_mask"][row, : len(ids)] = True
    batch["mlm_positions"][row], batch["mlm_labels"][row] = place, ids[place]
  return batch


@pytest.fixture(scope="session")
def saved(
  config: Config, tokenizer: tokenizers.Tokenizer, trained: TrainState, tmp_path_factory: pytest.TempPathFactory
) -> Path:
  """A workdir with one run of two checkpoints, of which the earlier is the better; not to be changed."""
  workdir = tmp_path_factory.mktemp("saved")
  with Checkpoints(workdir / "runs" / "bert" / "seed-0" / "checkpoints") as checkpoints:
    save(checkpoints, config, tokenizer, trained, {STEPS: 0.1})
    later = dataclasses.replace(trained, step=trained.step + 7, params=jax.tree.map(lambda x: x * 0, trained.params))
    save(checkpoints, config, tokenizer, later, {STEPS: 0.1, STEPS + 7: 0.2})
  return workdir


@pytest.fixture
def workdir(saved: Path, tmp_path: Path) -> Path:
  """A copy of that workdir."""
  return Path(shutil.copytree(saved, tmp_path / "W"))


def save(
  checkpoints: Checkpoints,
  config: Config,
  tokenizer: tokenizers.Tokenizer,
  state: TrainState,
  losses: dict[int, float],
) -> None:
  checkpoints.save(state, {"config": settings.to_dict(config)}, tokenizer, losses)
  checkpoints.wait()
