"""Several processes on this machine train as one: the same results, and any other number goes on with their run."""

import csv
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests import tiny

DEVICES = 4  # of all processes
TASK = ("--transfer.tasks=parity", "--transfer.draws=3", "--transfer.finetuned_draws=1")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return tmp_path_factory.mktemp("compiled")


def begin(source: str, workdir: Path, cache: Path, *flags: str, number: int = 2) -> list[subprocess.Popen[str]]:
  with socket.socket() as free:
    free.bind(("localhost", 0))
    port = free.getsockname()[1]
  return [
    subprocess.Popen(
      tiny.command(
        source,
        workdir,
        *("--arms=bert", *TASK, "--runtime.mesh=data:2,fsdp:2", *flags),
        *(f"--coordinator=localhost:{port}", f"--num_processes={number}", f"--process_index={index}"),
      ),
      cwd=tiny.ROOT,
      env=tiny.environment(cache, DEVICES // number),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(number)
  ]


def end(running: list[subprocess.Popen[str]]) -> list[str]:
  """What each said on stderr, once all have ended well."""
  try:
    said = [process.communicate(timeout=240) for process in running]
  finally:  # one that waits for the other would wait for ever
    for process in running:
      process.kill()
  assert not any(process.returncode for process in running), said
  return [errors for _, errors in said]


def rows(workdir: Path) -> list[dict[str, str]]:
  return list(csv.DictReader((workdir / "results.csv").open()))


def assert_alike(one: Path, other: Path) -> None:
  """Counts are equal; losses are, up to rounding: sums over more devices are added up in another order."""
  for a, b in zip(rows(one), rows(other), strict=True):
    for name in a:
      try:
        assert float(a[name]) == pytest.approx(float(b[name]), rel=2e-5), name
      except ValueError:
        assert a[name] == b[name], name


@pytest.fixture(scope="module")
def alone(source: str, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
  workdir = tmp_path_factory.mktemp("alone") / "W"
  flags = ("--arms=bert", *TASK, "--train.steps=30")
  done = tiny.run(tiny.command(source, workdir, *flags), tiny.environment(cache))
  assert done.returncode == 0, done.stderr
  return workdir


def begin_and_send(source: str, workdir: Path, cache: Path, number: int, sent: int) -> list[str]:
  """After a few more steps the signal reaches process 1, which writes nothing; what all of them said on stderr."""

  def lines() -> int:
    metrics = workdir / "runs" / "bert" / "seed-0" / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0

  before, deadline = lines(), time.monotonic() + 200
  running = begin(source, workdir, cache, "--train.steps=30", "--runtime.log_every_steps=1", number=number)
  while lines() < before + 6 and time.monotonic() < deadline:
    time.sleep(0.02)
  running[1].send_signal(sent)
  said = [process.communicate(timeout=120)[1] for process in running]
  wanted = [-sent if sent == signal.SIGKILL and index == 1 else 75 for index in range(number)]
  assert [process.returncode for process in running] == wanted, said
  return said


@pytest.mark.slow
def test_two_processes_are_one_stopped_or_not(source: str, cache: Path, alone: Path, tmp_path: Path) -> None:
  begin_and_send(source, tmp_path, cache, 2, signal.SIGTERM)
  first, second = end(begin(source, tmp_path, cache, "--train.steps=30"))
  assert "going on from step" in first
  assert "held-out loss" in first
  assert "held-out loss" not in second, "one of them speaks"
  assert_alike(alone, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_four_of_which_one_is_killed_then_two_then_one(source: str, cache: Path, alone: Path, tmp_path: Path) -> None:
  first, _, third, fourth = begin_and_send(source, tmp_path, cache, 4, signal.SIGKILL)
  for said in (first, third, fourth):
    assert "has died, or its machine or network has; this process ends too" in said
  first, _ = begin_and_send(source, tmp_path, cache, 2, signal.SIGTERM)
  assert "going on from step" in first
  command = tiny.command(source, tmp_path, "--arms=bert", *TASK, "--train.steps=30")
  done = tiny.run(command, tiny.environment(cache))
  assert done.returncode == 0, done.stderr
  assert "going on from step" in done.stderr
  assert_alike(alone, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_start_from_given_weights(source: str, cache: Path, alone: Path, tmp_path: Path) -> None:
  """Each reads them onto a device of its own."""
  flags = (f"--train.start_from={alone}", "--train.steps=4", "--optim.peak_lr=1e-9", "--transfer.tasks=")
  end(begin(source, tmp_path / "two", cache, *flags))
  (given,), (then,) = rows(alone), rows(tmp_path / "two")
  assert float(then["mask_loss"]) == pytest.approx(float(given["mask_loss"]), rel=1e-4)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--num_processes=2"], "need --coordinator=HOST:PORT"),
    (["--coordinator=localhost:1234"], "needs --num_processes=N and --process_index=I"),
    (["--coordinator=localhost:1234", "--num_processes=2", "--process_index=2"], "from 0 to N - 1. Got 2 and 2"),
  ],
)
def test_flags_that_do_not_add_up_are_refused(source: str, tmp_path: Path, flags: list[str], message: str) -> None:
  done = tiny.run(tiny.command(source, tmp_path / "W", *flags), tiny.environment(tmp_path))
  assert done.returncode == 1
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "W").exists()
