"""Differences of an adaptation: their signs, their pairing, what they show."""

import numpy as np
import pytest

from bert_jax.adaptation import figures
from bert_jax.adaptation.figures import Loss
from bert_jax.results import ByDocument, Draws

COUNT = (4, 7, 5, 9, 3)


def loss(nats: np.ndarray) -> Loss:
  return Loss(ByDocument(tuple(range(5)), COUNT, tuple(nats.tolist()), (9.0,) * 5), 1.5)


def test_a_lower_loss_is_better_though_documents_differ_much() -> None:
  before = np.array([20.0, 7.0, 30.0, 12.0, 1.0])  # paired, they differ by the same a token
  after = before - 0.5 * np.array(COUNT)
  found = figures.of_losses(loss(before), loss(after))
  assert found.mean == pytest.approx(-0.5)
  assert found.verdict == "better"
  assert figures.of_losses(loss(after), loss(before)).verdict == "worse"
  assert loss(before).nats == pytest.approx(70 / 28)
  assert loss(before).context_free == pytest.approx(45 / 28)
  noisy = before + np.array([3.0, -4.0, 2.0, -3.0, 1.0])
  assert figures.of_losses(loss(before), loss(noisy)).verdict == "not shown"


def test_losses_of_other_tokens_are_not_subtracted() -> None:
  other = Loss(ByDocument(tuple(range(5)), (4, 7, 5, 9, 4), (1.0,) * 5, (9.0,) * 5), 1.5)
  with pytest.raises(AssertionError, match="other tokens"):
    figures.of_losses(loss(np.ones(5)), other)


def test_accuracies_are_paired_by_draw_and_by_text() -> None:
  draw = np.random.default_rng(0)
  before = draw.random((3, 400)) < np.array([0.3, 0.6, 0.8])[:, None]  # draws differ much
  after = before | (draw.random((3, 400)) < 0.3)

  def of(right: np.ndarray) -> Draws:
    return Draws(tuple(right.mean(axis=1).tolist()), tuple(right.sum(axis=0).tolist()))

  found = figures.of_draws(of(before), of(after))
  assert found.mean == pytest.approx(after.mean() - before.mean())
  assert found.ends is not None
  assert found.ends[0] < found.mean < found.ends[1]
  assert figures.of_draws(of(before), of(before)).mean == 0
  assert figures.of_draws(of(before), of(before)).verdict == "not shown"
