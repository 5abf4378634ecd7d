"""A sweep goes on where it was, does nothing twice, mixes nothing up, and ends the same whatever happened to it."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from bert_jax import one_run, preemption, records, results, sweep
from bert_jax.analysis import runs
from bert_jax.claims import Claims
from bert_jax.config import Config
from bert_jax.data.corpus import Corpus
from bert_jax.experiment import Arm, Experiment, Size
from bert_jax.results import Failed, Gate, Gates, RunResult
from tests import tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The workdir of a finished sweep."""
  workdir = tmp_path_factory.mktemp("finished")
  assert sweep.run(tiny.plan(source, workdir)) == 0
  return workdir


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
  shutil.copytree(finished, tmp_path / "W")
  return tmp_path / "W"


def content(workdir: Path) -> dict[str, bytes]:
  return {str(path): path.read_bytes() for path in sorted(workdir.rglob("[!.]*")) if path.is_file()}


def rows(workdir: Path) -> list[dict[str, str]]:
  with (workdir / "results.csv").open() as file:
    return list(csv.DictReader(file))


def gates_of(workdir: Path) -> tuple[Gate, ...]:
  gates = results.read(epath.Path(workdir) / "gates.json", Gates)
  assert gates is not None
  return gates.gates


# ---- what it leaves --------------------------------------------------------------------------------------------------


def test_a_report_and_results_without_times(finished: Path) -> None:
  for name in ("report.md", "report.html", "results.json", "times.csv", "sweep.json", "gates.json"):
    assert (finished / name).stat().st_size, name
  assert "the command line set" not in (finished / "report.md").read_text(), "as it set nothing"
  assert [(row["arm"], row["seed"], row["status"]) for row in rows(finished)] == [
    ("bert", "0", "finished"),
    ("faster", "0", "finished"),
  ]
  assert not [name for name in rows(finished)[0] if "second" in name or "time" in name or "wait" in name]


def test_the_report_reads_what_a_run_writes_and_no_more(finished: Path) -> None:
  """A measure that no run writes would be an empty column for ever, and nobody would miss it."""
  run = finished / "runs" / "bert" / "seed-0"
  result = results.read(epath.Path(run) / "result.json", RunResult)
  assert result is not None
  assert set(runs.values_of(result)) == set(runs.read_sweep(finished).measures())


def test_arms_share_what_they_can(finished: Path) -> None:
  assert {(gate.name, gate.holds) for gate in gates_of(finished)} == {
    ("initialization", True),
    ("data_order", True),
    ("evaluation", True),
  }
  assert rows(finished)[0]["mlm_loss"] != rows(finished)[1]["mlm_loss"]


