"""From a file of labelled texts to a folder that predicts: what the two verbs do, and what they leave."""

import csv
import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import records
from bert_jax.cli import main
from bert_jax.data.examples import TaskExamples
from bert_jax.inference.predictions import Prediction
from bert_jax.transfer import baselines, finetuning, grids, making
from tests.interop import small

COLORS, PLACES = ("snow", "cat", "mat"), ("paris", "sea", "france")


pytestmark = pytest.mark.usefixtures("logging_stays")


def write(path: Path, number: int, seed: int, pairs: bool = False) -> Path:
  """Texts whose class is which of two groups of words is in them."""
  draw = np.random.default_rng(seed)
  with path.open("w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["first", "second", "kind"] if pairs else ["first", "kind"])
    for row in range(number):
      words = list(draw.choice(["white", "cold", "the", "is"], draw.integers(1, 9)))
      words.insert(int(draw.integers(0, len(words))), str(draw.choice(PLACES if row % 2 else COLORS)))
      texts = [" ".join(words), *([f"the {seed} {row}"] if pairs else [])]
      rows.writerow([*texts, "place" if row % 2 else 'color, "or so"'])
  return path


def call(*arguments: object) -> int:
  return main.main([str(argument) for argument in arguments])


def finetune(model: Path, folder: Path, output: str, *more: object, pairs: bool = False) -> int:
  """240 texts, in 6 epochs of batches of 12."""
  train, dev = write(folder / "train.csv", 240, 1, pairs), write(folder / "dev.csv", 61, 2, pairs)
  columns = ["--text=first", *(["--pair=second"] if pairs else []), "--label=kind"]
  trained = ["--epochs=6", "--batch-size=12", "--peak-lr=5e-3", "--max-tokens=24"]
  sizes = [*([] if "--way=frozen" in more else trained), "--baselines=trivial"]
  return call(
    "finetune", model, f"--train={train}", f"--dev={dev}", *columns, *sizes, f"--output={folder / output}", *more
  )


def answers(bundle: Path, texts: list[Any]) -> list[Prediction]:
  return bert_jax.load(bundle).predict(texts)


@pytest.mark.slow
@pytest.mark.parametrize("way", [pytest.param("full", marks=pytest.mark.exhaustive), "frozen"])
def test_a_bundle_predicts_and_says_how_well(
  way: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  assert finetune(model, tmp_path, "B", f"--way={way}", f"--baselines={','.join(baselines.QUICK)}") == 0
  shown = capsys.readouterr().out
  assert (
    found := re.search(r"accuracy on 61 held-out examples( \(95 % over other examples: \S+ % to \S+ %\))?:\n", shown)
  )
  for name in ("the majority class", "TF-IDF, whole texts", "random weights, frozen", "the encoder, frozen"):
    assert re.search(rf"  {name} +\d+\.\d %\n", shown), name
  assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "dev.csv", "B"}, "nothing is left beside it"
  written = records.read_json(epath.Path(tmp_path / "B" / "metrics.json"), "")
  assert written is not None
  assert written["scores"]["accuracy"] > 0.7
  if (accuracy := written["scores"]["accuracy"]) == 1:  # of which other examples tell nothing by a bootstrap
    assert (written["interval"], found[1]) == (None, None)
  else:
    assert written["interval"][0] < accuracy <= written["interval"][1]
    assert found[1]
  rows = list(csv.DictReader((tmp_path / "B" / "predictions.csv").open(newline="")))
  right = [row["label"] == row["predicted"] for row in rows]
  assert (len(rows), np.mean(right)) == (61, pytest.approx(written["scores"]["accuracy"]))
  assert f"| this model | {100 * written['scores']['accuracy']:.1f} % |" in (tmp_path / "B" / "README.md").read_text()
  # Moved away from all that it was made of, it says the same.
  moved = Path(shutil.move(tmp_path / "B", tmp_path / "elsewhere"))
  shutil.rmtree(tmp_path / "train.csv", ignore_errors=True)
  found = answers(moved, [row["text"] for row in rows])
  assert [prediction.label for prediction in found] == [row["predicted"] for row in rows]
  np.testing.assert_allclose([p.probability for p in found], [float(row["probability"]) for row in rows], atol=1e-6)
  assert all(prediction.probabilities.sum() == pytest.approx(1) for prediction in found)


@pytest.mark.slow
def test_the_verb_predicts_files_of_all_kinds(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert finetune(model, tmp_path, "B", "--way=frozen") == 0
  assert bert_jax.load(tmp_path / "B").max_tokens == 40, "the model's positions, as nobody said how many"
  texts = ["snow is white", 'paris, the "sea"', "the cat"]
  wanted = [(p.label, p.probability) for p in answers(tmp_path / "B", texts)]
  (tmp_path / "x.txt").write_text("\n".join(texts))
  (tmp_path / "x.jsonl").write_text("".join(json.dumps({"first": text, "n": 1}) + "\n" for text in texts))
  with (tmp_path / "x.csv").open("w", newline="") as file:
    csv.writer(file).writerows([("n", "first"), *((1, text) for text in texts)])
  capsys.readouterr()
  for name in ("x.txt", "x.jsonl", "x.csv"):
    columns = [] if name == "x.txt" else ["--text=first"]
    assert call("predict", tmp_path / "B", tmp_path / name, *columns) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["text"] for line in lines] == texts
    assert [line["label"] for line in lines] == [label for label, _ in wanted]
    np.testing.assert_allclose([line["probability"] for line in lines], [p for _, p in wanted], atol=1e-5)
  assert call("predict", tmp_path / "B", tmp_path / "x.csv", "--text=first", "-o", tmp_path / "y.csv") == 0
  rows = list(csv.DictReader((tmp_path / "y.csv").open(newline="")))
  assert [(row["text"], row["label"]) for row in rows] == list(zip(texts, [label for label, _ in wanted], strict=True))
  flags = ["--text=first", "--probabilities", "-o", tmp_path / "z.csv"]
  assert call("predict", tmp_path / "B", tmp_path / "x.csv", *flags) == 0
  rows = list(csv.DictReader((tmp_path / "z.csv").open(newline="")))
  names = [f"probability of {name}" for name in bert_jax.load(tmp_path / "B").class_names]
  assert all(sum(float(row[name]) for name in names) == pytest.approx(1, abs=1e-5) for row in rows)
  assert all(row[f"probability of {row['label']}"] == row["probability"] for row in rows)
  assert call("predict", tmp_path / "B", tmp_path / "x.csv") == 1
  assert "has no column 'text'; it has 'n', 'first'" in capsys.readouterr().err
  for name, flags, message in (
    ("x.txt", ["--text=first"], "--text=first is not for"),
    ("x.csv", ["--text=first", "--probabilities", "-o", tmp_path / "y.conll"], "has no place for them"),
    ("nowhere.csv", [], "there is no such file"),
  ):
    assert call("predict", tmp_path / "B", tmp_path / name, *flags) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", small.OWN_CONFIGS)
def test_what_hugging_face_has_no_class_for_is_fine_tuned(name: str, tmp_path: Path) -> None:
  small.make(name, tokenizer=small.tokenizer_of()).save(tmp_path / "M")
  assert finetune(tmp_path / "M", tmp_path, "B", "--epochs=1") == 0
  tuned = bert_jax.load(tmp_path / "B")
  assert {answer.label for answer in tuned.predict(["snow is white", "paris"])} <= set(tuned.class_names)
  with pytest.raises(ValueError, match=f"^model={name} cannot be a Hugging Face folder"):
    tuned.export(tmp_path / "hf")


@pytest.mark.slow
def test_pairs_are_read_as_pairs(model: Path, tmp_path: Path) -> None:
  assert finetune(model, tmp_path, "B", "--epochs=1", pairs=True) == 0
  opened = bert_jax.load(tmp_path / "B")
  one = opened.predict(("snow", "the sea"))
  np.testing.assert_allclose(one.probabilities, opened.predict([("snow", "the sea")])[0].probabilities, rtol=1e-5)
  assert not np.allclose(one.probabilities, opened.predict("snow the sea").probabilities, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_killed_and_given_again_it_leaves_the_same_bundle(
  model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  assert finetune(model, tmp_path, "whole") == 0
  batches = finetuning.TaskBatches.__call__
  for moment in (3, 60, 117):

    def stopping(self: Any, step: int, *rest: int, moment: int = moment) -> Any:
      if step == moment:
        signal.raise_signal(signal.SIGTERM)
      return batches(self, step, *rest)

    with monkeypatch.context() as patch:
      patch.setattr(finetuning.TaskBatches, "__call__", stopping)
      assert finetune(model, tmp_path, "again") == 75
    assert "saved at step" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
  assert finetune(model, tmp_path, "again", "--peak-lr=1e-3") == 1
  message = r"again\.run is left of a fine-tuning that was stopped: peak_lr was 0.005 and is 0.001; remove \S+ to start"
  assert re.search(message, capsys.readouterr().err)
  opened = bert_jax.load(model)
  params = opened.params | {"pooler": jax.tree.map(lambda x: -x, opened.params["pooler"])}
  dataclasses.replace(opened, params=params).save(tmp_path / "other")
  assert finetune(tmp_path / "other", tmp_path, "again") == 1
  assert "that was stopped: weights was " in capsys.readouterr().err
  assert finetune(model, tmp_path, "again") == 0
  for name in ("params.safetensors", "predictions.csv", "model.json"):
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_search_that_was_stopped_goes_on_with_what_it_had(tmp_path: Path) -> None:
  stop, trained, found = ["lr0.003-batch32-epochs3-seed1"], [], {1e-3: 0.5, 2e-3: 0.9, 3e-3: 0.1}

  class Runner(making._Runner):
    def _trivial(self) -> float:
      return 0.2

    def _tried(self, run: making.Asked, label: str) -> float:
      folder = self._folder(run)
      trained.append((folder.name, "goes on" if folder.exists() else "new"))
      folder.mkdir(parents=True, exist_ok=True)
      if folder.name in stop:
        stop.remove(folder.name)
        raise KeyboardInterrupt
      return found[run.peak_lr] + 0.01 * run.seed

  def search() -> tuple[list[grids.Tried], making.Asked]:
    runner: Any = Runner(None, None, epath.Path(tmp_path))  # pyright: ignore
    return runner.search(making.Asked(), grids.Grid(tuple(found), (32,), (3,)), (0, 1, 2))

  with pytest.raises(KeyboardInterrupt):
    search()
  trained.clear()
  tried, best = search()
  assert trained == [("lr0.003-batch32-epochs3-seed1", "goes on"), ("lr0.003-batch32-epochs3-seed2", "new")]
  assert (len(tried), best.peak_lr, best.seed) == (9, 2e-3, 2)
  assert {path.name for path in tmp_path.iterdir()} == {"tried.json", "lr0.002-batch32-epochs3-seed2"}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--label=class"], "has no column 'class'; it has 'first', 'kind'"),
    (["--max-tokens=4000"], "--max-tokens=4000 is more than the model's 40 positions; set it to 40"),
    (["--epochs=0"], "--epochs=0 must be at least 1"),
    (["--peak-lr=nan"], "--peak-lr=nan must be above 0"),
  ],
)
def test_what_is_wrong_costs_a_second(
  flags: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  assert finetune(model, tmp_path, "B", *flags) == 1
  assert message in capsys.readouterr().err
  assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "dev.csv"}


def test_a_handful_of_texts_is_enough_to_fit_a_layer(model: Path, tmp_path: Path) -> None:
  (tmp_path / "x.csv").write_text("text,label\nsnow,a\nparis,b\nthe cat,c\nsea,b\n")
  files = [f"--train={tmp_path / 'x.csv'}", f"--dev={tmp_path / 'x.csv'}", f"--output={tmp_path / 'B'}"]
  assert call("finetune", model, *files, "--way=frozen", "--max-tokens=24") == 0
  assert [found.label for found in answers(tmp_path / "B", ["snow", "paris", "the cat", "sea"])] == ["a", "b", "c", "b"]


def test_only_a_head_predicts(model: Path) -> None:
  with pytest.raises(ValueError, match=r"the model has the head pretraining, which predicts nothing; fine-tune it"):
    bert_jax.load(model).predict(["snow"])


# ---- batches of texts of about one length ----


def texts_of(number: int, longest: int, left: bool = False) -> TaskExamples:
  draw = np.random.default_rng(0)
  lengths = draw.integers(3, longest + 1, number)
  mask = np.arange(longest) < lengths[:, None]
  mask = mask[:, ::-1].copy() if left else mask
  ids = np.where(mask, np.arange(1, number + 1)[:, None], 0).astype(np.int32)
  return TaskExamples(ids, ids * 0, mask, {"labels": np.arange(number, dtype=np.int32)})


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(("number", "batch_size", "epochs"), [(150, 4, 3), (37, 8, 2), (5, 4, 1)])
def test_sorted_by_length_every_text_still_comes_once_an_epoch(
  number: int, batch_size: int, epochs: int, left: bool
) -> None:
  texts, steps = texts_of(number, 60, left), -(-number * epochs // batch_size)
  batches = finetuning.TaskBatches(texts, batch_size, 0, steps)
  seen = np.concatenate([batches(step)["labels"] for step in range(steps)])
  counts = np.bincount(seen, minlength=number)
  assert counts.sum() == steps * batch_size
  assert set(counts.tolist()) <= {epochs, epochs + 1}
  computed = 0
  for step in range(steps):
    batch = batches(step)
    computed += batch["token_ids"].size
    assert (batch["token_ids"].max(axis=1) == batch["labels"] + 1).all(), "a text is whole"
    np.testing.assert_array_equal(
      batch["attention_mask"].sum(axis=1), texts.attention_mask[batch["labels"]].sum(axis=1)
    )
    halves = [batches(step, part, 2) for part in range(2)]
    for name, array in batch.items():
      np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), array)
  if number == 150:
    real = sum(int(texts.attention_mask[label].sum()) for label in seen)
    assert computed < 1.35 * real, "unsorted, it would be 1.9"


def test_the_same_figures_whatever_the_order_of_the_tests() -> None:
  texts = texts_of(37, 60)
  for by_length in (False, True):
    found = finetuning.batches_to_test(texts, 8, 0, by_length=by_length)
    weights = np.concatenate([batch["label_weights"] for batch in found])
    labels = np.concatenate([batch["labels"] for batch in found])
    assert sorted(labels[weights > 0]) == list(range(37))
