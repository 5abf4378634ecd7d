"""Arms that take up the model of another arm: a student its teacher, a second stage the first."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from jax.sharding import PartitionSpec

import bert_jax
from bert_jax import sweep
from bert_jax.architectures import BertConfig
from bert_jax.experiment import Arm, Experiment, Size
from bert_jax.models import networks
from bert_jax.objectives.base import Frozen
from bert_jax.training.checkpoints import Checkpoints
from bert_jax.training.layout import make_layout
from tests import tiny

EXPERIMENT = Experiment(
  name="taught",
  question="Does a student learn from its teacher?",
  arms=(
    Arm(name="teacher", change="two layers", assignments={"model.num_layers": 2, "objective.sentence": "none"}),
    Arm(
      name="student",
      parent="teacher",
      change="its first and last layer, and its answers",
      assignments={
        "model.num_layers": 1,
        "objective.kind": "distillation",
        "objective.teacher": "arm:teacher",
        "optim.peak_lr": 1e-9,
      },
    ),
  ),
  sizes={"smoke": Size(tiny.ASSIGNMENTS, seeds=(0,), note="Nothing.")},
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def workdir(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
  folder = tmp_path_factory.mktemp("taught")
  plan = tiny.plan(source, folder, experiment=EXPERIMENT, assignments={"train.steps": 10})
  assert sweep.run(plan) == 0
  return folder


def run_of(workdir: Path, arm: str) -> Path:
  return workdir / "runs" / arm / "seed-0"


@pytest.mark.slow
def test_a_student_starts_as_its_teacher_and_says_which(workdir: Path) -> None:
  """At a rate of next to nothing it is still what it started as."""
  teacher, student = (bert_jax.load(run_of(workdir, name)) for name in ("teacher", "student"))
  assert student.config.num_layers == 1
  words = [np.asarray(model.params["encoder"]["embeddings"]["words"]) for model in (teacher, student)]
  np.testing.assert_allclose(words[0], words[1], atol=1e-6)
  kernels = [np.asarray(m.params["encoder"]["layers"]["output"]["kernel"]) for m in (teacher, student)]
  np.testing.assert_allclose(kernels[0][:1], kernels[1], atol=1e-6)
  with Checkpoints(epath.Path(run_of(workdir, "student") / "checkpoints")) as checkpoints:
    about = checkpoints.about(checkpoints.steps()[-1])
  assert about["frozen_from"]["network"] == "masked_lm"
  assert about["started_from"] == about["frozen_from"]


@pytest.mark.slow
def test_it_does_not_go_on_with_another_teacher(workdir: Path, source: str, tmp_path: Path) -> None:
  shutil.copytree(workdir, tmp_path / "other")
  others = tiny.plan(source, tmp_path / "other", experiment=EXPERIMENT, assignments={"train.steps": 10})
  shutil.rmtree(run_of(tmp_path / "other", "teacher"))
  for name in ("result.json", "pretrained.json"):
    (run_of(tmp_path / "other", "student") / name).unlink()
  with pytest.raises(ValueError, match=r"arm student takes up the model of teacher.*--arms=teacher,student"):
    sweep.run(
      tiny.plan(source, tmp_path / "other", experiment=EXPERIMENT, arms=("student",), assignments={"train.steps": 10})
    )
  shutil.copytree(run_of(workdir, "student"), run_of(tmp_path / "other", "teacher"))  # finished, and something else
  with pytest.raises(ValueError, match=r"settings|frozen network"):
    sweep.run(others)


@pytest.mark.slow
def test_what_needs_a_run_that_failed_fails_with_it(source: str, tmp_path: Path) -> None:
  plan = tiny.plan(source, tmp_path, experiment=EXPERIMENT, assignments={"train.start_from": str(tmp_path / "nowhere")})
  with pytest.raises(ValueError, match="nowhere"):
    sweep.run(plan)
  assert "teacher, which it needs, has failed" in (run_of(tmp_path, "student") / "failed.json").read_text()


def test_devices_hold_a_teacher_like_any_parameters() -> None:
  model = BertConfig(vocab_size=96, num_layers=1, hidden_size=24, num_heads=4, intermediate_size=40, max_positions=16)
  frozen = Frozen(jax.eval_shape(networks.initial("masked_lm", model)), model, "masked_lm")
  specs = make_layout("fsdp:2,tensor:2").of_state(frozen)
  assert specs.params["encoder"]["layers"]["query"]["kernel"].spec == PartitionSpec(None, "fsdp", "tensor")
