"""A workdir has no dead ends: what was done stands, a mistake leaves nothing, what is damaged is never used."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from etils import epath

import bert_jax
from bert_jax import records, results, settings, sweep
from bert_jax.objectives import objective_of
from bert_jax.results import RunResult
from bert_jax.training import step
from bert_jax.training.checkpoints import CheckpointError, Checkpoints
from tests import tiny

TASK = {
  "transfer.tasks": "parity",
  "transfer.draws": 3,
  "transfer.finetuned_draws": 1,
  "transfer.epochs": 1,
  "transfer.labels_per_class": 3,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> None:
  pytest.importorskip("sklearn", reason="needs the extra demo")
  tiny.label_texts(monkeypatch.setattr)


@pytest.fixture(scope="module")
def finished(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
  """The workdir of a finished sweep of one arm, with a transfer task."""
  pytest.importorskip("sklearn", reason="needs the extra demo")
  workdir = tmp_path_factory.mktemp("finished")
  with pytest.MonkeyPatch.context() as patch:
    tiny.label_texts(patch.setattr)
    assert sweep.run(tiny.plan(source, workdir, arms=["bert"], assignments=TASK)) == 0
  return workdir


@pytest.fixture
def copy(finished: Path, labels: None, tmp_path: Path) -> Path:
  return Path(shutil.copytree(finished, tmp_path / "W"))


def run_of(workdir: Path, arm: str = "bert") -> Path:
  return workdir / "runs" / arm / "seed-0"


def result_of(workdir: Path, arm: str = "bert") -> RunResult:
  result = results.read(epath.Path(run_of(workdir, arm)) / "result.json", RunResult)
  assert result is not None
  return result


def again(source: str, workdir: Path, **options: Any) -> int:
  return sweep.run(tiny.plan(source, workdir, **{"arms": ["bert"], "assignments": TASK} | options))


# ---- stopped between pretraining and its end -------------------------------------------------------------------------


def test_a_model_that_was_opened_can_be_made_afresh(finished: Path, source: str) -> None:
  """The program that makes initial weights was kept with arrays of the trace that it was first called in."""
  # A network that no other test makes, so that its program is first called while the checkpoint's shapes are traced.
  config = settings.assign(tiny.config(source), {"model.vocab_size": 31, "model.hidden_size": 21})
  objective = objective_of(config)
  jax.eval_shape(lambda: step.init_params(objective, 0))
  assert step.init_params(objective, 0)["encoder"]


@pytest.mark.parametrize("lost", [("result.json",), ("result.json", "fewlabels.json"), ("result.json", "config.json")])
def test_stopped_before_its_baselines_it_goes_on(lost: tuple[str, ...], copy: Path, source: str) -> None:
  wanted, draws = result_of(copy), (run_of(copy) / "fewlabels.json").read_bytes()
  for name in lost:
    (run_of(copy) / name).unlink()
  shutil.rmtree(copy / "baselines")
  for cached in (step._init, step.state_shapes):  # as in a process of its own
    cached.cache_clear()
  assert again(source, copy) == 0
  assert result_of(copy) == wanted
  assert (run_of(copy) / "fewlabels.json").read_bytes() == draws


def test_with_its_last_checkpoint_damaged_it_is_trained_again_from_the_one_before(copy: Path, source: str) -> None:
  wanted = result_of(copy)
  (run_of(copy) / "result.json").unlink()
  for path in (run_of(copy) / "checkpoints" / "20" / "state").rglob("d/*"):
    path.write_bytes(path.read_bytes()[:7])
  assert again(source, copy) == 0
  assert result_of(copy) == wanted
  assert (run_of(copy) / "checkpoints" / "20.damaged").is_dir()


def test_with_its_checkpoints_removed_it_is_trained_again(copy: Path, source: str) -> None:
  wanted = result_of(copy)
  (run_of(copy) / "result.json").unlink()
  shutil.rmtree(run_of(copy) / "checkpoints")
  assert again(source, copy) == 0
  assert result_of(copy) == wanted


# ---- mistakes leave nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("wrong", "message"),
  [
    ({"data.source": "/nowhere/*.txt"}, "must be demo, text:GLOB"),
    ({"data.source": "text:/nowhere/*.txt"}, "matches no file"),
    ({"data.tokenizer.path": "/nowhere/vocab.txt"}, "nowhere"),
    ({"transfer.tasks": "parety"}, "transfer.tasks=parety: .* has the tasks parity"),
    ({"transfer.tasks": "parity", "transfer.labels_per_class": 99}, "transfer.labels_per_class=99 is more than"),
    ({"transfer.tasks": "parity", "transfer.batch_size": 3}, "transfer.batch_size=3 must be divisible"),
    ({"train.batch_size": 6}, "must be divisible by the 4 devices"),
  ],
  ids=str,
)
def test_a_mistake_leaves_nothing(wrong: dict[str, Any], message: str, labels: None, source: str, tmp_path: Path):
  with pytest.raises(ValueError, match=message):
    sweep.run(tiny.plan(source, tmp_path / "W", assignments=wrong))
  assert not (tmp_path / "W").exists()


def test_what_was_not_used_yet_may_change(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  """Stopped while it was compiling, a run has a folder and a config, and nothing that was made with it."""
  stop: Callable[..., Any] = lambda *_: (_ for _ in ()).throw(ValueError("stopped"))
  with monkeypatch.context() as patch:
    patch.setattr("bert_jax.training.loop.train_step_of", stop)
    with pytest.raises(ValueError, match="stopped"):
      sweep.run(tiny.plan(source, tmp_path / "W"))
  assert (run_of(tmp_path / "W") / "config.json").exists()
  other = {"optim.peak_lr": 1e-3, "data.eval_fraction": 0.25, "train.steps": 6}
  assert again(source, tmp_path / "W", assignments=other) == 0
  assert result_of(tmp_path / "W").pretrained.steps == 6
  own = "here the command line set `optim.peak_lr=0.001`, `data.eval_fraction=0.25`, `train.steps=6`."
  assert own in (tmp_path / "W" / "report.md").read_text(), "what the scale's note says may hold no longer"


def test_a_run_with_a_checkpoint_binds(copy: Path, source: str) -> None:
  (run_of(copy) / "result.json").unlink()
  (run_of(copy) / "pretrained.json").unlink()
  for name in ("config.json", "no.json"):  # the checkpoint knows it too
    (run_of(copy) / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"optim.weight_decay is 0.01 there and 0.3 here"):
      again(source, copy, assignments={**TASK, "optim.weight_decay": 0.3})
    (copy / "sweep.json").unlink(missing_ok=True)


# ---- what only adds work at the end ----------------------------------------------------------------------------------


def test_text_without_labels_has_no_transfer(source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
  caplog.set_level("INFO", logger="absl")
  assert again(source, tmp_path / "W", assignments={**TASK, "train.steps": 6}) == 0
  assert f"data.source={source} has no labels, so few-label accuracy is not measured" in caplog.text
  assert result_of(tmp_path / "W").transfer == {}


def test_a_task_may_be_added_and_settings_of_transfer_may_change(copy: Path, source: str) -> None:
  before, trained = result_of(copy), (run_of(copy) / "pretrained.json").read_bytes()
  assert again(source, copy, assignments={**TASK, "transfer.tasks": ""}) == 0
  assert result_of(copy) == before, "no task, no work"
  assert again(source, copy, assignments={**TASK, "transfer.epochs": 2}) == 0
  after = result_of(copy)
  assert after.transfer_settings["epochs"] == 2
  assert after.pretrained == before.pretrained
  assert (run_of(copy) / "pretrained.json").read_bytes() == trained
  kept = [path.name.split("-")[0] for path in (copy / "baselines").iterdir()]
  assert sorted(kept) == ["majority", "random", "scratch", "scratch", "tfidf", "tfidf_cut"], "two ways of fine-tuning"


def test_no_report_mixes_settings_of_transfer(copy: Path, source: str) -> None:
  changed = {**TASK, "transfer.epochs": 2}
  with pytest.raises(ValueError, match=r"transfer.epochs is 1 there and 2 here \(of bert, seed 0\). Give --arms"):
    again(source, copy, arms=["faster"], assignments=changed)
  assert again(source, copy, arms=["bert", "faster"], assignments=changed) == 0
  assert {result_of(copy, arm).transfer_settings["epochs"] for arm in ("bert", "faster")} == {2}


# ---- folders as people have them -------------------------------------------------------------------------------------


def test_brackets_in_its_path(source: str, tmp_path: Path) -> None:
  workdir = tmp_path / "run [v1] *"
  assert again(source, workdir, assignments={"train.steps": 6}) == 0
  assert bert_jax.load(workdir).config.vocab_size
  (metadata,) = (workdir / "data").rglob("metadata.json")
  assert len(json.loads(metadata.read_text())["sha256"]) > 5
  for name in ("result.json", "pretrained.json"):
    (run_of(workdir) / name).unlink()
  left_over = run_of(workdir) / "checkpoints" / "6.orbax-checkpoint-tmp-1"
  left_over.mkdir()
  assert again(source, workdir, assignments={"train.steps": 6}) == 0
  assert not left_over.exists()


def test_only_a_users_own_pattern_is_a_glob() -> None:
  """The method takes brackets in a folder's own path for a pattern, finds nothing, and says nothing."""
  package = Path(bert_jax.__file__).parent
  globs = {
    str(file.relative_to(package)) for file in package.rglob("*.py") if re.search(r"\.r?glob\(", file.read_text())
  }
  assert globs == {"data/files.py"}


