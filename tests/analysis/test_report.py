"""The files of a report: what they say, that equal runs give equal bytes, and that a partial sweep has one."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax import records, results
from bert_jax.analysis.report import write_report
from bert_jax.results import Failed, Gate, Gates
from tests.analysis.sweeps import ARMS, write_run, write_sweep, write_times

FILES = {"results.csv", "times.csv", "results.json", "report.md", "report.html"}


def first_screen(report: str) -> str:
  """What stands before the details."""
  return report.split("\n## ")[0]


def section(report: str, heading: str) -> str:
  return report.split(f"## {heading}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
  folder = write_sweep(tmp_path_factory.mktemp("sweep"))
  assert write_report(folder) == folder / "report.md"
  return folder


def test_every_file_is_there_and_no_draft_is_left(folder: Path) -> None:
  files = {path.name for path in folder.iterdir() if path.is_file()} - {"sweep.json", "gates.json"}
  assert files == FILES
  assert {path.name for path in (folder / "plots").iterdir()} == {
    f"{name}.{kind}" for name in ("differences", "accuracies", "loss", "transfer") for kind in ("png", "svg")
  }


def test_the_sections_stand_in_order_and_every_picture_exists(folder: Path) -> None:
  report = (folder / "report.md").read_text()
  assert report.startswith("# What does each step from BERT's recipe to RoBERTa's do?\n")
  assert re.findall(r"^## (.+)$", report, re.MULTILINE) == [
    "The arms",
    "What each change did",
    "Loss while training",
    "Few-label accuracy",
    "All measures",
    "What this size can and cannot show",
    "How it was run",
    "What the arms shared",
    "Statistics, in words",
  ]
  first = first_screen(report)
  assert first.count("![") == 1
  assert first.index("made the model better") < first.index("![") < first.index("| Arm |"), (
    "a sentence, a figure, a table"
  )
  pictures = re.findall(r"!\[.+?\]\((.+?)\)", report)
  assert len(pictures) == 4
  assert all((folder / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_every_row_of_a_table_has_the_cells_of_its_header(folder: Path) -> None:
  for table in re.findall(r"(?:^\|.*\n)+", (folder / "report.md").read_text(), re.MULTILINE):
    assert len({line.count(" | ") for line in table.splitlines()}) == 1


def test_the_report_says_what_results_json_has(folder: Path) -> None:
  found = json.loads((folder / "results.json").read_text())
  report = (folder / "report.md").read_text()
  changes = section(report, "What each change did")
  losses = [row for row in found["comparisons"] if row["measure"] == "mask_loss"]
  assert [(row["arm"], row["against"]) for row in losses] == list(zip(ARMS[1:], ARMS, strict=False))
  assert {row["verdict"] for row in losses} == {"better", "not shown"}
  for row in losses:
    line = next(line for line in changes.splitlines() if line.startswith(f"| `{row['arm']}` vs"))
    low, high = row["corrected_interval"]
    assert row["verdict"] == ("not shown" if low <= 0 <= high else "better" if high < 0 else "worse")
    assert (row["corrected_p"] < 0.05) == (row["verdict"] != "not shown")
    assert low <= row["interval"][0] < row["mean"] < row["interval"][1] <= high
    assert set(row["standard_errors"]) == {"seeds", "documents"}
    assert row["mean"] == pytest.approx(sum(row["differences"].values()) / 3)
    assert f"| {row['mean']:+.3f} |".replace("-", "−") in line
    assert f"| {row['verdict']} | " in line
    assert line.count(row["agreement"]) == (row["agreement"] != "no claim") + (row["paper"] == "no claim")
    said = first_screen(report).split("**made the model better")[0]
    where = ", at masks that it never trains on" if row["arm"] == "big_batch" else ""
    by = f"`{row['arm']}` ({row['mean']:+.3f} nats against `{row['against']}`{where})".replace("-", "−")
    assert (by in said) == (row["verdict"] == "better")
  for arm in found["arms"]:
    mean = arm["measures"]["mask_loss"]["mean"]
    assert f"| `{arm['arm']}` | 3 of 3 | {mean:.3f} ± " in section(report, "All measures")
    assert f"| `{arm['arm']}` | {mean:.3f} ± " in first_screen(report)
  gains = [row for row in found["gains_over_baselines"] if row["against"] == "random"]
  assert len(gains) == 12
  assert all(set(row["standard_errors"]) == {"seeds", "draws", "texts"} for row in gains)
  assert "over random weights on bbc_classes in all 6 arms (by 2" in first_screen(report)
  assert "| without context | 6.730 | 0.000 |" in first_screen(report)
  assert "| no context | – | 6.730 | 0.000 | 4.0 | 6.230 | 507.8 | 6.740 |" in section(report, "All measures")
  assert "| `bert` | 61.0 ± 0.0 | 66.0 ± 0.0 | 53.0 ± 0.0 |" in section(report, "All measures")
  assert "the spread of the loss over seeds differs by a factor of " in section(report, "Statistics, in words")
  assert "`optim.peak_lr` | `0.001`" in report
  assert "2 min 20 s" in report
  assert "evaluated on all 300 examples" in report
  assert "Near duplicates: 37 documents" in report
  assert "the shared parameters are equal, bit for bit" in section(report, "What the arms shared")


def test_more_tokens_than_the_parent_saw_stand_beside_the_verdict(folder: Path) -> None:
  lines = section((folder / "report.md").read_text(), "What each change did").splitlines()
  assert [line for line in lines if "×" in line] == ["- `more_data` saw × 2.00 the tokens that `big_batch` saw."]


def test_a_change_of_rows_is_told_on_rows_of_its_own_too(folder: Path) -> None:
  lines = first_screen((folder / "report.md").read_text()).splitlines()
  (line,) = [line for line in lines if "Rows of its own" in line]
  assert "`full_sentences` and `no_nsp`" in line
  rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
  below = {
    arm: np.mean([float(r["context_free_own_mask_loss"]) - float(r["own_mask_loss"]) for r in rows if r["arm"] == arm])
    for arm in ("full_sentences", "no_nsp")
  }
  assert f" {below['full_sentences']:.3f} and {below['no_nsp']:.3f} nats below" in line
  assert f": {below['no_nsp'] - below['full_sentences']:+.3f} in place of".replace("-", "−") in line


def test_a_change_of_what_is_masked_at_once_is_told_to_have_another_task(folder: Path) -> None:
  lines = first_screen((folder / "report.md").read_text()).splitlines()
  (line,) = [line for line in lines if "Masks of its own" in line]
  assert "`big_batch` has no such masks in training" in line
  report = (folder / "report.md").read_text()
  (row,) = [line for line in section(report, "What each change did").splitlines() if "`big_batch` vs" in line][:1]
  assert row.endswith("| no claim | – |"), "what the paper found was found on tasks"


def test_of_a_change_of_objective_or_memory_the_loss_is_no_finding_of_the_papers(tmp_path: Path) -> None:
  objectives = {
    "dynamic": {"objective.kind": "permutation"},
    "no_nsp": {"objective.kind": "distillation"},  # a student of a teacher predicts masked tokens too
    "full_sentences": {"objective.kind": "masked_tokens"},
    "big_batch": {"data.preceding_tokens": 64},
  }
  report = write_report(write_sweep(tmp_path, directions=(0, 1, 1, 1, 1, 1), assignments=objectives)).read_text()
  rows = [line for line in section(report, "What each change did").splitlines() if line.startswith("| `")]
  claims = {name: next(row for row in rows if row.startswith(f"| `{name}` vs")).split(" | ")[-2] for name in objectives}
  no_claim = {name for name, claim in claims.items() if claim == "no claim"}
  assert no_claim == {"dynamic", "big_batch"}, rows
  assert [line for line in first_screen(report).splitlines() if "Another objective" in line] == [
    "- **Another objective**: `dynamic` and `bert` predict other things in training, and masked tokens are what one of"
    " them trains on. The loss at [MASK] says less of this change than accuracies on tasks do."
  ]
  (line,) = [line for line in first_screen(report).splitlines() if "Without a memory" in line]
  assert "One of `big_batch` and `full_sentences` trains on such rows" in line


def test_results_csv_has_a_row_a_run_in_order_and_no_times(folder: Path) -> None:
  rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
  assert [(row["arm"], row["seed"]) for row in rows] == [(arm, str(seed)) for arm in ARMS for seed in range(3)]
  assert not [column for column in rows[0] if "second" in column or "wait" in column]
  run = json.loads((folder / "runs/no_nsp/seed-1/result.json").read_text())
  row = rows[7]
  assert row["nsp_accuracy"] == ""
  assert row["tokens"] == "2300000"
  assert row["mask_loss"] == f"{run['pretrained']['measures']['mask_loss']:.6f}"
  assert row["wiki_topics.tfidf"] == f"{run['transfer']['wiki_topics']['baselines']['tfidf']:.6f}"
  times = list(csv.DictReader(io.StringIO((folder / "times.csv").read_text())))
  assert len(times) == len(rows)
  assert times[1]["train_seconds"] == "141.000000"


def test_equal_runs_give_equal_bytes_whatever_their_times(tmp_path: Path) -> None:
  one, other = tmp_path / "one", tmp_path / "other"
  for folder in (one, other):
    write_sweep(folder, arms=("a", "b"), seeds=(0, 1))
    write_report(folder)
  first = {name: (one / name).read_bytes() for name in FILES}
  write_report(one)
  assert {name: (one / name).read_bytes() for name in FILES} == first
  write_times(other / "runs/b/seed-1", train_seconds=999.5)
  write_report(other)
  changed = {name for name in FILES if (other / name).read_bytes() != first[name]}
  assert changed == {"times.csv", "report.md", "report.html"}


class Links(HTMLParser):
  """Collects what a page would load, its ids, and tags left open."""

  VOID_TAGS = frozenset(("meta", "link", "img", "br"))

  def __init__(self) -> None:
    super().__init__()
    self.loads: list[str] = []
    self.ids: list[str] = []
    self.open: list[str] = []

  def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
    self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
    self.ids += [value or "" for name, value in attrs if name == "id"]
    if tag not in self.VOID_TAGS:
      self.open.append(tag)

  def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
    self.handle_starttag(tag, attrs)
    self.open.pop()

  def handle_endtag(self, tag: str) -> None:
    assert self.open.pop() == tag


def test_the_page_needs_no_other_file_and_no_network(folder: Path) -> None:
  page = (folder / "report.html").read_text()
  links = Links()
  links.feed(page)
  assert links.open == []
  assert links.loads
  assert all(load.startswith("#") for load in links.loads)
  assert {load[1:] for load in links.loads} <= set(links.ids)
  assert len(set(links.ids)) == len(links.ids)
  assert not re.search(r"https?:|@import|<script|url\((?!#)", page)
  assert page.count("<svg") == 4
  assert 'name="viewport"' in page
  assert "prefers-color-scheme: dark" in page
  assert "**" not in page


def test_text_of_a_plan_is_text_in_the_page_and_in_markdown(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0,), tasks=())
  path = epath.Path(tmp_path) / "sweep.json"
  plan: Any = records.read_json(path, "")
  plan["question"] = "Is a < b & b > c?"
  plan["arms"][1]["change"] = "<script>alert(1)</script> 4 * 8 | 2"
  plan["arms"][1]["assignments"] = {"data.source": "text:a|b*.txt"}
  records.write_json(path, plan)
  write_report(tmp_path)
  page, report = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
  assert "<title>Is a &lt; b &amp; b &gt; c?</title>" in page
  assert "<script" not in page + report
  assert r"text:a\|b*.txt" in report


def test_a_running_sweep_has_a_report_after_each_run(tmp_path: Path) -> None:
  whole = write_sweep(tmp_path / "whole", arms=("a", "b", "c"), seeds=(0, 1), tasks=())
  part = tmp_path / "part"
  part.mkdir()
  shutil.copy(whole / "sweep.json", part)
  write_report(part)
  report = (part / "report.md").read_text()
  assert "0 of 6 runs finished" in report
  assert "Nothing can be compared yet" in report
  assert "no gate has been checked" in report
  assert not list((part / "plots").iterdir())
  for done, (arm, seed) in enumerate([(arm, seed) for arm in "abc" for seed in (0, 1)], start=1):
    shutil.copytree(whole / f"runs/{arm}/seed-{seed}", part / f"runs/{arm}/seed-{seed}")
    write_report(part)
    report = (part / "report.md").read_text()
    assert (f"{done} of 6 runs finished.** Everything" in report) == (done < 6)
    assert ("`b` vs `a` (" in first_screen(report)) == (done in (3, 4, 5, 6))
    assert ("not shown (one seed)" in section(report, "What each change did")) == (done in (3, 5))
  shutil.copy(whole / "gates.json", part)
  write_report(part)
  write_report(whole)
  for name in FILES:
    assert (part / name).read_bytes() == (whole / name).read_bytes()


def test_diverged_missing_void_and_failed_gates_are_said_first(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b", "c", "d"), seeds=(0, 1))
  write_run(tmp_path, "b", 1, 7.0, status="diverged", mlm_loss=None, mask_loss=None)
  for arm in "cd":
    write_run(tmp_path, arm, 1, 6.5, tasks=("wiki_topics",))
  shutil.rmtree(tmp_path / "runs/c/seed-0")
  failed = epath.Path(tmp_path) / "runs/c/seed-0/failed.json"
  results.write(failed, Failed("the disk was full", "this command"))
  gates = Gates((Gate("data order", ("a", "b"), 0, False, "batch 3 differs"),))
  results.write(epath.Path(tmp_path) / "gates.json", gates)
  write_report(tmp_path)
  report = (tmp_path / "report.md").read_text()
  before = first_screen(report)
  assert "6 of 8 runs finished" in before
  assert "Diverged: `b` (seed 1)" in before
  assert "A gate fails: data order (`a` and `b`)" in before
  assert "**Failed: `c`, seed 0: the disk was full.** The same command tries them again." in before
  assert "**Void**, since neither arm has learned from context: `d` vs `c`" in before
  reached = section(report, "All measures")
  assert "| `d` **plateau** | 2 of 2 |" in reached
  assert "never got 0.5 nats below what is reached without context" in reached
  assert "`b`: seed 1 diverged" in reached
  assert "`c`: seed 0 failed" in reached
  # Seed 1 of b and seed 0 of c are gone, so this comparison has no pair at all.
  assert "| `c` vs `b` | – | – | – | – | – | – | 0 | not run" in report
  rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
  assert [(row["status"], row["mask_loss"]) for row in rows if (row["arm"], row["seed"]) == ("b", "1")] == [
    ("diverged", "")
  ]


@pytest.mark.parametrize(("num_arms", "num_seeds", "tasks"), [(1, 1, ()), (1, 3, ("topics",)), (8, 8, ("topics",))])
def test_other_sizes_of_sweep(tmp_path: Path, num_arms: int, num_seeds: int, tasks: tuple[str, ...]) -> None:
  arms = [f"an_arm_with_a_longer_name_{i}" for i in range(num_arms)]
  write_sweep(tmp_path, arms, range(num_seeds), effects=[0.01] * 8, directions=[-1] * 8, tasks=tasks)
  write_report(tmp_path)
  report = (tmp_path / "report.md").read_text()
  assert ("reached a held-out loss of" in report) == (num_arms == 1)
  for heading, there in (
    ("The arms", num_arms > 1),
    ("What each change did", num_arms > 1),
    ("What the arms shared", num_arms > 1),
    ("Few-label accuracy", bool(tasks)),
  ):
    assert (f"## {heading}\n" in report) == there, heading
  assert "![" in first_screen(report)
  assert (tmp_path / "plots/transfer.png").exists() == bool(tasks)
  assert "Next sentence prediction" in report


def test_without_nsp_nothing_is_said_of_it(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1), tasks=())
  for arm in "ab":
    for seed in (0, 1):
      write_run(tmp_path, arm, seed, 5.8)
  write_report(tmp_path)
  report = (tmp_path / "report.md").read_text()
  assert "NSP" not in report
  assert "entence prediction" not in report


def test_neither_jax_nor_matplotlib_is_needed_to_import_the_package() -> None:
  code = "import sys, bert_jax.analysis.report; print(sorted({'jax', 'matplotlib'} & set(sys.modules)))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "[]\n"


def test_a_difference_that_cannot_be_judged_is_said_and_not_drawn(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("mlm", "electra", "fifteen"), seeds=(0, 1), tasks=())
  for arm, loss in (("electra", 5.6), ("fifteen", 5.9)):
    for seed in (0, 1):
      write_run(tmp_path, arm, seed, loss + 0.01 * seed, replaced_loss=0.2)
  report = write_report(tmp_path).read_text()
  assert "one arm's loss at [MASK] is a small generator's: `electra` vs `mlm`." in report
  assert "an arm never sees [MASK]" not in report
  drawing = (tmp_path / "plots/differences.svg").read_text()
  assert "fifteen vs electra" in drawing
  assert "electra vs mlm" not in drawing
