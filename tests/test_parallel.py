"""Runs side by side give what runs one after the other give, and lose nothing when processes die."""

import dataclasses
import os
import pickle
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bert_jax import parallel, preemption
from bert_jax.experiment import Plan
from bert_jax.training.peers import Processes
from tests import tiny

RUNS = 4
LONGER = ("--seeds=0,1", "--train.steps=16", "--runtime.save_every_steps=2", "--evaluation.every_steps=8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


# ---- who computes on what ----


def plan_of(source: str, workdir: Path, **changes: Any) -> tuple[Plan, list[parallel.Job]]:
  plan = dataclasses.replace(tiny.plan(source, workdir, seeds=(0, 1)), **({"scale": "demo"} | changes))
  return plan, [(arm, seed) for seed in plan.seeds for arm in plan.arms]


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(parallel, "_cores", lambda: (2, 3, 5, 7, 8))


def test_cores_are_shared_out(source: str, tmp_path: Path, cores: None) -> None:
  def split(**changes: Any) -> list[tuple[int, ...]]:
    plan, jobs = plan_of(source, tmp_path, platform="cpu", **changes)
    return [share.cores for share in parallel.shares(plan, jobs)]

  assert split(parallel_runs=1) == [()]
  assert split(parallel_runs=1, cores_per_run=2) == [(2, 3)]
  assert split(parallel_runs=2) == [(2, 3), (5, 7)]
  assert split(parallel_runs="auto") == [(2,), (3,), (5,), (7,)], "no more than there are runs"
  assert split(parallel_runs="auto", cores_per_run=2) == [(2, 3), (5, 7)]
  assert split(parallel_runs=3, cores_per_run=1) == [(2,), (3,), (5,)]
  assert split(parallel_runs="auto", scale="smoke") == [()], "runs of seconds"
  with pytest.raises(ValueError, match="--cores_per_run=6: this process may use 5"):
    split(cores_per_run=6)
  with pytest.raises(ValueError, match="one process each; leave it or --coordinator out"):
    split(parallel_runs=2, processes=Processes("host:1", 2, 0))


def test_memory_bounds_what_auto_starts(
  source: str, tmp_path: Path, cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
  plan, jobs = plan_of(source, tmp_path, platform="cpu", parallel_runs="auto")
  monkeypatch.setattr(parallel.memory, "of_machine", lambda: 3 << 30)
  assert len(parallel.shares(plan, jobs)) == 2
  asked = dataclasses.replace(plan, parallel_runs=4)
  assert len(parallel.shares(asked, jobs)) == 4, "whoever asks for a number gets it"


@pytest.mark.parametrize(
  ("kind", "given", "asked", "wanted"),
  [
    ("gpu", None, "auto", ["0,1", "2,3", "4,5", "6,7"]),
    ("gpu", "4,5,6,7,8,9,10,11", 2, ["4,5,6,7", "8,9,10,11"]),
    ("gpu", None, 3, ["0,1", "2,3", "4,5"]),
    ("tpu", None, "auto", ["0", "1", "2", "3"]),
    ("tpu", None, 3, ["0", "1", "2"]),
  ],
)
def test_accelerators_are_shared_out(
  kind: str, given: str | None, asked: Any, wanted: Any, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  plan, jobs = plan_of(source, tmp_path, parallel_runs=asked)
  monkeypatch.setattr(parallel, "_accelerators", lambda _: (kind, 8))
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  if given is not None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
  split, shown = parallel.shares(plan, jobs), "TPU_VISIBLE_CHIPS" if kind == "tpu" else "CUDA_VISIBLE_DEVICES"
  assert [share.environment[shown] for share in split] == wanted
  assert {share.accelerators for share in split} == {wanted[0].count(",") + 1}
  with pytest.raises(ValueError, match="--parallel_runs=9: there are 8 accelerators"):
    parallel.shares(dataclasses.replace(plan, parallel_runs=9), jobs)


def test_a_plan_goes_to_a_worker_without_its_functions(source: str, tmp_path: Path) -> None:
  plan, _ = plan_of(source, tmp_path, parallel_runs=2)
  sent = pickle.loads(pickle.dumps(parallel._for_workers(plan)))
  assert sent.is_worker
  assert sent.parallel_runs == 1
  assert sent.configs == plan.configs
  assert dict(sent.arms[1].assignments) == {"optim.peak_lr": plan.configs["faster"].optim.peak_lr}


# ---- processes ----


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
  environment = tiny.environment(tmp_path_factory.mktemp("compiled"))
  return {name: value for name, value in environment.items() if name != "TINY_LABELS"}


def command(source: str, workdir: Path, number: int) -> list[str]:
  return tiny.command(source, workdir, *LONGER, f"--parallel_runs={number}", "--cores_per_run=1")


@pytest.fixture(scope="module")
def one_by_one(source: str, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
  workdir = tmp_path_factory.mktemp("one_by_one")
  done = tiny.run(command(source, workdir, 1), env)
  assert done.returncode == 0, done.stderr
  return (workdir / "results.csv").read_bytes()


def start(source: str, workdir: Path, env: dict[str, str]) -> subprocess.Popen[str]:
  return subprocess.Popen(command(source, workdir, 2), cwd=tiny.ROOT, env=env, text=True, stderr=subprocess.PIPE)


def wait_for_checkpoints(process: subprocess.Popen[str], workdir: Path, number: int) -> None:
  deadline = time.monotonic() + 200
  while process.poll() is None and time.monotonic() < deadline:
    if len(list(workdir.glob("runs/*/*/checkpoints/*"))) >= number:
      return
    time.sleep(0.01)


def workers_of(process: int) -> list[int]:
  return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait_for_another_worker(process: subprocess.Popen[str], known: list[int]) -> None:
  deadline = time.monotonic() + 60
  while process.poll() is None and time.monotonic() < deadline and set(workers_of(process.pid)) <= set(known):
    time.sleep(0.01)


def alive(process: int) -> bool:
  try:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except OSError:
    return False


pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen on this system")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_killed_with_all_it_started_the_same_comes_out(
  source: str, one_by_one: bytes, env: dict[str, str], tmp_path: Path
) -> None:
  """SIGKILL of the watcher: its workers save, end, and leave no claim that is in the way."""
  for checkpoints in (1, 4):
    process = start(source, tmp_path, env)
    wait_for_checkpoints(process, tmp_path, checkpoints)
    workers = workers_of(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
      time.sleep(0.05)
    assert not any(map(alive, workers))
    assert not list(tmp_path.rglob(".claim-*"))
  done = tiny.run(command(source, tmp_path, 2), env)
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "results.csv").read_bytes() == one_by_one
  assert not list(tmp_path.rglob(".claim-*"))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_worker_that_is_killed_is_replaced_and_a_signal_saves_all(
  source: str, one_by_one: bytes, env: dict[str, str], tmp_path: Path
) -> None:
  process = start(source, tmp_path, env)
  wait_for_checkpoints(process, tmp_path, 2)
  first = workers_of(process.pid)
  os.kill(first[0], signal.SIGKILL)
  wait_for_another_worker(process, first)
  workers = workers_of(process.pid)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=200)
  assert process.returncode == preemption.EXIT_PREEMPTED, errors
  assert "its process ended (signal 9); another one goes on with it" in errors
  assert "the same command goes on from there" in errors
  assert "Traceback" not in errors
  # One that was only starting when the signal came ends when it finds its watcher gone.
  deadline = time.monotonic() + 60
  while any(map(alive, workers)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(alive, workers))
  done = tiny.run(command(source, tmp_path, 2), env)
  assert done.returncode == 0, done.stderr
  assert "2 runs at a time, each on 1 core" in done.stderr
  assert (tmp_path / "results.csv").read_bytes() == one_by_one


def test_what_is_wrong_is_said_once(source: str, env: dict[str, str], tmp_path: Path) -> None:
  wrong = tiny.run([*command(source, tmp_path / "W", 2), "--data.tokenizer.path=nowhere"], env)
  assert wrong.returncode == 1
  assert wrong.stderr.count("error: ") == 1
  assert not (tmp_path / "W").exists()
