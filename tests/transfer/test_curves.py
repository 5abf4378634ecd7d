"""Accuracy by the number of labels, of a user's own file."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import settings
from bert_jax.analysis import curves as drawn
from bert_jax.config import Config
from bert_jax.training.layout import make_layout
from bert_jax.transfer import curves
from bert_jax.transfer.curves import Point
from tests.interop import small

SETTINGS = {"transfer.epochs": 1, "transfer.max_seq_len": 99, "transfer.pooling": "mean", "runtime.scan_layers": True}


def table(path: Path, number: int) -> Path:
  draw = np.random.default_rng(0)
  with path.open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["text", "label"])
    for row in range(number):
      words = [*draw.choice(["the", "is", "on"], 3), ("snow", "paris")[row % 2], str(row)]
      rows.writerow([" ".join(words), ("cold", "place")[row % 2]])
  return path


@pytest.mark.slow
def test_all_ways_see_the_same_texts_and_nothing_is_measured_twice(
  model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
  caplog.set_level("WARNING", logger="absl")
  file = table(tmp_path / "mine.csv", 40)
  config: Config = settings.assign(Config(), SETTINGS)
  models = {"small": bert_jax.load(model)}
  layout = make_layout("data:1")

  def measured(labels: tuple[int, ...]) -> list[Point]:
    return curves.measure(models, config, [str(file)], labels, 2, layout, tmp_path / "W")

  points = measured((3, 500))
  assert "a class has fewer than 500 labels; that number is left out" in caplog.text
  assert {(p.task, p.labels) for p in points} == {("mine.csv", 3)}
  ways = {p.way for p in points}
  assert ways == {
    "TF-IDF",
    "TF-IDF, what fine-tuning reads",
    "majority",
    *(f"{who}, {how}" for who in ("small", "not pretrained") for how in ("fine-tuned", "frozen", "word vectors")),
  }
  assert len(points) == len(ways) * 2
  of_tfidf = [p.accuracy for p in points if p.way == "TF-IDF"]
  assert min(of_tfidf) > 0.9, "a word says it"
  monkeypatch.setattr(curves, "finetune", lambda *_, **__: pytest.fail("it is known"))
  assert measured((3,)) == points
  text = drawn.write(points, tmp_path, "a note")
  assert (tmp_path / "curves.png").exists()
  with (tmp_path / "curves.csv").open(newline="") as file_of_points:
    assert [float(row["accuracy"]) for row in csv.DictReader(file_of_points)] == [p.accuracy for p in points]
  assert "| TF-IDF |" in text
  assert "(not shown)" in text, "two draws show nothing"


def test_fewer_labels_are_among_more() -> None:
  from bert_jax.data.labelled import Labelled

  train = Labelled("x", tuple(f"text {i}" for i in range(60)), tuple("abc"[i % 3] for i in range(60)))
  few, more, other = (curves._few(train, count, draw) for count, draw in ((2, 0), (5, 0), (5, 1)))
  assert few is not None
  assert more is not None
  assert other is not None
  assert set(few.texts) < set(more.texts) != set(other.texts)
  assert sorted(more.labels) == sorted("aaaaabbbbbccccc")
  assert curves._few(train, 21, 0) is None


def test_a_file_that_is_sorted_by_label_is_tested_on_all_of_them(tmp_path: Path) -> None:
  names = [f"class {number}" for number in range(10)]
  with (tmp_path / "sorted.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("text", "label"), *((f"{name}, {row}", name) for name in names for row in range(50))])
  config = settings.assign(Config(), {"transfer.max_test_texts": 60})
  models = {"small": small.make("bert", tokenizer=small.tokenizer_of())}
  made = curves._tasks_of(str(tmp_path / "sorted.csv"), models, config, 2, 0)
  assert made is not None
  assert np.bincount(made["small"].test.classes).tolist() == pytest.approx([6] * 10, abs=6)
  assert len(set(made["small"].test.classes.tolist())) == 10


def points_of(gain: Any, draws: int) -> list[Point]:
  rows = []
  for draw in range(draws):
    for count in (2, 8):
      base = 0.3 + 0.01 * draw
      rows.append(Point("t", count, draw, "bert, fine-tuned", base + gain(count, draw), 100))
      rows.append(Point("t", count, draw, "not pretrained, fine-tuned", base, 100))
      rows.append(Point("t", count, draw, "majority", 0.5, 100))
  return rows


def test_what_pays_is_judged_draw_by_draw(tmp_path: Path) -> None:
  clear = drawn.write(points_of(lambda count, draw: (0.2 if count == 2 else -0.2) + 0.01 * (draw % 2), 5), tmp_path, "")
  assert "- bert, fine-tuned: +20.4 at 2 (better), -19.6 at 8 (worse)" in clear
  wild = drawn.write(points_of(lambda count, draw: 0.2 + 0.3 * (draw - 1), 3), tmp_path, "")
  assert "+20.0 at 2 (not shown)" in wild
  one = drawn.write(points_of(lambda count, draw: 0.2, 1), tmp_path, "")
  assert "+20.0 at 2 (not shown: one draw)" in one
  assert drawn.learned(epath.Path(tmp_path)) is None
