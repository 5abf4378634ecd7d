"""What a user may get wrong, through the sweep: each a clear error before anything is spent, or nothing lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_jax import sweep
from bert_jax.training import loop
from bert_jax.training.checkpoints import CheckpointError, Checkpoints
from tests import tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize(
  ("assignments", "message"),
  [
    ({"train.batch_size": 10}, r"train.batch_size=10 must be divisible by the 4 devices of axis data; try 8 or 12"),
    ({"train.batch_size": 3}, r"train.batch_size=3 must be divisible by the 4 devices of axis data; try 4"),
    (
      {"train.batch_size": 12, "runtime.accumulation_steps": 2},
      r"train.batch_size=12 must be .* times runtime.accumulation_steps=2; try 8 or 16",
    ),
    ({"evaluation.batch_size": 30}, r"evaluation.batch_size=30 must be divisible by the 4 devices .* try 28 or 32"),
    ({"runtime.mesh": "data:64"}, r"runtime.mesh=data:64 takes 64 devices, and JAX finds 4"),
  ],
  ids=str,
)
def test_devices_are_checked_for_all_arms_before_anything_is_spent(
  assignments: dict[str, Any], message: str, source: str, tmp_path: Path
) -> None:
  with pytest.raises(ValueError, match=message):
    sweep.run(tiny.plan(source, tmp_path, assignments=assignments))
  assert not list(tmp_path.iterdir())


def test_no_text_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="empty"):
    sweep.run(tiny.plan(f"text:{tmp_path / 'empty'}", tmp_path / "W"))


def test_a_vocabulary_of_another_size_is_an_error(source: str, tmp_path: Path) -> None:
  with pytest.raises(ValueError, match=r"model.vocab_size=77, but the tokenizer of .* leave model.vocab_size out"):
    sweep.run(tiny.plan(source, tmp_path, assignments={"model.vocab_size": 77}))


def test_a_workdir_that_cannot_be_made_is_an_error(source: str, tmp_path: Path) -> None:
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match=r"--workdir=.*file/W cannot be made"):
    sweep.run(tiny.plan(source, tmp_path / "file" / "W"))


@pytest.mark.slow
@pytest.mark.exhaustive  # that none is read is tested beside the checkpoints
def test_flipped_bits_cost_the_way_from_the_checkpoint_before(
  source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """A run of which the last checkpoint is damaged ends as one that was never damaged."""
  plan = tiny.plan(source, tmp_path, arms=["bert"])
  assert sweep.run(plan) == 0
  wanted = (tmp_path / "results.csv").read_bytes()
  run = tmp_path / "runs" / "bert" / "seed-0"
  with Checkpoints(run / "checkpoints") as checkpoints:
    before, last = checkpoints.steps()[-2:]
  for name in ("result.json", "pretrained.json"):
    (run / name).unlink()
  draws = np.random.default_rng(0)
  for path in (run / "checkpoints" / str(last) / "state").rglob("d/*"):
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[draws.integers(len(content), size=1 + len(content) // 400)] ^= 16
    path.write_bytes(content.tobytes())
  said: list[str] = []
  monkeypatch.setattr(loop.logging, "warning", lambda text, *values: said.append(text % values))
  assert sweep.run(plan) == 0
  assert f"going on from step {before}, the newest checkpoint that is whole" in said
  assert (tmp_path / "results.csv").read_bytes() == wanted
  assert (run / "checkpoints" / f"{last}.damaged").is_dir()


@pytest.mark.exhaustive  # tests/training/test_checkpoints.py has the refusal, tests/test_workdirs.py the words
def test_with_every_checkpoint_damaged_nothing_is_touched(source: str, tmp_path: Path) -> None:
  plan = tiny.plan(source, tmp_path, arms=["bert"])
  assert sweep.run(plan) == 0
  run = tmp_path / "runs" / "bert" / "seed-0"
  for name in ("result.json", "pretrained.json"):
    (run / name).unlink()
  for path in (run / "checkpoints").rglob("d/*"):
    path.write_bytes(path.read_bytes()[:7])
  before = sorted((run / "checkpoints").iterdir())
  with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged: .* Remove that folder to start again"):
    sweep.run(plan)
  assert sorted((run / "checkpoints").iterdir()) == before
