"""GLUE's and STS-B's tables, from files as GLUE's archive has them."""

import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax import records
from bert_jax.transfer import glue, glue_table, grids, similarity_table

ROOT = Path(__file__).parent.parent.parent
WORDS = ("snow", "paris", "the", "cat", "is", "cold", "sea")
HEADERS = {
  "SST-2": "sentence\tlabel",
  "MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
  "STS-B": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
  "QQP": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
  "MNLI": "index\tpromptID\tpairID\tsentence1\tsentence2\tgold_label",
  "QNLI": "index\tquestion\tsentence\tlabel",
  "RTE": "index\tsentence1\tsentence2\tlabel",
  "WNLI": "index\tsentence1\tsentence2\tlabel",
}
LABELS = {
  "MNLI": ("entailment", "neutral", "contradiction"),
  "QNLI": ("entailment", "not_entailment"),
  "RTE": ("entailment", "not_entailment"),
}


def write(folder: Path, task: glue.GlueTask, part: str, number: int, draw: np.random.Generator) -> None:
  (folder / task.name).mkdir(parents=True, exist_ok=True)
  lines = [] if task.name == "CoLA" else [HEADERS[task.name]]
  for row in range(number):
    labels = LABELS.get(task.name, ("0", "1"))
    label = f"{draw.random() * 5:.3f}" if task.name == "STS-B" else labels[row % len(labels)]
    one, other = (" ".join(draw.choice(WORDS, 4)) + ' "quoted' for _ in range(2))
    if task.name == "CoLA":
      lines.append("\t".join(["gj04", label, "" if label == "1" else "*", one]))
      continue
    values = {task.columns.text: one, task.columns.pair or "": other, task.columns.label or "": label}
    lines.append("\t".join(values.get(column, "x") for column in HEADERS[task.name].split("\t")))
  (folder / task.name / f"{part}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """A small GLUE: all nine tasks."""
  folder, draw = tmp_path_factory.mktemp("glue"), np.random.default_rng(0)
  for task in glue.TASKS.values():
    for part, number in (("train", 40), *((part, 16) for part in task.dev)):
      write(folder, task, part, number, draw)
  return folder


@pytest.mark.parametrize("name", glue.TASKS)
def test_each_of_the_nine_is_read(name: str, data: Path) -> None:
  task = glue.TASKS[name]
  train = task.read(data, "train")
  assert len(train) == 40
  pairs = name not in ("CoLA", "SST-2")
  assert all(isinstance(text, tuple) == pairs for text in train.texts)
  assert all('"quoted' in (text[1] if pairs else text) for text in train.texts), "a quotation mark is a character"
  wanted = set(LABELS.get(name, ("0", "1")))
  assert name == "STS-B" or set(train.labels) == wanted


def test_broken_rows_are_counted_and_left_out(data: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
  caplog.set_level("WARNING", logger="absl")
  (tmp_path / "QQP").mkdir()
  text = (data / "QQP" / "train.tsv").read_text()
  (tmp_path / "QQP" / "train.tsv").write_text(text + "1\t2\t3\ta question\t\t0\n1\t2\t3\ta question that\ngoes on\t0\n")
  assert len(glue.TASKS["QQP"].read(tmp_path, "train")) == 40
  assert "3 rows with an empty cell, or not as many fields as the header, are left out" in caplog.text


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_table_has_a_row_a_task_and_is_not_made_twice(
  data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  quick = functools.partial(glue_table.making.make, compared=("trivial", "tfidf_cut"))
  monkeypatch.setattr(glue_table.making, "make", quick)
  arguments: dict[str, Any] = {
    "model": str(model),
    "data": str(data),
    "workdir": str(tmp_path),
    "way": "frozen",
    "max_tokens": 24,
  }
  assert glue_table.run(names="cola,mnli,sts-b", **arguments) == 0
  shown = capsys.readouterr().out
  rows = [line.split(" | ")[0].strip("| ") for line in shown.splitlines() if line.startswith("| ")]
  assert rows[2:] == ["CoLA", "MNLI matched", "MNLI mismatched", "STS-B"]
  assert (tmp_path / "glue.md").read_text().strip() == shown.strip()
  cola = next(line for line in shown.splitlines() if line.startswith("| CoLA"))
  found = records.read_json(epath.Path(tmp_path / "CoLA" / "metrics.json"), "") or {}
  assert cola.split(" | ")[1:4] == ["matthews", f"{100 * found['scores']['matthews']:.1f}", "0.0"], (
    "the majority's is 0"
  )
  assert "56.3" in cola, "BERT-base's, as published"
  monkeypatch.setattr(glue_table.making, "make", lambda *_, **__: pytest.fail("it is there"))
  assert glue_table.run(names="CoLA", **arguments) == 0
  for changed, message in (
    ({"max_tokens": 20}, "max_tokens was 24 and is 20"),
    ({"way": "full"}, "way was 'frozen' and is 'full'"),
  ):
    with pytest.raises(ValueError, match=f"holds bundles that were asked for otherwise: {message}"):
      glue_table.run(names="CoLA", **(arguments | changed))


def test_what_is_not_there_is_said_before_anything_is_done(data: Path, tmp_path: Path) -> None:
  for names, message in (("cola,squad", "--tasks=squad: GLUE has CoLA"), ("rte", "RTE/train.tsv and .* are not there")):
    with pytest.raises(ValueError, match=message):
      glue_table.run("nowhere", str(tmp_path if names == "rte" else data), names, str(tmp_path))
  with pytest.raises(ValueError, match="--recipe=x is none of bert"):
    glue_table.run("nowhere", str(data), "rte", str(tmp_path), recipe="x")
  with pytest.raises(ValueError, match="--epochs=2 is of no use with --way=frozen"):
    glue_table.run("nowhere", str(data), "rte", str(tmp_path), way="frozen", epochs=2)
  with pytest.raises(ValueError, match="give one seed"):
    glue_table.run("nowhere", str(data), "rte", str(tmp_path), way="frozen", seeds=(0, 1))


@pytest.mark.slow
@pytest.mark.exhaustive
def test_sentences_are_compared_in_three_ways(
  data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  assert similarity_table.run(str(model), str(data), str(tmp_path), 1, 1e-4, "mean") == 0
  shown = capsys.readouterr().out
  for name in (
    "this model, bi-encoder",
    "this model, cross-encoder",
    "cosines: shared words",
    "cosines: the encoder, frozen",
  ):
    assert re.search(rf"\| {name} \| -?\d\.\d{{3}} \|", shown), name


def test_a_published_grid_has_all_its_settings() -> None:
  assert len(grids.RECIPES["bert_any_task"].settings()) == 3 * 2 * 3
  assert len(grids.RECIPES["roberta"].settings()) == 6
  for recipe in grids.RECIPES.values():
    assert recipe.source
    assert all(set(setting) == {"peak_lr", "batch_size", "epochs"} for setting in recipe.settings())


def test_settings_are_compared_by_their_medians_and_failures_are_counted() -> None:
  """One seed that learns nothing moves a mean, and not a median."""
  scores = {1e-5: [0.7, 0.71, 0.72, 0.73, 0.74], 5e-5: [0.8, 0.81, 0.1, 0.82, None]}
  tried = [
    grids.Tried({"peak_lr": rate}, seed, score, score is None or score <= 0.5)
    for rate, of_seeds in scores.items()
    for seed, score in enumerate(of_seeds)
  ]
  best, other = grids.summaries(tried)
  assert (best.setting["peak_lr"], best.median, best.low, best.failed) == (5e-5, 0.8, 0.0, 2)
  assert (other.median, other.failed) == (0.72, 0)
  assert grids.best_seed(tried, best.setting) == 3
  of_numbers = [grids.Tried({"peak_lr": rate}, 0, score, True) for rate, score in ((1.0, None), (0.1, -0.2))]
  assert [summary.low for summary in grids.summaries(of_numbers)] == [-0.2, -0.2], "no loss is no better than a bad one"
  negative = [grids.Tried({"peak_lr": 1.0}, seed, score, True) for seed, score in enumerate((None, -0.2, -0.1))]
  assert grids.best_seed(negative, {"peak_lr": 1.0}) == 2, "and not one without a finite loss"
  assert best.interval is not None
  assert best.interval[0] < best.median <= best.interval[1]
  assert "2 failed" in best.line(str)
  assert grids.summaries(tried[:4])[0].interval is None, "four seeds say little of others"


@pytest.mark.parametrize("name", ["glue", "similarity"])
def test_a_wrong_flag_costs_a_second(name: str) -> None:
  for flags, message in ((["--modle=x"], "Unknown command line flag 'modle'"), ([], "--model is needed")):
    done = subprocess.run(
      [sys.executable, f"experiments/{name}.py", *flags], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert message in done.stderr
  shown = subprocess.run([sys.executable, f"experiments/{name}.py", "--help"], cwd=ROOT, capture_output=True, text=True)
  assert shown.returncode == 0
  assert "--workdir=" in shown.stdout
