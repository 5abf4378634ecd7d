"""Who does which run: one process at a time, whatever happens to it, and a dead one's run goes on with another."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from bert_jax import claims
from bert_jax.claims import Claims


@pytest.fixture
def folder(tmp_path: Path) -> epath.Path:
  return epath.Path(tmp_path / "run")


def test_a_run_is_taken_by_one_and_free_again_when_let_go(folder: epath.Path) -> None:
  first, second = Claims(), Claims()
  claim = first.take(folder)
  assert claim is not None
  assert second.take(folder) is None
  owner = second.holder(folder)
  assert owner is not None
  assert claims.in_words(owner).startswith(f"process {os.getpid()} on ")
  assert claims.held_by(folder, os.getpid())
  claim.let_go()
  assert second.holder(folder) is None
  again = second.take(folder)
  assert again is not None
  again.let_go()
  assert not list(folder.iterdir())


def _take(folder: str, results: "multiprocessing.Queue[bool]", start: float) -> None:
  time.sleep(max(0.0, start - time.time()))
  results.put(Claims().take(epath.Path(folder)) is not None)
  time.sleep(1)


def test_of_many_at_once_one_takes_it(folder: epath.Path) -> None:
  context = multiprocessing.get_context("fork")
  results, start = context.Queue(), time.time() + 0.5
  processes = [context.Process(target=_take, args=(str(folder), results, start)) for _ in range(8)]
  for process in processes:
    process.start()
  assert sorted(results.get(timeout=20) for _ in processes) == [False] * 7 + [True]
  for process in processes:
    process.join()


def a_dead_process(folder: epath.Path) -> int:
  """Takes the run in a process that is killed; returns its number."""
  code = (
    "import sys, time; from etils import epath; from bert_jax.claims import Claims;"
    " claim = Claims().take(epath.Path(sys.argv[1])); print('taken', flush=True); time.sleep(100)"
  )
  process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
  assert process.stdout is not None
  assert process.stdout.readline() == "taken\n"
  assert Claims().take(folder) is None, "it lives"
  process.send_signal(signal.SIGKILL)
  process.communicate()
  return process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="a dead process is known at once by /proc")
def test_a_process_that_died_on_this_machine_is_known_at_once(folder: epath.Path) -> None:
  process = a_dead_process(folder)
  assert claims.held_by(folder, process)
  assert Claims().holder(folder) is None
  claim = Claims().take(folder)
  assert claim is not None
  assert [path.name for path in folder.iterdir()] == [".claim-2"]
  claim.let_go()


def test_a_process_that_has_the_number_of_a_dead_one_is_another(folder: epath.Path) -> None:
  folder.mkdir()
  owner = claims._myself()
  (folder / ".claim-1").write_text(json.dumps(owner))
  assert Claims().holder(folder) == owner
  (folder / ".claim-1").write_text(json.dumps(owner | {"started": "1"}))
  assert Claims().holder(folder) is None


def test_of_another_machine_it_is_known_by_its_silence(folder: epath.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(claims, "STALE_SECONDS", 0.5)
  folder.mkdir()
  elsewhere = {"machine": "other", "system": "another boot", "process": os.getpid(), "started": "1"}
  (folder / ".claim-1").write_text(json.dumps(elsewhere))
  mine = Claims()
  owner = mine.holder(folder)
  assert owner is not None
  assert claims.in_words(owner) == f"process {os.getpid()} on other"
  assert mine.take(folder) is None
  time.sleep(0.6)
  os.utime(folder / ".claim-1", (1, 1))  # it beats; whatever its clock says
  assert mine.take(folder) is None
  time.sleep(0.6)
  claim = mine.take(folder)
  assert claim is not None
  claim.let_go()


def test_it_beats_and_whoever_was_taken_for_dead_stops(folder: epath.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(claims, "BEAT_SECONDS", 0.05)
  lost = threading.Event()
  claim = Claims(lost.set).take(folder)
  assert claim is not None
  os.utime(folder / ".claim-1", (1, 1))
  deadline = time.monotonic() + 20
  while (folder / ".claim-1").stat().mtime == 1 and time.monotonic() < deadline:
    time.sleep(0.02)
  assert (folder / ".claim-1").stat().mtime > 1
  assert not lost.is_set()
  (folder / ".claim-2").write_text("{}")
  assert lost.wait(timeout=20)
  claim.let_go()


def test_whoever_stood_still_while_it_took_a_run_leaves_it(folder: epath.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  folder.mkdir()
  (folder / ".claim-2").write_text(json.dumps(claims._myself()))
  seen = [0]  # before that was there
  highest = claims._highest
  monkeypatch.setattr(claims, "_highest", lambda where: seen.pop() if seen else highest(where))
  assert Claims().take(folder) is None
  assert [file.name for file in folder.iterdir()] == [".claim-2"]


@pytest.mark.parametrize("another", [None, {"machine": "other", "process": 1}])
def test_whoever_was_taken_for_dead_stops_though_the_other_is_done(
  another: dict[str, Any] | None, folder: epath.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Its file is gone, or a third process has made one of the same number, which is left to it."""
  monkeypatch.setattr(claims, "BEAT_SECONDS", 0.05)
  lost = threading.Event()
  claim = Claims(lost.set).take(folder)
  assert claim is not None
  (folder / ".claim-1").unlink()
  if another is not None:
    (folder / ".claim-1").write_text(json.dumps(another))
  assert lost.wait(timeout=20)
  claim.let_go()
  assert [json.loads(file.read_text()) for file in folder.iterdir()] == ([another] if another else [])


def test_a_claim_that_is_being_written_is_no_dead_ones(folder: epath.Path) -> None:
  folder.mkdir()
  (folder / ".claim-1").write_text("")
  assert Claims().take(folder) is None


def test_a_bucket_makes_a_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
  """By the condition that its reader has for that; fsspec's own file system in memory stands for a bucket."""
  fsspec = pytest.importorskip("fsspec")
  system = fsspec.filesystem("memory")
  assert claims._create("memory://bucket/run/.claim-1", "one")  # pyright: ignore[reportArgumentType]
  assert not claims._create("memory://bucket/run/.claim-1", "two")  # pyright: ignore[reportArgumentType]
  assert system.cat("/bucket/run/.claim-1") == b"one"


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="file/run cannot be written to"):
    Claims().take(epath.Path(tmp_path / "file" / "run"))
