"""`bert-jax adapt` as a person has it: a run and text become a model that knows the text better, and a report."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import console, records, settings
from bert_jax.adaptation import adapting, measuring
from bert_jax.cli import main
from bert_jax.config import Config, DataConfig
from bert_jax.data.batches import TrainBatches
from bert_jax.interop.params import fingerprint
from bert_jax.training.evaluation import HeldOut
from bert_jax.training.layout import make_layout
from bert_jax.training.pretraining import prepare_corpus, pretrain, resolve
from tests import tiny
from tests.interop import small

ROWS = (
  "loss at [MASK], the domain (nats)",
  "loss at [MASK], general text (nats)",
  "parity, right with few labels (%)",
)
TRAINING = ("--steps=40", "--batch-size=8", "--max-tokens=20", "--peak-lr=5e-3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """W, a run of a few steps whose vocabulary cuts words into pieces; text and other text, whose files have labels."""
  pytest.importorskip("sklearn", reason="needs the extra demo")
  folder = tmp_path_factory.mktemp("adapt")
  source = tiny.write_text(folder / "text")
  tiny.write_text(folder / "other", 90)
  config = tiny.config(
    source,
    train={"steps": 4},
    data={"tokenizer.vocab_size": 70, "format": "full_sentences"},
    evaluation={"every_steps": 4, "batch_size": 8},
    # As the command has them, so that both run the same compiled programs.
    objective={"sentence": "none"},
    optim={"name": "adamw", "schedule": "linear"},
    runtime={"scan_layers": False},
  )
  corpus = prepare_corpus(config, folder / "work")
  pretrain(resolve(config, corpus), corpus, folder / "W", make_layout())
  return folder


@pytest.fixture(autouse=True)
def _as_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  """Loggers stay, text is cut in this process, and the labelled texts are those of `folder`."""
  monkeypatch.setattr(console, "log_own_lines_only", lambda: None)
  monkeypatch.setattr(os, "cpu_count", lambda: 1)
  tiny.label_texts(monkeypatch.setattr)
  monkeypatch.setattr(measuring, "LABELLED", DataConfig(source=f"text:{folder / 'other'}", eval_fraction=0.2))
  monkeypatch.setattr(measuring, "TASKS", ("parity",))


def call(*arguments: object) -> int:
  return main.main([str(argument) for argument in arguments])


def adapt(folder: Path, output: str, *more: object, model: str = "W", training: tuple[str, ...] = TRAINING) -> int:
  files = [f"--data.source=text:{folder / 'text'}", f"--output={folder / output}"]
  return call("adapt", folder / model, *files, "--draws=2", *training, *more)


def figures_of(folder: Path) -> dict[str, Any]:
  return records.require_json(epath.Path(folder / "adapted.json"), "")


def nats(measured: dict[str, Any], name: str) -> float:
  loss = measured["losses"][name]["by_document"]
  return sum(loss["nats"]) / sum(loss["count"])


@pytest.fixture(scope="module")
def adapted(folder: Path) -> Path:
  """A: W, adapted to the text with the settings of `TRAINING`."""
  with pytest.MonkeyPatch.context() as patch:
    _as_installed.__wrapped__(folder, patch)  # type: ignore[attr-defined]
    assert adapt(folder, "A") == 0
  return folder / "A"


def test_the_domain_is_known_better_and_all_of_it_is_reported(adapted: Path) -> None:
  found = figures_of(adapted)
  before, after = (nats(found[when], "domain") for when in ("before", "after"))
  assert after < before - 0.1
  report = (adapted / "report.md").read_text()
  rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in report.splitlines() if "|" in line}
  assert set(ROWS) <= set(rows)
  assert rows[ROWS[0]][1:3] == [f"{before:.3f}", f"{after:.3f}"]
  assert rows[ROWS[0]][4] == "better"
  for row in ROWS:
    assert all(any(character.isdigit() for character in cell) for cell in (*rows[row][1:4], rows[row][5])), row
  assert "40 steps, " in report
  assert "seed 0, the only one" in report
  assert not (adapted.parent / "A.run").exists()


def test_the_folder_is_a_model_that_goes_on_elsewhere(adapted: Path, folder: Path, tmp_path: Path) -> None:
  model, start = bert_jax.load(adapted), bert_jax.load(folder / "W")
  assert model.network == "masked_lm"
  assert model.require_tokenizer().hash == start.require_tokenizer().hash
  text = (folder / "text" / "000.txt").read_text()[:30]
  assert model.fill_masks(f"{text} [MASK]")[0][0].probability > 0
  assert call("export", adapted, tmp_path / "HF") == 0
  back = bert_jax.load(tmp_path / "HF")
  assert fingerprint(back.params) == fingerprint(model.params)
  assert back.encode(text).tokens == model.encode(text).tokens


def test_the_figures_are_those_of_the_models(adapted: Path, folder: Path, tmp_path: Path) -> None:
  found = figures_of(adapted)
  config = settings.from_dict(found["config"], Config)
  config = settings.assign(config, {"data.tokenizer.path": str(adapted / "source")})
  corpus = prepare_corpus(config, tmp_path)
  measure = HeldOut(config, corpus, make_layout()).by_document
  for model, when in ((folder / "W", "before"), (adapted, "after")):
    params = bert_jax.load(model).params
    again = measure({name: params[name] for name in ("encoder", "mlm_head")})
    loss = found[when]["losses"]["domain"]["by_document"]
    assert loss["count"] == list(again.count)
    np.testing.assert_allclose(loss["nats"], again.nats, rtol=1e-5)  # float32, over one batch or another
    np.testing.assert_allclose(loss["trivial_nats"], again.trivial_nats, rtol=1e-12)


def test_a_killed_command_goes_on_to_the_same_end(
  adapted: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
  batches = TrainBatches.__call__

  def stopping(self: Any, step: int, *rest: int) -> Any:
    if step == 35:  # the first 32 are made before training too, for the fingerprint of the order
      signal.raise_signal(signal.SIGTERM)
    return batches(self, step, *rest)

  with monkeypatch.context() as patch:
    patch.setattr(TrainBatches, "__call__", stopping)
    assert adapt(folder, "again") == 75
  assert "saved at step" in capsys.readouterr().err
  assert not (folder / "again").exists()
  assert adapt(folder, "again", training=(*TRAINING[:3], "--peak-lr=1e-3")) == 1
  assert "that was stopped: peak_lr was 0.005 and is 0.001; remove" in capsys.readouterr().err
  monkeypatch.setattr(adapting._Run, "_first_params", lambda *_: pytest.fail("it is measured again"))
  assert adapt(folder, "again") == 0
  for name in ("params.safetensors", "model.json"):
    assert (folder / "again" / name).read_bytes() == (adapted / name).read_bytes(), name
  one, other = figures_of(adapted), figures_of(folder / "again")
  for name in ("before", "after", "steps", "tokens", "facts"):
    assert one[name] == other[name], name


def test_new_words_get_tokens_and_are_trained(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  few = ("--steps=15", *TRAINING[1:])
  assert adapt(folder, "B", "--add-tokens=7", "--tasks=none", "--general=none", training=few) == 0
  shown = capsys.readouterr().out
  assert "nor can they a word" in shown
  found, opened = figures_of(folder / "B"), bert_jax.load(folder / "B")
  old, new = bert_jax.load(folder / "W").require_tokenizer(), opened.require_tokenizer()
  words = found["new_words"]
  assert len(words) == 7
  assert new.tokens(range(old.vocab_size)) == old.tokens(range(old.vocab_size))
  assert new.tokens(range(old.vocab_size, new.vocab_size)) == words
  before, after = found["before"]["losses"], found["after"]["losses"]
  assert set(before) == {"domain", "domain, old vocabulary"}
  assert set(after) == {"domain"}
  assert after["domain"]["tokens_per_word"] < before["domain, old vocabulary"]["tokens_per_word"]
  assert nats(found["after"], "domain") < nats(found["before"], "domain")
  assert f"{ROWS[0]}, its old tokens" in shown
  assert f"{ROWS[0]}, its new tokens" in shown
  assert call("export", folder / "B", tmp_path / "HF") == 0
  assert bert_jax.load(tmp_path / "HF").require_tokenizer().hash == new.hash


def test_a_head_that_starts_at_random_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
  start = bert_jax.load(folder / "W")
  params = {"encoder": start.params["encoder"]}
  dataclasses.replace(start, network="encoder", params=params, run=None, step=None).save(folder / "headless")
  one_pass = ("--batch-size=8", "--max-tokens=20")
  assert adapt(folder, "C", "--tasks=none", "--general=none", model="headless", training=one_pass) == 0
  shown = capsys.readouterr().out
  assert "(new head)" in shown
  assert "no fair before" in shown
  assert "started at random, for the model came without one" in shown
  found = figures_of(folder / "C")
  assert found["config"]["optim"]["peak_lr"] == 1e-4
  assert 1 <= found["facts"]["epochs"] < 1.05
  assert ROWS[1] not in shown, "it is left out"


def test_what_is_not_installed_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(measuring, "LABELLED", DataConfig(source="text:nowhere"))
  domain = DataConfig(source="text:here")
  found = measuring.Measuring.of(domain, None, None)
  assert (found.general, found.tasks) == (None, ())
  assert [note.split(" are ")[0].split(" is ")[0] for note in found.notes] == ["general text", "tasks"]
  assert measuring.Measuring.of(domain, "none", "none").notes == ()
  same = measuring.Measuring.of(DataConfig(source="text:nowhere"), None, "none")
  assert "is the domain itself" in same.notes[0]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """An imported folder of a small RoBERTa."""
  folder = tmp_path_factory.mktemp("roberta") / "M"
  small.make("roberta", tokenizer=small.tokenizer_of("bpe")).save(folder)
  return folder


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--steps=9", "--epochs=2"], "--steps=9 and --epochs=2 both say how long to train"),
    (["--steps=0"], "--steps=0 must be at least 1"),
    (["--peak-lr=nan"], "--peak-lr=nan must be above 0"),
    (["--warmup-fraction=1"], "--warmup-fraction=1.0 must be"),
    (["--data.source=text:nowhere"], "data.source=text:nowhere matches no file"),
    (["--data.language=klingon"], "data.language=klingon"),
    (["--general=text:nowhere"], "--general=text:nowhere: data.source=text:nowhere matches no file"),
    (["--general=text"], "must be demo, text:GLOB"),
    (["--tasks=nose"], "--tasks=nose: transfer.tasks=nose"),
    (["--max-tokens=41"], "--max-tokens=41 is more than the model's 40 positions; set it to 40 or less"),
    (["--batch-size=7"], "--batch-size=7 must be divisible by the 4 devices"),
    (["--add-tokens=3"], "--add-tokens=3 is for WordPiece, and this model's tokenizer is bpe"),
    (["--output=OLD"], "is there already"),
  ],
)
def test_what_is_wrong_costs_a_second(
  flags: list[str], message: str, folder: Path, roberta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  (tmp_path / "OLD").mkdir()
  (tmp_path / "OLD" / "file").touch()
  given = [f"--data.source=text:{folder / 'text'}", f"--output={tmp_path / 'A'}", *flags]
  given = [flag.replace("=OLD", f"={tmp_path / 'OLD'}") for flag in given]
  assert call("adapt", roberta, *given) == 1
  assert message in capsys.readouterr().err
  assert sorted(path.name for path in tmp_path.iterdir()) == ["OLD"]


def test_the_report_is_of_the_figures(adapted: Path) -> None:
  found = figures_of(adapted)
  tasks = [found[when]["tasks"]["tasks"]["parity"]["pretrained"]["by_draw"] for when in ("before", "after")]
  (row,) = [line for line in (adapted / "report.md").read_text().splitlines() if line.startswith(f"| {ROWS[2]}")]
  means = [100 * np.mean(one) for one in tasks]
  assert [cell.split(" ±")[0] for cell in row.split(" | ")[1:3]] == [f"{mean:.1f}" for mean in means]
  assert json.loads((adapted / "adapted.json").read_text())
