"""Each held-out example counts once, whatever the batches and the devices; the unigram line is what counting gives."""

import collections
import math
from typing import Any

import jax
import numpy as np
import pytest

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.data.store import Corpus
from bert_jax.training import sharding
from bert_jax.training.evaluation import Evaluator, unigram_entropy
from bert_jax.training.pretraining import resolve
from bert_jax.training.step import init_params
from tests import tiny


@pytest.fixture(scope="module")
def config(source: str, corpus: Corpus) -> Config:
  return resolve(tiny.config(source), corpus)


@pytest.fixture(scope="module")
def params(config: Config) -> Any:
  """Far from uniform, so that examples differ."""
  return jax.tree.map(lambda x: 8 * x, init_params(config.model, 3))


def evaluator(config: Config, corpus: Corpus, batch_size: int, devices: int) -> Evaluator:
  return Evaluator(settings.assign(config, {"evaluation.batch_size": batch_size}), corpus, sharding.make_mesh(devices))


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
  rows = np.concatenate([batch["attention_mask"].any(axis=1) for batch in measuring.common])
  assert rows.sum() == 103
  assert len(rows) == -(-103 // batch_size) * batch_size
  measures = measuring(params)
  assert measures is not None
  for name, value in wanted.items():
    # One example more or less of 103 would change 1e-2; sums in another order change 1e-7.
    assert measures[name] == pytest.approx(value, rel=1e-5), name


def test_it_is_what_the_examples_say(config: Config, corpus: Corpus, params: Any, wanted: dict[str, Any]) -> None:
  assert wanted["mlm_perplexity"] == pytest.approx(math.exp(wanted["mlm_loss"]))
  assert 0 < wanted["nsp_accuracy"] < 1
  assert wanted["own_mlm_loss"] != wanted["mlm_loss"], "pairs are not single segments"


def test_the_seed_and_the_training_masks_do_not_matter(
  config: Config, corpus: Corpus, params: Any, wanted: dict[str, Any]
) -> None:
  other = settings.assign(
    config, {"train.seed": 5, "data.masking.rate": 0.4, "data.masking.policy": "dynamic", "data.train_fraction": 0.5}
  )
  assert evaluator(other, corpus, 103, 1)(params) == wanted


def test_no_nsp_no_accuracy_of_it(config: Config, corpus: Corpus, params: Any) -> None:
  other = settings.assign(config, {"train.sentence_objective": "none"})
  measures = evaluator(other, corpus, 16, 1)(params)
  assert measures is not None
  assert measures["nsp_accuracy"] is None


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


def test_unigram_entropy_is_a_count_by_hand(config: Config, corpus: Corpus) -> None:
  counts: collections.Counter[int] = collections.Counter()
  for document in corpus.documents("train", config.data.eval_fraction, 1.0):
    for sentence in range(corpus.document_offsets[document], corpus.document_offsets[document + 1]):
      start, end = corpus.sentence_offsets[sentence : sentence + 2]
      token_ids, _ = corpus.gather(np.array([start]), np.array([end - start]))
      counts.update(token_ids.tolist())
  size = corpus.tokenizer.vocab_size
  total = sum(counts.values()) + size
  measuring = evaluator(config, corpus, 16, 1)
  nats = []
  for batch in measuring.common:
    for labels, weights in zip(batch["mlm_labels"], batch["mlm_weights"], strict=True):
      nats += [-math.log((counts[int(x)] + 1) / total) for x, w in zip(labels, weights, strict=True) if w]
  assert unigram_entropy(corpus, config, measuring.common) == pytest.approx(sum(nats) / len(nats), rel=1e-9)
  assert 0 < sum(nats) / len(nats) < math.log(size)
