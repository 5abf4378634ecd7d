"""The interval is Student's, covers what it promises, and decides the verdict."""

import math

import numpy as np
import pytest
import scipy.stats

from bert_jax.analysis import statistics


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_interval_is_that_of_the_paired_t_test(n: int) -> None:
  generator = np.random.default_rng(n)
  ours, theirs = generator.normal(5.9, 0.1, n), generator.normal(6.0, 0.1, n)
  interval = statistics.paired_interval(list(ours - theirs))
  reference = scipy.stats.ttest_rel(ours, theirs)
  ends = reference.confidence_interval(0.95)
  assert interval is not None
  # Both are a few float64 operations; 1e-9 leaves room for their order.
  assert (interval.low, interval.high) == pytest.approx((ends.low, ends.high), rel=1e-9)
  assert interval.degrees_of_freedom == n - 1 == reference.df
  shown = statistics.verdict(interval, higher_is_better=False) != "not shown"
  assert shown == (reference.pvalue < 0.05)


def test_known_values() -> None:
  # Mean 2, standard deviation 1, t(2) = 4.302653 (Student 1908): half a width of 4.302653 / √3.
  interval = statistics.paired_interval([1.0, 2.0, 3.0])
  assert interval is not None
  assert interval.mean == 2
  assert interval.resolution == pytest.approx(4.302652729911275 / math.sqrt(3), rel=1e-9)
  assert statistics.spread([1.0, 2.0, 3.0]) == statistics.Spread(3, 2.0, 1.0)
  assert statistics.t_quantile(1) == pytest.approx(12.706204736, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_interval_covers_the_truth_in_95_of_100_sweeps(n: int) -> None:
  trials, truth = 3000, 0.3
  covered = 0
  for differences in np.random.default_rng(7 * n).normal(truth, 0.2, (trials, n)):
    interval = statistics.paired_interval(list(differences))
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    covered += interval.low <= truth <= interval.high
  # Four binomial standard errors: a right interval fails once in 16,000 seeds, and this seed is fixed.
  assert abs(covered / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_the_resolution_is_where_the_verdict_turns() -> None:
  deviations = np.array([-0.01, 0.03, -0.02])
  centred = statistics.paired_interval(list(deviations))
  assert centred is not None
  assert centred.resolution is not None
  for factor, expected in ((1.001, "worse"), (0.999, "not shown"), (-0.999, "not shown"), (-1.001, "better")):
    moved = statistics.paired_interval(list(deviations + factor * centred.resolution))
    assert statistics.verdict(moved, higher_is_better=False) == expected


def test_verdicts() -> None:
  clear = statistics.paired_interval([0.10, 0.11, 0.12])
  assert statistics.verdict(clear, higher_is_better=True) == "better"
  assert statistics.verdict(clear, higher_is_better=False) == "worse"
  assert statistics.verdict(statistics.paired_interval([0.1, -0.1]), higher_is_better=True) == "not shown"
  assert statistics.verdict(statistics.paired_interval([5.0]), higher_is_better=True) == "not shown"
  assert statistics.verdict(statistics.paired_interval([0.0, 0.0]), higher_is_better=True) == "not shown"
  assert statistics.verdict(statistics.paired_interval([]), higher_is_better=True) == "not run"


def test_no_interval_of_width_zero_and_no_verdict_from_it() -> None:
  """Two seeds, 110 test texts: both six texts worse, which is no certainty."""
  alike = statistics.paired_interval([-6 / 110, -6 / 110])
  assert alike is not None
  assert (alike.mean, alike.low, alike.high, alike.resolution) == (-6 / 110, None, None, None)
  assert statistics.verdict(alike, higher_is_better=True) == "not shown"
  # Equal but for the last digit of a subtraction.
  assert statistics.paired_interval([0.3 - 0.1, 0.2, 0.2]).low is None  # type: ignore[union-attr]


def test_shares_are_not_judged_from_a_few_pairs() -> None:
  differences = [-6 / 110, -7 / 110, -6 / 110, -6 / 110, -7 / 110, -6 / 110]
  for n in range(2, 7):
    seen = statistics.paired_interval(differences[:n], is_share=True)
    verdict = statistics.verdict(seen, higher_is_better=True)
    assert verdict == ("worse" if n >= statistics.PAIRS_FOR_A_SHARE else "not shown"), n
  assert statistics.verdict(statistics.paired_interval(differences[:3]), higher_is_better=True) == "worse"


def test_the_sampling_error_is_that_of_drawing_documents_anew() -> None:
  generator = np.random.default_rng(3)
  counts = generator.integers(5, 60, 400)
  deltas = counts * generator.normal(0.02, 0.3, 400)
  drawn = generator.integers(0, 400, (4000, 400))
  bootstrap = np.std(deltas[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
  # 4,000 draws tell a standard deviation to 1.1 % (one standard error); linearizing costs little at 400 documents.
  assert statistics.sampling_error(deltas.tolist(), counts.tolist()) == pytest.approx(bootstrap, rel=0.05)
  assert statistics.sampling_error([1.0], [3]) is None


def test_agreement_needs_a_claim_and_a_verdict() -> None:
  assert statistics.agreement("better", 1) == statistics.agreement("worse", -1) == "agrees"
  assert statistics.agreement("better", -1) == statistics.agreement("worse", 1) == "disagrees"
  for verdict in ("not shown", "void", "not run"):
    assert statistics.agreement(verdict, 1) == "cannot say"
  assert statistics.agreement("better", 0) == statistics.agreement("not shown", 0) == "no claim"
