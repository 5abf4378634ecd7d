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
SHORT = ("--train.steps=30",)
WITH_A_TASK = (*SHORT, "--transfer.tasks=parity", "--transfer.draws=3", "--transfer.finetuned_draws=1")


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
        *("--arms=bert", "--runtime.mesh=data:2,fsdp:2", *flags),
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


def alone(source: str, cache: Path, workdir: Path, *flags: str) -> Path:
  """The run, or the rest of it, in one process."""
  done = tiny.run(tiny.command(source, workdir, "--arms=bert", *flags), tiny.environment(cache))
  assert done.returncode == 0, done.stderr
  return workdir


def begin_and_send(source: str, workdir: Path, cache: Path, number: int, sent: int, *flags: str) -> list[str]:
  """After a few more steps the signal reaches process 1, which writes nothing; what all of them said on stderr."""

  def lines() -> int:
    metrics = workdir / "runs" / "bert" / "seed-0" / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0

  before, deadline = lines(), time.monotonic() + 200
  often = ("--runtime.log_every_steps=1", "--runtime.save_every_steps=4")  # there is something to go on from
  running = begin(source, workdir, cache, *flags, *often, number=number)
  while lines() < before + 6 and time.monotonic() < deadline:
    time.sleep(0.02)
  running[1].send_signal(sent)
  said = [process.communicate(timeout=120)[1] for process in running]
  wanted = [-sent if sent == signal.SIGKILL and index == 1 else 75 for index in range(number)]
  assert [process.returncode for process in running] == wanted, said
  return said


@pytest.mark.slow
@pytest.mark.parametrize("flags", [SHORT, pytest.param(WITH_A_TASK, marks=pytest.mark.exhaustive)], ids=["", "task"])
def test_two_processes_are_one_stopped_or_not(source: str, cache: Path, flags: tuple[str, ...], tmp_path: Path) -> None:
  begin_and_send(source, tmp_path / "two", cache, 2, signal.SIGTERM, *flags)
  first, second = end(begin(source, tmp_path / "two", cache, *flags))
  assert "going on from step" in first
  assert "held-out loss" in first
  assert "held-out loss" not in second, "one of them speaks"
  assert_alike(alone(source, cache, tmp_path / "one", *flags), tmp_path / "two")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_four_of_which_one_is_killed_then_two_then_one(source: str, cache: Path, tmp_path: Path) -> None:
  workdir, flags = tmp_path / "four", WITH_A_TASK
  first, _, third, fourth = begin_and_send(source, workdir, cache, 4, signal.SIGKILL, *flags)
  for said in (first, third, fourth):
    assert "has died, or its machine or network has; this process ends too" in said
  first, _ = begin_and_send(source, workdir, cache, 2, signal.SIGTERM, *flags)
  assert "going on from step" in first
  assert_alike(alone(source, cache, tmp_path / "one", *flags), alone(source, cache, workdir, *flags))


@pytest.mark.exhaustive
@pytest.mark.slow
def test_two_processes_start_from_given_weights(source: str, cache: Path, tmp_path: Path) -> None:
  """Each reads them onto a device of its own."""
  weights = alone(source, cache, tmp_path / "one", *SHORT)
  flags = (f"--train.start_from={weights}", "--train.steps=4", "--optim.peak_lr=1e-9")
  end(begin(source, tmp_path / "two", cache, *flags))
  (given,), (then,) = rows(weights), rows(tmp_path / "two")
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
