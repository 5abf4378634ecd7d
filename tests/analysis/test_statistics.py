"""Errors by source, intervals, p values and Holm's correction; how often they hold, test_coverage.py says."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.analysis import statistics
from bert_jax.analysis.statistics import Error, Pooled

NONE = Pooled(0.0, 0, 0)
ERRORS = st.lists(
  st.builds(Error, st.just("seeds"), st.floats(1e-4, 10.0), st.floats(1.0, 300.0)), min_size=1, max_size=3
)


# ---- seeds ----


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_of_two_arms_it_is_the_paired_t_test(n: int) -> None:
  generator = np.random.default_rng(n)
  ours, theirs = generator.normal(5.9, 0.1, n), generator.normal(6.0, 0.1, n)
  arms = [dict(enumerate(ours.tolist())), dict(enumerate(theirs.tolist()))]
  error = statistics.seeds_error((ours - theirs).tolist(), statistics.residual(arms), 2)
  assert error is not None
  reference = scipy.stats.ttest_rel(ours, theirs)
  mean = float(np.mean(ours - theirs))
  ends = reference.confidence_interval(0.95)
  # Both are a few float64 operations; 1e-9 leaves room for their order.
  half = statistics.half_width([error], 0.05)
  assert (mean - half, mean + half) == pytest.approx((ends.low, ends.high), rel=1e-9)
  assert statistics.p_value(mean, [error]) == pytest.approx(reference.pvalue, rel=1e-9)


def test_the_residual_is_that_of_two_way_analysis_of_variance_and_lacks_no_run() -> None:
  generator = np.random.default_rng(5)
  values = generator.normal(size=(4, 3)) + 10 * np.arange(4)[:, None] + 5 * np.arange(3)
  arms = [dict(enumerate(row.tolist())) for row in values]
  rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
  pooled = statistics.residual(arms)
  assert pooled.degrees_of_freedom == 6
  assert pooled.variance == pytest.approx(float((rest**2).sum()) / 6, rel=1e-9)
  del arms[2][1]
  without = statistics.residual(arms)
  assert without.degrees_of_freedom == 5
  # The run that is gone was fitted with the others: what it adds to the sum of squares is never below 0.
  assert without.variance * 5 <= pooled.variance * 6


def test_moderation_lies_between_the_pairs_own_variance_and_that_of_all() -> None:
  differences = [0.1, 0.3, 0.2]
  own = float(np.var(differences, ddof=1))
  for pooled in (Pooled(own / 2, 8, 5), Pooled(own, 8, 5), Pooled(own / 20, 8, 5)):
    error = statistics.seeds_error(differences, pooled, 2)
    assert error is not None
    variance = error.standard_error**2 * 3
    assert min(own, 2 * pooled.variance) * (1 - 1e-9) <= variance <= max(own, 2 * pooled.variance) * (1 + 1e-9)
    assert error.degrees_of_freedom == 2 + 1.5
  assert statistics.seeds_error([0.1], Pooled(1.0, 8, 5), 2) is None
  few = statistics.seeds_error([0.1, 0.2], Pooled(1.0, 2, 9), 2)
  assert few is not None
  assert few.degrees_of_freedom == 2, "no more than all arms have"


def test_known_values() -> None:
  # Mean 2, standard deviation 1, t(2) = 4.302653 (Student 1908): half a width of 4.302653 / √3.
  error = statistics.seeds_error([1.0, 2.0, 3.0], NONE, 2)
  assert error is not None
  assert statistics.half_width([error], 0.05) == pytest.approx(4.302652729911275 / math.sqrt(3), rel=1e-9)
  assert statistics.spread([1.0, 2.0, 3.0]) == statistics.Spread(3, 2.0, 1.0)


def test_the_published_runs_show_full_sentences() -> None:
  """Twelve runs of six arms, of which the paired t shows nothing: two seeds have one degree of freedom."""
  losses = {
    "bert": (6.264, 6.266),
    "dynamic_masks": (6.256, 6.260),
    "no_nsp": (6.301, 6.305),
    "full_sentences": (6.169, 6.168),
    "big_batch": (6.260, 6.233),
    "more_data": (6.247, 6.236),
  }
  arms = [dict(enumerate(values)) for values in losses.values()]
  pooled = statistics.residual(arms)
  assert pooled.degrees_of_freedom == 5
  differences = np.subtract(losses["full_sentences"], losses["no_nsp"]).tolist()
  error = statistics.seeds_error(differences, pooled, 2)
  assert error is not None
  assert error.degrees_of_freedom == 3
  assert abs(float(np.mean(differences))) > statistics.half_width([error], 0.01)


# ---- documents, draws, texts ----


def test_the_documents_error_is_that_of_drawing_documents_anew() -> None:
  generator = np.random.default_rng(3)
  counts = generator.integers(5, 60, 400)
  deltas = counts * generator.normal(0.5, 0.3, 400)  # so large that a mean over documents would not do
  drawn = generator.integers(0, 400, (4000, 400))
  bootstrap = np.std(deltas[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
  # 4,000 draws tell a standard deviation to 1.1 % (one standard error); linearizing costs little at 400 documents.
  error = statistics.documents_error(deltas.tolist(), counts.tolist())
  assert error is not None
  assert error.standard_error == pytest.approx(bootstrap, rel=0.05)
  assert statistics.documents_error([1.0], [3]) is None


def test_the_draws_error_is_that_of_a_mean_of_draws() -> None:
  drawn = np.random.default_rng(4).normal(0.1, 0.03, (2000, 20))
  errors = [statistics.draws_error(row.tolist()) for row in drawn]
  squares = [error.standard_error**2 for error in errors if error is not None]
  assert len(squares) == 2000
  # 2,000 means tell a standard deviation to 1.6 % (one standard error).
  assert math.sqrt(np.mean(squares)) == pytest.approx(np.std(drawn.mean(axis=1)), rel=0.06)


def test_texts_that_are_labelled_alike_are_no_certainty() -> None:
  alike = statistics.texts_error([0.0] * 110)
  assert 0.01 < alike.standard_error < 0.02
  many = statistics.texts_error([0.0] * 11_000)
  assert many.standard_error < alike.standard_error / 50
  generator = np.random.default_rng(2)
  differences = generator.choice([-1.0, 0.0, 1.0], 3000, p=[0.2, 0.5, 0.3])
  # Two more texts of 3,000 are of no weight.
  plain = float(np.std(differences, ddof=1)) / math.sqrt(3000)
  assert statistics.texts_error(differences.tolist()).standard_error == pytest.approx(plain, rel=0.005)
  assert statistics.independent_texts_error(1.0, 1.0, 100).standard_error > 0.01
  assert statistics.draws_error([0.5]) is None


# ---- intervals ----


@given(errors=ERRORS, mean=st.floats(-5, 5))
def test_p_is_the_level_at_which_the_interval_reaches_zero(errors: list[Error], mean: float) -> None:
  p = statistics.p_value(mean, errors)
  assert 0 <= p <= 1
  if 1e-9 < p < 1 - 1e-9:
    # The root is found to 2e-12 of its logarithm; the quantile's slope at few degrees of freedom magnifies that.
    assert statistics.half_width(errors, p) == pytest.approx(abs(mean), rel=1e-5)


@given(errors=ERRORS)
def test_more_sources_of_error_and_more_confidence_make_it_wider(errors: list[Error]) -> None:
  assert 0 < statistics.half_width(errors, 0.05) < statistics.half_width(errors, 0.01)
  assert statistics.half_width(errors, 0.05) <= statistics.half_width([*errors, errors[0]], 0.05)


@given(p_values=st.lists(st.floats(1e-9, 1), min_size=1, max_size=12))
def test_an_interval_at_holms_level_excludes_zero_where_holm_shows(p_values: list[float]) -> None:
  found = statistics.holm(p_values)
  for p, corrected in zip(p_values, found, strict=True):
    assert (p <= corrected.level) == (corrected.p <= 0.05 * (1 + 1e-12))
    assert 0.05 / len(p_values) <= corrected.level * (1 + 1e-12) <= 0.05 * (1 + 1e-9)
    assert corrected.p >= p
  by_size = [corrected.p for _, corrected in sorted(zip(p_values, found, strict=True), key=lambda pair: pair[0])]
  assert by_size == sorted(by_size)


def test_holm_by_hand() -> None:
  # Of three: 0.01 × 3, 0.02 × 2, and 0.04 × 1, which is not below the one before.
  found = statistics.holm([0.04, 0.01, 0.02])
  assert [corrected.p for corrected in found] == pytest.approx([0.04, 0.03, 0.04])
  assert [corrected.level for corrected in found] == pytest.approx([0.05, 0.05 / 3, 0.025])
  stopped = statistics.holm([0.03, 0.04])
  assert [corrected.level for corrected in stopped] == pytest.approx([0.025, 0.025]), "0.04 alone would be shown"


def test_verdicts() -> None:
  assert statistics.verdict(0.1, 0.2, higher_is_better=True, margin=0.05) == "better"
  assert statistics.verdict(0.1, 0.2, higher_is_better=False, margin=0.05) == "worse"
  assert statistics.verdict(-0.2, -0.1, higher_is_better=False, margin=0.05) == "better"
  assert statistics.verdict(-0.01, 0.04, higher_is_better=True, margin=0.05) == "no difference"
  assert statistics.verdict(-0.01, 0.06, higher_is_better=True, margin=0.05) == "not shown"
  assert statistics.verdict(0.01, 0.04, higher_is_better=True, margin=0.05) == "better", "small, and shown"


def test_agreement_needs_a_claim_and_a_verdict() -> None:
  assert statistics.agreement("better", 1) == statistics.agreement("worse", -1) == "agrees"
  assert statistics.agreement("better", -1) == statistics.agreement("worse", 1) == "disagrees"
  for verdict in ("not shown", "void", "not run", "no difference"):
    assert statistics.agreement(verdict, 1) == "cannot say"
  assert statistics.agreement("better", 0) == statistics.agreement("not shown", 0) == "no claim"


def test_the_spreads_check_sees_a_wild_arm_and_no_other() -> None:
  generator = np.random.default_rng(0)
  calm = [dict(enumerate(generator.normal(0, 0.01, 8).tolist())) for _ in range(4)]
  seen = statistics.spreads_check(calm)
  assert seen is not None
  assert seen[1] > 0.05
  wild = [*calm, dict(enumerate(generator.normal(0, 1.0, 8).tolist()))]
  seen = statistics.spreads_check(wild)
  assert seen is not None
  assert seen[0] > 20
  assert seen[1] < 0.05
  assert statistics.spreads_check(calm[:1]) is None
