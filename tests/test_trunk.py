"""Every architecture through the one trunk: pretrained, stopped, gone on, started from, exported, opened elsewhere."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import recipes, scales, settings
from bert_jax.config import Config
from bert_jax.data.batches import TrainBatches
from bert_jax.data.corpus import Corpus
from bert_jax.interop import start
from bert_jax.objectives import objective_of
from bert_jax.preemption import Preempted
from bert_jax.results import Pretrained
from bert_jax.training.layout import make_layout
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.pretraining import prepare_corpus, pretrain, resolve
from bert_jax.training.step import init_state, train_step_of
from tests import tiny

# A recipe of each architecture, and the class that transformers opens its export with; None where it has none.
RECIPES: dict[str, str | None] = {
  "bert_base": "BertForPreTraining",
  "roberta_base": "RobertaForMaskedLM",
  "spanbert_base": "BertForMaskedLM",
  "distilbert_base": "DistilBertForMaskedLM",
  "albert_base": "AlbertForPreTraining",
  "electra_small": "ElectraForPreTraining",
  "xlnet_base": "XLNetLMHeadModel",
  "deberta_base": "DebertaModel",  # transformers has not their decoder
  "deberta_v2_xlarge": "DebertaV2Model",
  "deberta_v3_small": "DebertaV2Model",
  "modernbert_base": "ModernBertForMaskedLM",
  "crammed_bert": None,
  "mosaic_bert_base": None,
}
STEPS = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
  return tiny.write_text(tmp_path_factory.mktemp("text"))


def config_of(recipe: str, source: str, **assignments: Any) -> Config:
  config = settings.assign_shared(recipes.recipe(recipe), scales.SMOKE)
  given = {
    "data.source": source,
    "data.tokenizer.vocab_size": 320,
    "train.steps": STEPS,
    "evaluation.every_steps": 4,
    "evaluation.max_examples": 40,
    "runtime.scan_layers": True,  # quicker to compile
    "runtime.num_workers": 1,
    "runtime.save_every_steps": 2,
    "runtime.log_every_steps": 1,
  }
  # BERT's two lengths, and a batch that grows: the second phase begins at step 6, after the one that a signal stops.
  phases = {"train.phases": "0.75*16x8,0.25*32x16"} if recipe == "bert_base" else {}
  # With its teacher it is in tests/test_arms.py.
  alone = {"objective.kind": "masked_tokens"} if recipe == "distilbert_base" else {}
  return settings.assign(config, given | phases | alone | assignments)


def run(config: Config, workdir: Path, **more: Any) -> tuple[Pretrained, Path, Corpus]:
  corpus = prepare_corpus(config, workdir)
  folder = workdir / "runs" / "pretrain" / "seed-0"
  result = pretrain(resolve(config, corpus), corpus, folder, make_layout("data:1"), **more)
  return result, folder, corpus


def metrics(folder: Path) -> list[dict[str, Any]]:
  times = ("tokens_per_second", "data_wait_share", "crc32")
  lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
  return [{name: value for name, value in line.items() if name not in times} for line in lines]


# Objectives and networks are tested for themselves. Through the whole trunk go one with two losses and one with two
# networks in every run of the tests, the others in .ci/full.
ALWAYS = ("bert_base", "electra_small")


@pytest.fixture(
  scope="module", params=[pytest.param(r, marks=() if r in ALWAYS else pytest.mark.exhaustive) for r in RECIPES]
)
def trained(
  request: pytest.FixtureRequest, source: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Pretrained]:
  """A recipe at smoke scale: its name, its workdir, and its result."""
  workdir = tmp_path_factory.mktemp(request.param)
  result, _, _ = run(config_of(request.param, source), workdir)
  return request.param, workdir, result


@pytest.mark.slow
def test_it_trains_and_is_measured_beside_the_trivial(trained: tuple[str, Path, Pretrained]) -> None:
  recipe, workdir, result = trained
  assert result.status == "finished"
  reached, trivial = result.measures, result.trivial
  assert 3 < (reached["mlm_loss"] or 0) < 8
  assert (trivial["context_free_mask_loss"] or 0) > 0
  first, last = (
    line["mlm_loss"] for line in metrics(workdir / "runs" / "pretrain" / "seed-0") if line["kind"] == "eval"
  )
  assert last < first
  objective = objective_of(config_of(recipe, "text:"))
  for answer in objective.answers:
    assert 0.5 <= ((reached | trivial)[f"{answer.name}_majority"] or 0) <= 1
    assert {f"{answer.name}_accuracy", f"{answer.name}_balanced_accuracy"} <= set(reached)
  assert bool(objective.answers) == (recipe in ("bert_base", "albert_base", "electra_small", "deberta_v3_small"))


@pytest.mark.slow
def test_stopped_and_gone_on_it_is_the_same_bit_by_bit(
  trained: tuple[str, Path, Pretrained], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  recipe, workdir, result = trained
  make = TrainBatches.__call__

  def stopping(self: TrainBatches, step: int, *rest: int) -> Any:
    if step == 5 and threading.current_thread() is not threading.main_thread():  # which draws the fingerprints
      signal.raise_signal(signal.SIGTERM)
    return make(self, step, *rest)

  with monkeypatch.context() as patch:
    patch.setattr(TrainBatches, "__call__", stopping)
    with pytest.raises(Preempted):
      run(config_of(recipe, source), tmp_path)
  again, folder, _ = run(config_of(recipe, source), tmp_path)
  assert again == result
  assert metrics(folder) == metrics(workdir / "runs" / "pretrain" / "seed-0")
  ours, theirs = (bert_jax.load(where, step=STEPS).params for where in (tmp_path, workdir))
  for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parity
def test_exported_it_opens_in_transformers_and_says_the_same(
  trained: tuple[str, Path, Pretrained], tmp_path: Path
) -> None:
  recipe, workdir, _ = trained
  model, class_name = bert_jax.load(workdir), RECIPES[recipe]
  if class_name is None:
    with pytest.raises(ValueError, match=rf"^model={model.config.kind} cannot be .*: transformers has no class for it"):
      model.export(tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    return

  import torch
  import transformers

  is_bare = class_name.endswith("Model") and not class_name.endswith("HeadModel")
  model = bert_jax.load(workdir, head="encoder" if is_bare else None)
  model.export(tmp_path / "hf")
  opened, report = getattr(transformers, class_name).from_pretrained(tmp_path / "hf", output_loading_info=True)
  assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
  text = "bad cafe. dead beef."
  encoding = model.encode(text)
  inputs = {"input_ids": torch.tensor(encoding.token_ids[None].astype(np.int64))}
  if recipe not in ("distilbert_base", "modernbert_base"):
    inputs["token_type_ids"] = torch.tensor(encoding.segment_ids[None].astype(np.int64))
  with torch.no_grad():
    theirs = opened.eval().base_model(**inputs).last_hidden_state[0].numpy()
  np.testing.assert_allclose(model.token_embeddings(text).vectors, theirs, rtol=1e-4, atol=1e-5)  # float32, other sums


# ---- where weights start ----


@pytest.mark.slow
@pytest.mark.parametrize("devices", [pytest.param("data:1", marks=pytest.mark.exhaustive), "data:1,fsdp:2,tensor:2"])
def test_a_second_phase_begins_where_the_first_ended(source: str, tmp_path: Path, devices: str) -> None:
  """BERT's: from a run at one length to another length, by its own tokenizer. Its pair head comes along too."""
  first = config_of("bert_base", source, **{"train.phases": None})
  run(first, tmp_path / "first")
  model, of_tokenizer = start.settings_of(str(tmp_path / "first"))
  assert of_tokenizer["data.tokenizer.kind"] == "wordpiece"
  assert Path(of_tokenizer["data.tokenizer.path"]).is_dir()
  longer = {
    "train.phases": None,
    "model.vocab_size": model.vocab_size,
    "data.max_seq_len": 48,
    "train.start_from": str(tmp_path / "first"),
  }
  second = config_of("bert_base", source, **longer, **of_tokenizer)
  begin = start.load(str(tmp_path / "first"))
  assert begin.about["step"] in (4, STEPS), "the best checkpoint"
  corpus = prepare_corpus(second, tmp_path / "second")
  assert begin.model.tokenizer is not None
  assert corpus.tokenizer.hash == begin.model.tokenizer.hash
  config = resolve(second, corpus)
  seen: list[Any] = []

  def given() -> Any:
    seen.append(objective_of(config).given(begin.model.params))
    return seen[-1]

  where = epath.Path(tmp_path / "second" / "runs" / "pretrain" / "seed-0")
  result = pretrain(config, corpus, where, make_layout(devices), start=given, started_from=begin.about)
  assert result.started_from == begin.about
  # The first update has rate 0, so the first line of training is of the weights that were given.
  batch = {name: jnp.asarray(x) for name, x in TrainBatches(corpus, config.data, 0, 16)(0).items()}
  hyper = hyperparameters(config.optim, STEPS, objective_of(config).loss_weights)
  layout = make_layout("data:1")
  state = init_state(config, layout, begin.model.params)
  for name, part in begin.model.params.items():
    for one, other in zip(jax.tree.leaves(part), jax.tree.leaves(state.params[name]), strict=True):
      np.testing.assert_array_equal(one, other)
  _, found = train_step_of(config, layout)(state, None, batch, hyper, jnp.uint32(0))
  first_line = next(line for line in metrics(Path(where)) if line["kind"] == "train")
  assert first_line["mlm_loss"] == pytest.approx(float(found["mlm_loss"]), rel=1e-5)
  assert len(seen) == 1
  # Gone on with, it asks for its start no more.
  (where / "pretrained.json").unlink()
  never = lambda: pytest.fail("there is a checkpoint")
  assert pretrain(config, corpus, where, make_layout(devices), start=never, started_from=begin.about) == result
