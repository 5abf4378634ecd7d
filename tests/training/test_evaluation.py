"""Each held-out example counts once, whatever the batches and the devices; [MASK] places are told from the others."""

import math
from typing import Any

import jax
import numpy as np
import pytest

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.data.corpus import Corpus
from bert_jax.objectives import objective_of
from bert_jax.training.evaluation import HeldOut, mean
from bert_jax.training.layout import make_layout
from bert_jax.training.pretraining import resolve
from bert_jax.training.step import init_params
from tests import tiny
from tests.models.networks import outputs_of


@pytest.fixture(scope="module")
def config(source: str, corpus: Corpus) -> Config:
  return resolve(tiny.config(source), corpus)


@pytest.fixture(scope="module")
def params(config: Config) -> Any:
  """Far from uniform, so that examples differ."""
  return jax.tree.map(lambda x: 8 * x, init_params(objective_of(config), 3))


def evaluator(config: Config, corpus: Corpus, batch_size: int, devices: int) -> HeldOut:
  config = settings.assign(config, {"evaluation.batch_size": batch_size})
  return HeldOut(config, corpus, make_layout(f"data:{devices}"))


@pytest.fixture(scope="module")
def wanted(config: Config, corpus: Corpus, params: Any) -> dict[str, float | None]:
  measures = evaluator(config, corpus, 103, 1)(params)
  assert measures is not None
  return measures