def test_copies_and_other_folders_among_the_runs(copy: Path, source: str) -> None:
  shutil.copytree(run_of(copy), copy / "runs" / "bert" / "seed-0.bak")
  (copy / "runs" / "bert" / "seed-one").mkdir()
  (copy / "runs" / "notes.txt").write_text("mine")
  (run_of(copy) / "result.json").unlink()
  assert again(source, copy) == 0
  assert (records.read_json(epath.Path(copy) / "sweep.json", "") or {})["seeds"] == [0]
  assert bert_jax.load(copy).config.vocab_size


def test_a_sweep_json_that_is_gone_is_written_anew(copy: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
  before = (copy / "results.csv").read_bytes()
  (copy / "sweep.json").unlink()
  assert again(source, copy) == 0
  assert "Nothing to do" in capsys.readouterr().out
  assert (copy / "results.csv").read_bytes() == before


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  "name", ["result.json", "pretrained.json", "fewlabels.json", "config.json", "times.json", "sweep.json"]
)
def test_an_edited_file_is_refused_and_removed_it_comes_back(name: str, copy: Path, source: str) -> None:
  wanted = (copy / "results.csv").read_bytes()
  path = copy / name if name == "sweep.json" else run_of(copy) / name
  (run_of(copy) / "result.json").unlink() if name in ("pretrained.json", "fewlabels.json") else None
  text = path.read_text()
  at = text.index(":", text.index("e")) + 2  # where some value begins
  path.write_text(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])
  with pytest.raises(ValueError, match=f"{name} is not as it was written .*; remove it"):
    again(source, copy)
  path.unlink()
  assert again(source, copy) == 0
  assert (copy / "results.csv").read_bytes() == wanted


def test_a_damaged_cache_of_baselines_is_made_again(copy: Path, source: str) -> None:
  wanted = result_of(copy)
  (run_of(copy) / "result.json").unlink()
  for path in (copy / "baselines").iterdir():
    path.write_text(path.read_text().replace("0.", "1."))
  assert again(source, copy) == 0
  assert result_of(copy) == wanted


def test_every_checkpoint_damaged_says_what_to_remove(copy: Path, source: str) -> None:
  (run_of(copy) / "result.json").unlink()
  for path in (run_of(copy) / "checkpoints").rglob("d/*"):
    path.write_bytes(path.read_bytes()[:7])
  with pytest.raises(CheckpointError, match="Remove that folder to start again"):
    again(source, copy)
  shutil.rmtree(run_of(copy) / "checkpoints")
  assert again(source, copy) == 0
  with Checkpoints(run_of(copy) / "checkpoints") as opened:
    assert opened.steps()[-1] == 20


def test_files_stay_readable(copy: Path) -> None:
  assert json.loads((run_of(copy) / "result.json").read_text())["pretrained"]["status"] == "finished"
