"""The note: its figures and tables come from the data beside it, and its measurement runs."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import small

ROOT = Path(__file__).parent.parent
NOTE = ROOT / "docs" / "note"
FIGURES = ("learning.png", "transfer.png", "recipe.png")


def run(script: str, *arguments: str | Path) -> str:
  done = subprocess.run([sys.executable, NOTE / script, *arguments], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_figures_and_tables_are_made_of_the_data(tmp_path: Path) -> None:
  for file in NOTE.glob("*.csv"):
    (tmp_path / file.name).write_bytes(file.read_bytes())
  tables = run("figures.py", f"--data={tmp_path}").strip().split("\n\n")
  text = (ROOT / "docs" / "note.md").read_text()
  assert len(tables) == 3
  for table in tables:
    assert table in text, table
  for name in FIGURES:
    assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    assert f"](note/{name})" in text


@pytest.mark.parametrize("experiment", ["bert_vs_roberta", "masking", "nsp", "batch_size", "data_size"])
def test_the_arms_are_those_of_the_reports(experiment: str) -> None:
  with (NOTE / "arms.csv").open(newline="") as file:
    ours = {(row["arm"], row["seed"]): row for row in csv.DictReader(file) if row["experiment"] == experiment}
  with (ROOT / "docs" / f"{experiment}-demo" / "results.csv").open(newline="") as file:
    reported = {(row["arm"], row["seed"]): row for row in csv.DictReader(file)}
  assert ours.keys() == reported.keys()
  for key, row in reported.items():
    learned = float(row["context_free_mask_loss"]) - float(row["mask_loss"])
    assert float(ours[key]["learned"]) == pytest.approx(learned, abs=1e-4)


@pytest.mark.exhaustive
def test_the_measurement_runs_from_scratch(tmp_path: Path) -> None:
  small.make("bert", tokenizer=small.tokenizer_of()).save(tmp_path / "MODEL")
  run("measure.py", tmp_path / "W", "--scale=smoke", f"--out={tmp_path / 'data'}", f"--minilm={tmp_path / 'MODEL'}")
  found = {file.name for file in (tmp_path / "data").iterdir()}
  assert found == {file.name for file in NOTE.glob("*.csv")}
  assert re.search(r"\| all places \|", run("figures.py", f"--data={tmp_path / 'data'}"))
