"""The line without context: by hand, by brute force, and never above what any table of answers reaches."""

import collections
import math

import numpy as np
import pytest

from bert_jax import settings
from bert_jax.config import Config, MaskingConfig
from bert_jax.data.batches import EVAL_MASKING, EvalBatches
from bert_jax.data.corpus import Corpus
from bert_jax.objectives.context_free import ContextFree, rows, token_counts
from bert_jax.training.pretraining import resolve
from tests import tiny

SPECIAL, ORDINARY, MASK_ID = np.arange(4), tuple(range(4, 15)), 3
UNKNOWN = 2  # special, so that no random token is one; but it stands in texts, and is predicted


@pytest.fixture(scope="module")
def config(source: str, corpus: Corpus) -> Config:
  return resolve(tiny.config(source), corpus)


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
  counts = np.random.default_rng(4).uniform(1, 40, 15)
  counts[[0, 1, 3]] = 0
  return counts


def joint(counts: np.ndarray, masking: MaskingConfig) -> np.ndarray:
  """P(token, shown), summed over the three things that may happen to a place."""
  frequencies = counts / counts.sum()
  table = np.zeros((15, 15))
  for token in (UNKNOWN, *ORDINARY):
    table[token, MASK_ID] += frequencies[token] * masking.mask_prob
    for shown in ORDINARY:
      table[token, shown] += frequencies[token] * masking.random_prob / len(ORDINARY)
    table[token, token] += frequencies[token] * round(1 - masking.mask_prob - masking.random_prob, 9)
  return table


@pytest.mark.parametrize(("mask_prob", "random_prob"), [(0.8, 0.1), (0.5, 0.0), (0.8, 0.2), (1.0, 0.0), (0.0, 1.0)])
def test_it_is_bayes_rule(counts: np.ndarray, mask_prob: float, random_prob: float) -> None:
  masking = MaskingConfig(mask_prob=mask_prob, random_prob=random_prob)
  table = joint(counts, masking)
  assert table.sum() == pytest.approx(1)
  labels, shown = np.nonzero(table)
  nats, right = ContextFree(counts, MASK_ID, SPECIAL, masking).predict(shown, labels)
  posterior = table / np.maximum(table.sum(axis=0), 1e-300)
  np.testing.assert_allclose(nats, -np.log(posterior[labels, shown]), rtol=1e-12)
  np.testing.assert_array_equal(right, posterior.argmax(axis=0)[shown] == labels)


def test_no_table_of_answers_does_better(counts: np.ndarray) -> None:
  """The cross-entropy of any other table, over what the masking rule gives, is higher."""
  table = joint(counts, EVAL_MASKING)
  labels, shown = np.nonzero(table)
  predictor = ContextFree(counts, MASK_ID, SPECIAL)
  expected = table[labels, shown] @ predictor.predict(shown, labels)[0]
  for seed in range(20):
    other = table * np.random.default_rng(seed).uniform(0.8, 1.25, table.shape)
    other /= np.maximum(other.sum(axis=0), 1e-300)
    assert table[labels, shown] @ -np.log(other[labels, shown]) > expected


def test_on_a_corpus_it_is_a_count_by_hand(config: Config, corpus: Corpus) -> None:
  tokenizer = corpus.tokenizer
  seen: collections.Counter[int] = collections.Counter()
  for document in corpus.documents("train", config.data.eval_fraction, 1.0):
    for sentence in range(corpus.document_offsets[document], corpus.document_offsets[document + 1]):
      start, end = corpus.sentence_offsets[sentence : sentence + 2]
      seen.update(corpus.gather(np.array([start]), np.array([end - start]))[0].tolist())
  marks = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id}
  number = {token: seen[token] + 1 for token in range(tokenizer.vocab_size) if token not in marks}
  total = sum(number.values())
  by_chance = 0.1 / (tokenizer.vocab_size - len(tokenizer.special_ids))
  nats: dict[str, list[float]] = {"mlm": [], "mask": []}
  batches = list(EvalBatches(corpus, config.data, 16, 103, common=True))
  for batch in batches:
    for row, slot in zip(*np.nonzero(batch["mlm_weights"]), strict=True):
      label = int(batch["mlm_labels"][row, slot])
      shown = int(batch["token_ids"][row, batch["mlm_positions"][row, slot]])
      if shown == tokenizer.mask_id:
        nats["mask"].append(-math.log(number[label] / total))
        nats["mlm"].append(nats["mask"][-1])
      else:
        kept = 0.1 * number[shown] / total
        chance = by_chance * number[label] / total + (kept if label == shown else 0)
        nats["mlm"].append(-math.log(chance / (by_chance + kept)))
  found = {name: pairs.sum(axis=0) for name, pairs in rows(corpus, config.data, batches).items()}
  for places in ("mlm", "mask"):
    total, count = found[f"{places}_loss"]
    assert count == len(nats[places])
    assert total / count == pytest.approx(np.mean(nats[places]), rel=1e-9)
  whole = found["mlm_loss"][0] / found["mlm_loss"][1]
  assert whole < found["mask_loss"][0] / found["mask_loss"][1], "a shown token is half of the time its own"


def test_the_line_is_the_same_for_every_arm(config: Config, corpus: Corpus) -> None:
  other = settings.assign(config, {"data.train_fraction": 0.5, "data.masking.rate": 0.4, "train.seed": 3})
  np.testing.assert_array_equal(
    token_counts(corpus, config.data.eval_fraction), token_counts(corpus, other.data.eval_fraction)
  )