def test_run_again_it_does_nothing_and_says_so(source: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
  before = content(copy / "runs") | content(copy / "data")
  results = (copy / "results.csv").read_bytes()
  assert sweep.run(tiny.plan(source, copy)) == 0
  assert "Nothing to do: all 2 runs" in capsys.readouterr().out
  assert content(copy / "runs") | content(copy / "data") == before
  assert (copy / "results.csv").read_bytes() == results


@pytest.mark.exhaustive
@pytest.mark.slow
def test_arms_one_by_one_give_the_same(source: str, finished: Path, tmp_path: Path) -> None:
  assert sweep.run(tiny.plan(source, tmp_path, arms=["faster"])) == 0
  assert [row["arm"] for row in rows(tmp_path)] == ["faster"]
  assert sweep.run(tiny.plan(source, tmp_path)) == 0
  assert (tmp_path / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()


def test_a_run_ends_in_a_line_and_a_sweep_says_what_is_left(
  source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
  caplog.set_level("INFO", logger="absl")
  assert sweep.run(tiny.plan(source, tmp_path, assignments={"train.steps": 6})) == 0
  assert "[1/2] bert, seed 0: compiling the training step" in caplog.messages
  first, second = [line for line in caplog.messages if "held-out loss" in line]
  line = (
    r"held-out loss at \[MASK\] \d\.\d{3} nats \(without context \d\.\d{3}\), \d+\.\d% right, after 6 steps and [\d,]+"
  )
  assert re.fullmatch(rf"\[1/2\] bert, seed 0: {line} tokens; about \d+ s left for 1 more run", first)
  assert re.fullmatch(rf"\[2/2\] faster, seed 0: {line} tokens", second)


def test_time_left_goes_by_the_work_that_is_left(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
  small, large = tiny.config(source), tiny.config(source, train={"steps": 100})  # 20 and 100 steps
  clock = [0.0]
  monkeypatch.setattr(sweep.time, "monotonic", lambda: clock[0])
  left = sweep._TimeLeft([small, large, small])
  clock[0] = 120.0
  assert left.after_one() == "; about 12 min left for 2 more runs"
  clock[0] = 720.0
  assert left.after_one() == "; about 2 min left for 1 more run"
  assert left.after_one() == ""


# ---- what must not be mixed ----


@pytest.mark.parametrize(
  ("assignments", "message"),
  [
    ({"optim.weight_decay": 0.3}, "optim.weight_decay is 0.01 there and 0.3 here"),
    ({"evaluation.max_examples": 50}, "evaluation.max_examples is 103 there and 50 here"),
    ({"data.eval_fraction": 0.3}, "data.eval_fraction is 0.2 there and 0.3 here"),
  ],
)
@pytest.mark.parametrize("seeds", [(0,), (1,)])
def test_other_settings_are_refused_with_both_values(
  assignments: dict[str, Any], message: str, seeds: tuple[int, ...], source: str, copy: Path
) -> None:
  before = content(copy)
  with pytest.raises(ValueError, match="other settings") as error:
    sweep.run(tiny.plan(source, copy, assignments=assignments, seeds=seeds))
  assert message in str(error.value)
  assert "another --workdir" in str(error.value)
  assert content(copy) == before


def test_runtime_settings_are_not_other_settings(source: str, copy: Path) -> None:
  assert sweep.run(tiny.plan(source, copy, assignments={"runtime.prefetch_batches": 2})) == 0


def test_another_experiment_is_refused(source: str, copy: Path) -> None:
  other = Experiment("other", "?", tiny.EXPERIMENT.arms, tiny.EXPERIMENT.sizes)
  with pytest.raises(ValueError, match="is of the experiment tiny; choose another --workdir"):
    sweep.run(tiny.plan(source, copy, experiment=other))


def test_an_arm_that_was_changed_since_is_refused(source: str, copy: Path) -> None:
  bert, faster = tiny.EXPERIMENT.arms
  slower = Arm(faster.name, faster.change, {"optim.peak_lr": lambda c: 3 * c.optim.peak_lr}, faster.parent)
  changed = Experiment("tiny", tiny.EXPERIMENT.question, (bert, slower), tiny.EXPERIMENT.sizes)
  with pytest.raises(ValueError, match=r"faster/seed-0 was made with .*optim.peak_lr is 0.01 there and 0.015"):
    sweep.run(tiny.plan(source, copy, experiment=changed))


@pytest.mark.parametrize("gate", ["initialization", "data_order", "evaluation"])
def test_a_broken_gate_is_found_and_in_the_report(gate: str, source: str, copy: Path) -> None:
  path = copy / "runs" / "faster" / "seed-0" / "result.json"
  result: Any = records.read_json(epath.Path(path), "")
  result["pretrained"]["fingerprints"][gate] = {"encoder": "tampered"} if gate == "initialization" else "tampered"
  records.write_json(epath.Path(path), result)
  (copy / "report.md").unlink()
  with pytest.raises(ValueError, match=rf"arms bert and faster should share their {gate} at seed 0, and do not"):
    sweep.run(tiny.plan(source, copy))
  assert "tampered" in (copy / "report.md").read_text()


def test_arms_of_different_rates_really_predict_so(source: str, tmp_path: Path) -> None:
  arms = (tiny.EXPERIMENT.arms[0], Arm("more", "twice the rate", {"data.masking.rate": 0.3}, parent="bert"))
  plan = tiny.plan(
    source,
    tmp_path,
    experiment=Experiment("rates", "?", arms, tiny.EXPERIMENT.sizes),
    assignments={"train.steps": 8},
  )
  assert sweep.run(plan) == 0
  gates = {gate.name: gate for gate in gates_of(tmp_path)}
  assert gates["predictions"].holds
  assert "at rates of 30% and 15%" in gates["predictions"].detail
  path = tmp_path / "runs/more/seed-0/result.json"
  result: Any = records.read_json(epath.Path(path), "")
  result["pretrained"]["predicted_tokens"] //= 2  # as a limit would
  records.write_json(epath.Path(path), result)
  with pytest.raises(ValueError, match="arms bert and more should predict at their masking rates at seed 0, and do"):
    sweep.run(plan)


def test_what_another_live_process_does_is_waited_for(
  source: str, copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
  """It lets go of its run undone, as one that was told to stop does, and this process goes on with it."""
  caplog.set_level("INFO", logger="absl")
  folder = epath.Path(copy / "runs" / "faster" / "seed-0")
  (folder / "result.json").unlink()
  claim = Claims().take(folder)
  assert claim is not None
  monkeypatch.setattr(sweep.time, "sleep", lambda _: claim.let_go())
  assert sweep.run(tiny.plan(source, copy)) == 0
  (line,) = [line for line in caplog.messages if "waiting for runs of other processes" in line]
  assert f"(faster, seed 0: process {os.getpid()} on " in line
  assert (folder / "result.json").exists()


# ---- runs that fail ----


def test_a_failed_run_does_not_stop_the_others(
  source: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """The error is raised when all is done, as it was where it is the only one."""
  whole = one_run.do

  def failing(workdir: epath.Path, config: Config, corpus: Corpus, arm: Arm, *others: Any) -> Any:
    if arm.name == "bert":
      raise ValueError("no luck")
    return whole(workdir, config, corpus, arm, *others)

  monkeypatch.setattr(one_run, "do", failing)
  with pytest.raises(ValueError, match=r"^no luck$"):
    sweep.run(tiny.plan(source, tmp_path))
  assert [row["arm"] for row in rows(tmp_path)] == ["faster"]
  assert results.read(epath.Path(tmp_path) / "runs/bert/seed-0/failed.json", Failed) is not None
  with pytest.raises(ValueError, match=r"2 of 4 runs failed.*bert, seed 0: no luck; bert, seed 1: no luck"):
    sweep.run(tiny.plan(source, tmp_path, seeds=(0, 1)))
  monkeypatch.undo()
  assert sweep.run(tiny.plan(source, tmp_path)) == 0
  assert not (tmp_path / "runs/bert/seed-0/failed.json").exists()
  assert [row for row in rows(tmp_path) if row["seed"] == "0"] == rows(finished)


def test_a_diverged_arm_is_said_and_the_others_go_on(source: str, tmp_path: Path) -> None:
  wild = Experiment(
    name="wild",
    question="?",
    arms=(
      tiny.EXPERIMENT.arms[0],
      Arm("wild", "a rate of 1e38", {"optim.peak_lr": 1e38, "optim.clip_norm": 0.0}, parent="bert"),
      Arm("tame", "a low rate", {"optim.peak_lr": 1e-3}, parent="bert"),
    ),
    sizes={"smoke": Size({}, seeds=(0,), note="Nothing.")},
  )
  given = {"train.max_nonfinite_steps": 3}
  assert sweep.run(tiny.plan(source, tmp_path, experiment=wild, assignments=given)) == 0
  assert {row["arm"]: row["status"] for row in rows(tmp_path)} == {
    "bert": "finished",
    "wild": "diverged",
    "tame": "finished",
  }
  assert "diverged" in (tmp_path / "report.md").read_text()
  assert all(gate.holds for gate in gates_of(tmp_path))
  assert len(gates_of(tmp_path)) == 6, "a diverged run has its fingerprints too"


def test_a_signal_before_training_leaves_by_the_same_door(
  source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  before = signal.getsignal(signal.SIGTERM)
  prepare = sweep.prepare_corpus

  def interrupted(*arguments: Any) -> Any:
    try:
      signal.raise_signal(signal.SIGTERM)
    except Exception as error:  # as libraries have it here and there
      raise RuntimeError("another error") from error
    return prepare(*arguments)

  monkeypatch.setattr(sweep, "prepare_corpus", interrupted)
  assert sweep.run(tiny.plan(source, tmp_path)) == preemption.EXIT_PREEMPTED
  assert "SIGTERM: stopped; the same command goes on from there" in capsys.readouterr().err
  assert signal.getsignal(signal.SIGTERM) is before


# ---- killed, in processes of their own ----

STEPS = 24
# One arm without a task; `tests/soak.py` kills a sweep with pairs, packing and transfer a hundred times.
LONGER = ("--arms=bert", f"--train.steps={STEPS}", "--runtime.save_every_steps=2", "--evaluation.every_steps=4")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def undisturbed(source: str, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
  workdir = tmp_path_factory.mktemp("undisturbed")
  done = tiny.run(tiny.command(source, workdir, *LONGER), tiny.environment(cache))
  assert done.returncode == 0, done.stderr
  return workdir


def evaluations(workdir: Path) -> dict[str, list[str]]:
  return {
    str(path.relative_to(workdir)): [line for line in path.read_text().splitlines() if '"eval"' in line]
    for path in sorted(workdir.glob("runs/*/*/metrics.jsonl"))
  }


def last_checkpoints(workdir: Path) -> dict[str, Any]:
  """The checksums of each run's last checkpoint."""
  paths = sorted(workdir.glob(f"runs/*/*/checkpoints/{STEPS}/about/metadata"))
  return {str(path.relative_to(workdir)): json.loads(path.read_text())["checksums"] for path in paths}


def start(source: str, workdir: Path, env: dict[str, str], *flags: str) -> subprocess.Popen[str]:
  return subprocess.Popen(
    tiny.command(source, workdir, *LONGER, *flags), cwd=tiny.ROOT, env=env, text=True, stderr=subprocess.PIPE
  )


def metrics_lines(workdir: Path) -> int:
  return sum(path.read_bytes().count(b"\n") for path in workdir.glob("runs/*/*/metrics.jsonl"))


def wait_for_lines(process: subprocess.Popen[str], workdir: Path, more: int) -> None:
  began, before = time.monotonic(), metrics_lines(workdir)
  while metrics_lines(workdir) - before < more and process.poll() is None and time.monotonic() - began < 200:
    time.sleep(0.005)


@pytest.mark.slow
def test_killed_and_told_to_stop_at_random_moments_it_ends_the_same(
  source: str, undisturbed: Path, cache: Path, tmp_path: Path
) -> None:
  """Steps take milliseconds here and saves tenths of seconds, so most kills fall into a save."""
  draws = random.Random(5)
  for sent in (signal.SIGKILL, signal.SIGTERM):
    process = start(source, tmp_path, tiny.environment(cache))
    wait_for_lines(process, tmp_path, draws.randint(1, 4))
    time.sleep(draws.uniform(0, 0.4))
    process.send_signal(sent)
    _, errors = process.communicate(timeout=200)
    if sent == signal.SIGTERM:
      assert process.returncode == preemption.EXIT_PREEMPTED, errors
      assert "the same command goes on from there" in errors
      assert "Traceback" not in errors
  done = tiny.run(tiny.command(source, tmp_path, *LONGER), tiny.environment(cache))
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()
  assert evaluations(tmp_path) == evaluations(undisturbed)
  assert last_checkpoints(tmp_path) == last_checkpoints(undisturbed)
  assert len(last_checkpoints(tmp_path)) == 1
  assert not list(tmp_path.rglob("*orbax-checkpoint-tmp*"))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_after_sigterm_other_devices_go_on(source: str, undisturbed: Path, cache: Path, tmp_path: Path) -> None:
  """As training/test_loop.py has it within one process."""
  process = start(source, tmp_path, tiny.environment(cache))
  wait_for_lines(process, tmp_path, 6)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=200)
  assert process.returncode == preemption.EXIT_PREEMPTED, errors
  done = tiny.run(tiny.command(source, tmp_path, *LONGER), tiny.environment(cache, 4))
  assert done.returncode == 0, done.stderr
  for row, wanted in zip(rows(tmp_path), rows(undisturbed), strict=True):
    # Other devices add up in another order: 1e-7 a sum, grown over the steps of Adam.
    assert float(row["mlm_loss"]) == pytest.approx(float(wanted["mlm_loss"]), rel=1e-4)
    assert row["tokens"] == wanted["tokens"]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_commands_share_the_runs_and_ctrl_c_twice_stops_one(
  source: str, undisturbed: Path, cache: Path, tmp_path: Path
) -> None:
  first = start(source, tmp_path, tiny.environment(cache), "--arms=bert,faster")
  wait_for_lines(first, tmp_path, 2)
  first.send_signal(signal.SIGSTOP)
  second = start(source, tmp_path, tiny.environment(cache), "--arms=bert,faster")
  assert second.stderr is not None
  said = next(line for line in second.stderr if "waiting for runs of other processes" in line)
  assert f"bert, seed 0: process {first.pid} on " in said
  assert (tmp_path / "runs/faster/seed-0/result.json").exists()
  first.send_signal(signal.SIGCONT)
  first.send_signal(signal.SIGINT)
  time.sleep(0.05)
  first.send_signal(signal.SIGINT)
  first.communicate(timeout=60)
  assert first.returncode in (-signal.SIGINT, preemption.EXIT_PREEMPTED)  # the latter where the first was quick
  second.communicate(timeout=200)
  assert second.returncode == 0
  assert [row for row in rows(tmp_path) if row["arm"] == "bert"] == rows(undisturbed)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_full_disk_ends_in_one_line_and_goes_on_with_room(
  source: str, undisturbed: Path, cache: Path, tmp_path: Path
) -> None:
  workdir = tmp_path / "W"
  workdir.mkdir()
  mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(workdir)], capture_output=True)
  if mounted.returncode:
    pytest.skip("mounting a small file system takes rights that this user has not")
  try:
    process = start(source, workdir, tiny.environment(cache))
    wait_for_lines(process, workdir, 4)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    assert process.returncode == preemption.EXIT_PREEMPTED
    good = last_step(workdir)
    filler = workdir / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(workdir).free - 150_000))
    full = tiny.run(tiny.command(source, workdir, *LONGER), tiny.environment(cache))
    assert full.returncode == 1
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("error")]
    assert "Make room there and run the same command again" in line
    assert "Traceback" not in full.stderr
    assert last_step(workdir) >= good
    filler.unlink()
    done = tiny.run(tiny.command(source, workdir, *LONGER), tiny.environment(cache))
    assert done.returncode == 0, done.stderr
    assert (workdir / "results.csv").read_bytes() == (undisturbed / "results.csv").read_bytes()
  finally:
    subprocess.run(["umount", str(workdir)], check=True)


def last_step(workdir: Path) -> int:
  return max(int(path.name) for path in workdir.glob("runs/bert/seed-0/checkpoints/*") if path.name.isdigit())
