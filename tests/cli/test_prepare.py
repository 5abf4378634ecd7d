"""`bert-jax prepare`: the store of a run, before the run."""

import subprocess
import sys
from pathlib import Path

from tests import tiny
from tests.data.small_stores import files

PROGRAM = "import sys; from bert_jax.cli.main import main; sys.exit(main())"


def prepare(*arguments: str) -> subprocess.CompletedProcess[str]:
  command = [sys.executable, "-c", PROGRAM, "prepare", "pretrain", "--scale=smoke", *arguments]
  return subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)


def test_it_is_the_store_that_a_run_takes_up(tmp_path: Path) -> None:
  source, folder = tiny.write_text(tmp_path / "text", 40), tmp_path / "store"
  flags = (f"--data.source={source}", f"--data.store={folder}", "--runtime.num_workers=1")
  done = prepare(*flags)
  assert done.returncode == 0, done.stderr
  assert f"{folder}: 40 documents, " in done.stdout
  before = files(folder)
  again = prepare(*flags)
  assert again.stdout.rpartition(",")[0] == done.stdout.rpartition(",")[0]
  assert files(folder) == before


def test_a_bucket_whose_reader_is_not_installed_is_a_line(tmp_path: Path) -> None:
  """`az` has a reader of its own, which nothing here brings."""
  for done in (
    prepare("--data.store=az://bucket/store"),
    subprocess.run(
      [sys.executable, "experiments/pretrain.py", "--scale=smoke", "--data.store=az://b/s", f"--workdir={tmp_path}"],
      cwd=tiny.ROOT,
      capture_output=True,
      text=True,
    ),
  ):
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "install" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_flags_of_beam_without_a_runner_are_refused(tmp_path: Path) -> None:
  done = prepare(f"--data.store={tmp_path / 'a'}", "--", "--project=P")
  assert done.returncode == 1
  assert "--project=P would be Beam's; add --runner=" in done.stderr
  assert not (tmp_path / "a").exists()
