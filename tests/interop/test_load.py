"""Loading runs: which checkpoint opens, on which devices, and what is refused."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bert_jax
from bert_jax.config import Config
from bert_jax.data import tokenizers
from bert_jax.training.checkpoints import CheckpointError, Checkpoints
from bert_jax.training.layout import make_layout
from bert_jax.training.step import TrainState, init_state
from tests.inference.conftest import STEPS, save


def same(one: object, other: object) -> bool:
  return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), one, other)))


def test_a_workdir_a_run_and_a_checkpoint_open_alike_on_one_device(
  workdir: Path, config: Config, trained: TrainState
) -> None:
  run = workdir / "runs" / "bert" / "seed-0"
  assert len(jax.tree.leaves(trained.params)[0].sharding.device_set) == 4
  for path in (workdir, str(run), run / "checkpoints", run / "checkpoints" / str(STEPS)):
    opened = bert_jax.load(path)
    assert opened.step == STEPS, "the best, not the latest"
    assert opened.run == config
    assert opened.config == config.model
    assert same(opened.params, trained.params)
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(opened.params))
  filled = opened.fill_mask("Paris is the [MASK] of France.")
  assert filled[0].token == "capital"


def test_the_folder_alone_is_enough(workdir: Path, tmp_path: Path) -> None:
  moved = tmp_path / "elsewhere" / str(STEPS)
  shutil.copytree(workdir / "runs" / "bert" / "seed-0" / "checkpoints" / str(STEPS), moved)
  shutil.rmtree(workdir)
  assert bert_jax.load(moved).fill_mask("the cat [MASK] on the mat.")[0].token == "sat"


def test_a_step_can_be_asked_for(workdir: Path) -> None:
  later = bert_jax.load(workdir, step=STEPS + 7)
  assert later.step == STEPS + 7
  assert not any(leaf.any() for leaf in jax.tree.leaves(later.params))
  with pytest.raises(ValueError, match=rf"has no checkpoint of step 3; it has \[{STEPS}, {STEPS + 7}\]"):
    bert_jax.load(workdir, step=3)
  with pytest.raises(ValueError, match=rf"is the checkpoint of step {STEPS}, and step=3 was asked for"):
    bert_jax.load(workdir / "runs" / "bert" / "seed-0" / "checkpoints" / str(STEPS), step=3)


def flip_a_bit(checkpoint: Path) -> None:
  """In the middle of the largest file of the state."""
  file = max((checkpoint / "state").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 16
  file.write_bytes(bytes(content))


def test_a_damaged_checkpoint_is_refused_and_the_one_before_named(workdir: Path) -> None:
  folder = workdir / "runs" / "bert" / "seed-0" / "checkpoints"
  flip_a_bit(folder / str(STEPS + 7))
  with pytest.raises(CheckpointError, match=rf"{STEPS + 7} is damaged .* step {STEPS} is the one before.*step=N"):
    bert_jax.load(workdir, step=STEPS + 7)
  assert bert_jax.load(workdir, step=STEPS).step == STEPS
  flip_a_bit(folder / str(STEPS))
  with pytest.raises(CheckpointError, match=rf"{STEPS} is damaged .* there is none before it"):
    bert_jax.load(workdir)


def test_the_best_is_not_another_because_a_description_is_damaged(workdir: Path) -> None:
  about = workdir / "runs" / "bert" / "seed-0" / "checkpoints" / str(STEPS + 7) / "about" / "metadata"
  content = about.read_text()
  about.write_text(content.replace('"losses"', '"lusses"'))
  with pytest.raises(
    CheckpointError, match=rf"{STEPS + 7} is damaged .* step {STEPS} is the one before.*N of \[{STEPS}\]"
  ):
    bert_jax.load(workdir)
  assert bert_jax.load(workdir, step=STEPS).step == STEPS


def test_without_evaluations_the_latest_whole_checkpoint_opens(
  config: Config, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
  state = init_state(config, make_layout("data:1"))
  with Checkpoints(tmp_path / "checkpoints") as checkpoints:
    for step in (5, 9):
      save(checkpoints, config, tokenizer, dataclasses.replace(state, step=jnp.int32(step)), {})
  assert bert_jax.load(tmp_path).step == 9
  flip_a_bit(tmp_path / "checkpoints" / "9")
  assert bert_jax.load(tmp_path).step == 5
  flip_a_bit(tmp_path / "checkpoints" / "5")
  with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
    bert_jax.load(tmp_path)


def test_what_cannot_be_opened_is_said(workdir: Path, tmp_path: Path) -> None:
  with pytest.raises(ValueError, match="nowhere is no folder"):
    bert_jax.load(tmp_path / "nowhere")
  (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
  with pytest.raises(ValueError, match="has no checkpoint yet"):
    bert_jax.load(tmp_path / "empty")
  (tmp_path / "other").mkdir()
  with pytest.raises(ValueError, match="other holds no run"):
    bert_jax.load(tmp_path / "other")
  run = workdir / "runs" / "bert"
  shutil.copytree(run / "seed-0" / "checkpoints" / str(STEPS), tmp_path / "best")
  with pytest.raises(ValueError, match="must be called by its step"):
    bert_jax.load(tmp_path / "best")
  shutil.copytree(run / "seed-0", run / "seed-1")
  with pytest.raises(ValueError, match=r"(?s)holds 2 runs.*bert/seed-0\n.*bert/seed-1"):
    bert_jax.load(workdir)


def test_importing_the_package_does_not_import_jax() -> None:
  code = "import sys, bert_jax; assert not {'jax', 'numpy', 'flax', 'orbax'} & set(sys.modules); bert_jax.load"
  subprocess.run([sys.executable, "-c", code], check=True)


def test_loading_keeps_compiled_programs(workdir: Path, tmp_path: Path) -> None:
  code = "import sys, bert_jax, jax; bert_jax.load(sys.argv[1]); print(jax.config.values['jax_compilation_cache_dir'])"
  own = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | {"XDG_CACHE_HOME": str(tmp_path)}
  for environment, expected in (
    (own, tmp_path / "bert_jax" / "compiled"),
    (own | {"JAX_COMPILATION_CACHE_DIR": "/x"}, "/x"),
  ):
    done = subprocess.run(
      [sys.executable, "-c", code, str(workdir)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(expected)
