"""One run, from a config to a folder."""

from pathlib import Path
from typing import Any

import pytest
from etils import epath

from bert_jax import results, settings
from bert_jax.config import Config
from bert_jax.data.corpus import Corpus
from bert_jax.results import Pretrained, Times
from bert_jax.training.layout import make_layout
from bert_jax.training.pretraining import corpus_folder, pretrain, read_config, resolve
from tests import tiny


@pytest.fixture(scope="module")
def config(source: str, corpus: Corpus) -> Config:
  return resolve(tiny.config(source, train={"steps": 10}), corpus)


@pytest.fixture(scope="module")
def run(config: Config, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pretrained, Path]:
  folder = tmp_path_factory.mktemp("run")
  return pretrain(config, corpus, folder, make_layout("data:1")), folder


def test_the_folder_holds_everything(run: tuple[Pretrained, Path], config: Config) -> None:
  result, folder = run
  assert result.status == "finished"
  assert results.read(epath.Path(folder) / "pretrained.json", Pretrained) == result
  assert read_config(epath.Path(folder)) == config
  times = results.read(epath.Path(folder) / "times.json", Times)
  assert times is not None
  assert all(value is not None for name, value in vars(times).items() if name != "transfer_seconds")
  assert "second" not in (folder / "pretrained.json").read_text(), "times stand in a file of their own"


def test_a_finished_run_does_nothing(run: tuple[Pretrained, Path], config: Config, corpus: Corpus) -> None:
  result, folder = run
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
  other = settings.assign(config, {"runtime.log_every_steps": 2, "runtime.prefetch_batches": 1})
  assert pretrain(other, corpus, folder, make_layout("data:1")) == result
  assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_a_finished_run_of_other_settings_is_refused(
  run: tuple[Pretrained, Path], config: Config, corpus: Corpus
) -> None:
  other = settings.assign(config, {"evaluation.every_steps": 3})
  with pytest.raises(ValueError, match=r"evaluation.every_steps is 5 there and 3 here. Give the same settings"):
    pretrain(other, corpus, run[1], make_layout("data:1"))
  assert read_config(epath.Path(run[1])) == config


FINGERPRINTS = ("initialization", "data_order", "evaluation")


@pytest.mark.parametrize(
  ("assignments", "changed"),
  [
    ({}, set()),
    ({"optim.peak_lr": 0.1, "data.masking.policy": "dynamic", "data.masking.rate": 0.3}, set()),
    ({"train.batch_size": 12, "evaluation.batch_size": 48}, set()),
    ({"train.seed": 1}, {"initialization", "data_order"}),
    ({"data.format": "full_sentences", "objective.sentence": "none"}, {"data_order"}),
    ({"data.train_fraction": 0.5}, {"data_order"}),
    ({"model.hidden_dropout": 0.2}, set()),
    ({"model.hidden_size": 36}, {"initialization"}),
    ({"evaluation.max_examples": 50}, {"evaluation"}),
  ],
  ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # a set has no order
)
def test_fingerprints_tell_what_runs_share(
  assignments: dict[str, Any],
  changed: set[str],
  run: tuple[Pretrained, Path],
  config: Config,
  corpus: Corpus,
) -> None:
  from bert_jax.data.batches import PhasedBatches
  from bert_jax.training.evaluation import HeldOut
  from bert_jax.training.pretraining import fingerprints

  other = settings.assign(config, assignments)
  batches = PhasedBatches(corpus, other)
  found = vars(fingerprints(other, batches, HeldOut(other, corpus, make_layout("data:1")))).copy()
  wanted = vars(run[0].fingerprints)
  parts = found["initialization"], wanted["initialization"]
  assert {"encoder", "mlm_head"} <= set(parts[0]) <= set(parts[1]), "without NSP, its head is not there"
  found["initialization"], wanted = {part: parts[1][part] for part in parts[0]}, wanted | {"initialization": parts[0]}
  assert {name for name in FINGERPRINTS if found[name] != wanted[name]} == changed


def test_a_rate_that_is_far_too_high_is_diverged(config: Config, corpus: Corpus, tmp_path: Path) -> None:
  wild = settings.assign(
    config, {"optim.peak_lr": 1e38, "optim.clip_norm": 0.0, "train.max_nonfinite_steps": 3, "optim.warmup_steps": 1}
  )
  result = pretrain(wild, corpus, tmp_path, make_layout("data:1"))
  assert result.status == "diverged"
  assert result.steps <= 10
  assert result.measures == {}
  assert result.reason
  assert "optim.peak_lr=1e+38" in result.reason
  assert pretrain(wild, corpus, tmp_path, make_layout("data:1")) == result
  again = pretrain(wild, corpus, tmp_path / "again", make_layout("data:1"))
  assert again == result


def test_another_vocabulary_size_is_refused(config: Config, corpus: Corpus) -> None:
  size = corpus.tokenizer.vocab_size
  with pytest.raises(ValueError, match=f"model.vocab_size=99, but the tokenizer of .* has {size} tokens; leave"):
    resolve(settings.assign(config, {"model.vocab_size": 99}), corpus)


def test_a_corpus_has_a_folder_for_each_text_and_tokenizer(config: Config, tmp_path: Path) -> None:
  same = {"train.seed": 1, "data.max_seq_len": 16, "data.train_fraction": 0.5}
  folder = corpus_folder(config, tmp_path)
  assert corpus_folder(settings.assign(config, same), tmp_path) == folder
  # No tokenizer is trained on what is held out.
  for other in (
    {"data.eval_fraction": 0.1},
    {"data.source": "text:elsewhere"},
    {"data.tokenizer.kind": "bpe"},
    {"data.tokenizer.vocab_size": 9},
  ):
    assert corpus_folder(settings.assign(config, other), tmp_path) != folder
  given = settings.assign(config, {"data.store": str(tmp_path / "mine")})
  assert corpus_folder(given, "elsewhere") == epath.Path(tmp_path / "mine")


def test_a_corpus_in_a_bucket_is_refused_with_the_way_out(config: Config, tmp_path: Path) -> None:
  with pytest.raises(ValueError, match=r"cannot lie in gs://bucket/run; add --data\.store=FOLDER"):
    corpus_folder(config, "gs://bucket/run")
  local = settings.assign(config, {"data.store": str(tmp_path)})
  assert corpus_folder(local, "gs://bucket/run") == epath.Path(tmp_path)