@pytest.mark.parametrize(("batch_size", "devices"), [(8, 1), (16, 1), (8, 4), (32, 4)])
def test_103_examples_count_once_each(
  batch_size: int,
  devices: int,
  config: Config,
  corpus: Corpus,
  params: Any,
  wanted: dict[str, float | None],
) -> None:
  measuring = evaluator(config, corpus, batch_size, devices)
  rows = np.concatenate([batch["attention_mask"].any(axis=1) for batch in measuring.sets["common"]])
  assert rows.sum() == 103
  assert len(rows) == -(-103 // batch_size) * batch_size
  measures = measuring(params)
  assert measures is not None
  for name, value in wanted.items():
    # One example more or less of 103 would change 1e-2; sums in another order change 1e-7.
    assert measures[name] == pytest.approx(value, rel=1e-5), name


def test_it_is_what_the_examples_say(config: Config, corpus: Corpus, params: Any, wanted: dict[str, Any]) -> None:
  measuring = evaluator(config, corpus, 16, 1)
  assert wanted["mlm_perplexity"] == pytest.approx(math.exp(wanted["mlm_loss"]))
  assert wanted["own_mask_loss"] != wanted["mask_loss"], "pairs are not single segments"
  nats: dict[bool, list[float]] = {True: [], False: []}
  right: dict[bool, list[bool]] = {True: [], False: []}
  objective = objective_of(config)
  for batch in measuring.sets["common"]:
    logits = np.asarray(outputs_of(objective, params, batch)["mlm_scores"].logits(), np.float64)
    for row, slot in zip(*np.nonzero(batch["mlm_weights"]), strict=True):
      at, label = logits[row, slot], batch["mlm_labels"][row, slot]
      hidden = batch["token_ids"][row, batch["mlm_positions"][row, slot]] == corpus.tokenizer.mask_id
      nats[hidden].append(np.log(np.exp(at - at.max()).sum()) + at.max() - at[label])
      right[hidden].append(at.argmax() == label)
  assert wanted["mask_loss"] == pytest.approx(np.mean(nats[True]), rel=1e-5)  # float32 against float64
  assert wanted["mask_accuracy"] == pytest.approx(np.mean(right[True]), rel=1e-6)
  assert wanted["mlm_loss"] == pytest.approx(np.mean(nats[True] + nats[False]), rel=1e-5)
  assert wanted["mlm_accuracy"] == pytest.approx(np.mean(right[True] + right[False]), rel=1e-6)
  # 0.8 of 255 predictions, give or take four standard errors of 0.025.
  assert 0.7 < len(nats[True]) / len(nats[True] + nats[False]) < 0.9


def test_nsp_stands_beside_the_majority_and_is_balanced(
  config: Config, corpus: Corpus, params: Any, wanted: dict[str, Any]
) -> None:
  measuring = evaluator(config, corpus, 16, 1)
  labels = np.concatenate([batch["pair_labels"] for batch in measuring.sets["own"]])
  random = np.mean(labels[labels >= 0])
  assert measuring.trivial()["nsp_majority"] == pytest.approx(max(random, 1 - random))
  seen = mean(measuring.rows(params, measuring.sets["own"]) or {})
  recalls = seen["nsp_recall_0"], seen["nsp_recall_1"]
  assert wanted["nsp_accuracy"] == pytest.approx((1 - random) * recalls[0] + random * recalls[1])
  assert wanted["nsp_balanced_accuracy"] == pytest.approx(sum(recalls) / 2)
  # Whatever says the same of every pair has half of each kind, and no more.
  bias = np.array([0, 50], np.float32)
  one_answer = params | {"nsp_head": params["nsp_head"] | {"bias": bias}}
  measures = measuring(one_answer)
  assert measures is not None
  assert measures["nsp_balanced_accuracy"] == 0.5
  assert measures["nsp_accuracy"] == pytest.approx(random)


def test_the_documents_add_up(config: Config, corpus: Corpus, params: Any, wanted: dict[str, Any]) -> None:
  measuring = evaluator(config, corpus, 16, 1)
  found = measuring.by_document(params)
  held_out = corpus.documents("eval", config.data.eval_fraction, 1.0)
  assert set(found.documents) <= set(held_out.tolist())
  assert sum(found.nats) / sum(found.count) == pytest.approx(wanted["mask_loss"], rel=1e-6)
  line = measuring.trivial()["context_free_mask_loss"]
  assert sum(found.trivial_nats) / sum(found.count) == pytest.approx(line, rel=1e-9)


def test_a_model_that_never_sees_mask_is_not_measured_there(config: Config, corpus: Corpus, params: Any) -> None:
  other = settings.assign(config, {"data.masking.mask_prob": 0.0, "data.masking.random_prob": 1.0})
  measures = evaluator(other, corpus, 16, 1)(params)
  assert measures is not None
  assert (measures["mask_loss"], measures["mask_accuracy"], measures["own_mask_loss"]) == (None, None, None)
  assert measures["mlm_loss"] is not None
  assert [objective_of(c).measure(c.data) for c in (config, other)] == ["mask_loss", "mlm_loss"]


def test_the_seed_and_the_training_masks_do_not_matter(
  config: Config, corpus: Corpus, params: Any, wanted: dict[str, Any]
) -> None:
  other = settings.assign(
    config, {"train.seed": 5, "data.masking.rate": 0.4, "data.masking.policy": "dynamic", "data.train_fraction": 0.5}
  )
  assert evaluator(other, corpus, 103, 1)(params) == wanted


def test_no_nsp_no_accuracy_of_it(config: Config, corpus: Corpus, params: Any) -> None:
  other = settings.assign(config, {"objective.sentence": "none"})
  params = {name: part for name, part in params.items() if name in ("encoder", "mlm_head")}
  measures = evaluator(other, corpus, 16, 1)(params)
  assert measures is not None
  assert not [name for name in measures if name.startswith("nsp")]


def test_what_is_not_finite_is_none(config: Config, corpus: Corpus, params: Any) -> None:
  measures = evaluator(config, corpus, 16, 1)(jax.tree.map(lambda x: x * math.nan, params))
  assert measures is not None
  assert measures["mlm_loss"] is None
  assert measures["mlm_perplexity"] is None


def test_it_stops_when_asked(config: Config, corpus: Corpus, params: Any) -> None:
  asked: list[bool] = []

  def after_two() -> bool:
    asked.append(True)
    return len(asked) > 2

  assert evaluator(config, corpus, 8, 1)(params, should_stop=after_two) is None
  assert len(asked) <= 4
