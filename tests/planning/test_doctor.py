"""What is wrong with a text or with settings is found before a run; each fault by the line that is about it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.data.corpus import Corpus
from bert_jax.planning import doctor
from bert_jax.planning.doctor import Finding
from bert_jax.training.layout import make_layout
from bert_jax.training.pretraining import prepare_corpus, resolve
from tests import tiny

Examine = Callable[..., dict[str, Finding]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  """Of words at random, so that no two documents are alike."""
  folder, draws = tmp_path_factory.mktemp("text"), np.random.default_rng(3)
  words = ["".join(draws.choice(list("abcdefghij"), draws.integers(2, 6))) for _ in range(300)]
  for number in range(150):
    sentences = [" ".join(draws.choice(words, draws.integers(4, 11))) + "." for _ in range(draws.integers(4, 9))]
    (folder / f"{number:03}.txt").write_text(" ".join(sentences))
  return f"text:{folder}"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
  return epath.Path(tmp_path_factory.mktemp("doctor"))


def prepared(source: str, workdir: epath.Path, given: dict[str, Any]) -> tuple[Config, Corpus]:
  config = settings.assign(tiny.config(source), given)
  corpus = prepare_corpus(config, workdir)
  return resolve(config, corpus), corpus


@pytest.fixture
def examine(source: str, workdir: epath.Path) -> Examine:
  """What is found of the tiny text with some settings, by what it is about; `text` gives another folder.

  With `until`, no further than to this: the first steps, which come last, take a program to be compiled.
  """

  def call(
    given: dict[str, Any] | None = None, text: str | None = None, seconds: float = 20, until: str = ""
  ) -> dict[str, Finding]:
    config, corpus = prepared(text or source, workdir, given or {})
    found: dict[str, Finding] = {}
    for finding in doctor.examine(config, corpus, workdir, make_layout("data:1"), seconds):
      found[finding.what] = finding
      if finding.what == until:
        break
    return found

  return call


def test_of_a_good_text_and_good_settings_nothing_is_to_be_looked_at(examine: Examine) -> None:
  found = examine()
  assert {what: finding.advice for what, finding in found.items()} == dict.fromkeys(found, "")
  assert [what for what in found if "heart" in what] == ["8 rows by heart"]
  looked_at = {"documents", "their lengths", "near duplicates", "unknown tokens", "rows", "checkpoints", "batches"}
  assert looked_at <= set(found)


def test_a_rate_of_zero_learns_nothing_and_large_weights_do_not_guess(examine: Examine) -> None:
  found = examine({"optim.peak_lr": 1e-12}, seconds=2)
  assert "not learned at optim.peak_lr" in found["8 rows by heart"].advice
  assert "model.initializer_range" in examine({"model.initializer_range": 3.0}, until="first loss")["first loss"].advice


def test_rows_that_are_mostly_padding(examine: Examine) -> None:
  long = {"data.max_seq_len": 400, "model.max_positions": 400}
  given = {"data.format": "doc_sentences", "objective.sentence": "none", **long}
  assert "data.packing=8, a smaller data.max_seq_len" in examine(given, until="rows")["rows"].advice


def test_a_text_with_copies(examine: Examine, source: str, tmp_path: Path) -> None:
  folder = tmp_path / "text"
  shutil.copytree(source.removeprefix("text:"), folder)
  for file in sorted(folder.glob("*.txt"))[:60]:
    (folder / f"copy-{file.name}").write_text(file.read_text() + " And so on.")
  found = examine(text=f"text:{folder}", until="near duplicates")
  assert "learned several times" in found["near duplicates"].advice


def test_special_tokens_in_the_text(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
  """As tokenizers from elsewhere may find them there; ours take them for the words that they look like."""
  sample = doctor._sample
  monkeypatch.setattr(doctor, "_sample", lambda corpus: np.append(sample(corpus), corpus.tokenizer.mask_id))
  assert "never predicted" in examine(until="special tokens in the text")["special tokens in the text"].advice


def test_a_tokenizer_of_other_text(examine: Examine, source: str, workdir: epath.Path, tmp_path: Path) -> None:
  _, corpus = prepared(source, workdir, {})
  folder = tmp_path / "text"
  shutil.copytree(source.removeprefix("text:"), folder)
  for file in sorted(folder.glob("*.txt"))[::3]:
    file.write_text("Это другой язык. " + file.read_text())
  found = examine({"data.tokenizer.path": str(corpus.folder / "tokenizer")}, f"text:{folder}", until="unknown tokens")
  assert "another data.tokenizer.path" in found["unknown tokens"].advice


def test_a_full_disk_would_stop_the_run(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
  usage = shutil.disk_usage("/")
  monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
  finding = examine(until="checkpoints")["checkpoints"]
  assert finding.stops
  assert "lower runtime.keep_latest" in finding.advice


def test_batches_that_take_longer_than_steps(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
  lay_out = doctor.PhasedBatches.of_step

  def slow(self: Any, step: int) -> Any:
    batches = lay_out(self, step)
    make = batches._prepare
    batches._prepare = lambda *arguments: (time.sleep(0.3), make(*arguments))[1]
    return batches

  monkeypatch.setattr(doctor.PhasedBatches, "of_step", slow)
  assert "wait for data" in examine(seconds=2)["batches"].advice


def test_labels_of_which_one_is_nearly_all(monkeypatch: pytest.MonkeyPatch, examine: Examine) -> None:
  of_topics = ["topics/a"] * 150 + ["topics/b"] * 15 + [None] * 15
  monkeypatch.setattr(Corpus, "document_labels", property(lambda _: of_topics))
  finding = examine({"transfer.tasks": "topics"}, until="labels of topics")["labels of topics"]
  assert finding.said == "2 classes, 15 to 150 texts each; the most frequent has 91%"
  assert "the same answer always has as much" in finding.advice
