"""The arithmetic of a comparison: differences, their errors by source, intervals and verdicts. docs/statistics.md.

S seeds, A arms.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95

BySeed = Mapping[int, float]  # seed → value of a run


@dataclasses.dataclass(frozen=True)
class Spread:
  """Mean and sample standard deviation (n − 1) of n values; the deviation is None for one value."""

  n: int
  mean: float
  sd: float | None


def spread(values: Sequence[float]) -> Spread | None:
  """Mean and standard deviation; None without values."""
  if not values:
    return None
  return Spread(len(values), float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


# ---- errors ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Error:
  """One source of a difference's error.

  Attributes:
    source: what would come out differently another time: seeds, documents, draws or texts.
    standard_error: of the difference, from this source.
    degrees_of_freedom: of its estimate.
  """

  source: str
  standard_error: float
  degrees_of_freedom: float


class Pooled(NamedTuple):
  """A variance from all arms, its degrees of freedom, and the number of arms; of no arms where none can be pooled."""

  variance: float
  degrees_of_freedom: int
  arms: int


def residual(arms: Sequence[BySeed]) -> Pooled:
  """The residual variance of value = arm + seed + rest, by least squares over the runs that are there."""
  runs = [(i, seed, value) for i, arm in enumerate(arms) for seed, value in arm.items()]
  seeds = sorted({seed for _, seed, _ in runs})
  design = np.zeros((len(runs), len(arms) + len(seeds)))
  for row, (i, seed, _) in enumerate(runs):
    design[row, i] = design[row, len(arms) + seeds.index(seed)] = 1
  values = np.array([value for _, _, value in runs])
  if not len(runs):
    return Pooled(0.0, 0, 0)
  solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
  free = len(runs) - int(rank)
  rest = values - design @ solution
  return Pooled(float(rest @ rest) / free if free else 0.0, free, len(arms))


def within(arms: Sequence[BySeed]) -> Pooled:
  """The variance over seeds, pooled over arms."""
  several = [np.array(list(arm.values())) for arm in arms if len(arm) > 1]
  free = sum(len(values) - 1 for values in several)
  total = sum(float(np.sum((values - values.mean()) ** 2)) for values in several)
  return Pooled(total / free if free else 0.0, free, len(several))


def seeds_error(differences: Sequence[float], pooled: Pooled, of_pair: float) -> Error | None:
  """The error of a mean difference over seeds; None for one seed.

  The variance of these differences is moderated by that of all arms, as if it had been seen (A − 2) / 2 times more
  (Smyth 2004, with a fixed prior). With two arms that is the paired t. Chosen by coverage: docs/statistics.md.

  Args:
    differences: a seed each.
    pooled: the variance of one run.
    of_pair: how many such variances a difference has: 2 between two arms, 1 against what has no seeds.
  """
  own = len(differences) - 1
  if own < 1:
    return None
  variance, free = float(np.var(differences, ddof=1)), float(own)
  prior = (pooled.arms - 2) / 2
  if prior > 0 and pooled.degrees_of_freedom > 0:
    variance = (prior * of_pair * pooled.variance + own * variance) / (prior + own)
    free = min(prior + own, float(pooled.degrees_of_freedom))
  return Error("seeds", math.sqrt(variance / len(differences)), free)


def documents_error(differences: Sequence[float], counts: Sequence[float]) -> Error | None:
  """The error of a difference of losses from the choice of held-out documents; None for fewer than two.

  The difference is a ratio of sums over documents; this is the usual linearized error of such a ratio, with documents
  as the units drawn (Cochran 1977, section 6.4).

  Args:
    differences: of each document, summed over its predictions; mean over seeds.
    counts: of each document's predictions.
  """
  deltas, sizes = np.array(differences), np.array(counts)
  documents, total = len(sizes), sizes.sum()
  if documents < 2 or total == 0:
    return None
  rest = deltas - deltas.sum() / total * sizes
  error = float(math.sqrt(documents / (documents - 1) * np.sum(rest**2)) / total)
  return Error("documents", error, documents - 1)


def draws_error(differences: Sequence[float]) -> Error | None:
  """The error of a difference of accuracies from the choice of labelled texts; None for one draw.

  Args:
    differences: of each draw, mean over seeds and test texts.
  """
  if len(differences) < 2:
    return None
  return Error("draws", float(np.std(differences, ddof=1)) / math.sqrt(len(differences)), len(differences) - 1)


def texts_error(differences: Sequence[float]) -> Error:
  """The error of a difference of accuracies from the choice of test texts, which is never 0.

  Two more texts, one gained and one lost, are counted in (Bonett and Price 2012): of a hundred texts that both sides
  label alike, it is not known that they always do.

  The variances by seed, by draw and by text each hold a little of the others' noise, so that their sum errs on the safe
  side (Owen 2007, on resampling two factors).

  Args:
    differences: of each test text, between −1 and 1: mean over seeds and draws.
  """
  seen = np.array([*differences, 1.0, -1.0])
  return Error("texts", float(np.std(seen)) / math.sqrt(len(seen)), max(1, len(differences) - 1))


def independent_texts_error(ours: float, theirs: float, texts: int) -> Error:
  """The same where it is not known which texts each side got right: of two shares of as many texts, with two more."""
  shares = [(texts * share + 1) / (texts + 2) for share in (ours, theirs)]
  variance = sum(share * (1 - share) for share in shares) / (texts + 2)
  return Error("texts", math.sqrt(variance), max(1, texts - 1))


def half_width(errors: Sequence[Error], level: float) -> float:
  """Half of a two-sided interval that misses with probability `level`: errors of all sources, added in quadrature.

  Each reaches as far as its own degrees of freedom ask. With two seeds that holds its coverage where an effective
  number of degrees of freedom (Satterthwaite) does not.
  """
  return math.sqrt(
    sum((stdtrit(error.degrees_of_freedom, 1 - level / 2) * error.standard_error) ** 2 for error in errors)
  )


def p_value(mean: float, errors: Sequence[Error]) -> float:
  """The level at which the interval just reaches 0."""
  from scipy.optimize import brentq  # a quarter of the time that a sweep takes to start; needed at its end

  size = abs(mean)
  if len(errors) == 1:
    error = errors[0]
    return float(2 * stdtr(error.degrees_of_freedom, -size / error.standard_error)) if error.standard_error else 1.0
  if size == 0 or half_width(errors, 1 - 1e-12) >= size:
    return 1.0
  lowest = 1e-12
  if half_width(errors, lowest) <= size:
    return lowest
  found: Any = brentq(lambda log: half_width(errors, math.exp(log)) - size, math.log(lowest), -1e-12)
  return math.exp(found)


# ---- many comparisons ------------------------------------------------------------------------------------------------


class Corrected(NamedTuple):
  """Of one comparison among several.

  Attributes:
    p: adjusted, to be compared with 1 − CONFIDENCE.
    level: at which its interval says the same.
  """

  p: float
  level: float


def holm(p_values: Sequence[float], level: float = 1 - CONFIDENCE) -> list[Corrected]:
  """Holm's (1979) correction: of m comparisons without any effect, one or more is shown with probability `level`.

  The k-th smallest p is judged at level / (m − k + 1), as long as all before it were shown; the others have the level
  of the first that was not. So an interval at that level excludes 0 exactly where the comparison is shown.
  """
  order, found = np.argsort(p_values, kind="stable"), [Corrected(1.0, level)] * len(p_values)
  largest, stopped = 0.0, None
  for k, i in enumerate(order):
    share = level / (len(p_values) - k)
    largest = max(largest, min(1.0, (len(p_values) - k) * p_values[i]))
    if stopped is None and p_values[i] > share:
      stopped = share
    found[i] = Corrected(largest, stopped if stopped is not None else share)
  return found


def verdict(low: float, high: float, higher_is_better: bool, margin: float) -> str:
  """What an interval shows: better or worse where it excludes 0, no difference within the margin, else not shown."""
  if low > 0 or high < 0:
    return "better" if (low > 0) == higher_is_better else "worse"
  return "no difference" if -margin < low and high < margin else "not shown"


def agreement(verdict: str, direction: int) -> str:
  """What a verdict says of the paper's direction (+1 better, −1 worse, 0 no claim)."""
  if direction == 0:
    return "no claim"
  if verdict not in ("better", "worse"):
    return "cannot say"
  return "agrees" if (verdict == "better") == (direction > 0) else "disagrees"


def spreads_check(arms: Sequence[BySeed]) -> tuple[float, float] | None:
  """(largest over smallest deviation over seeds, p of Levene's test on the rest of arm + seed); None if unseen.

  With few seeds the test sees only large differences, so nothing is switched by it: the moderation is always on.
  """
  from scipy.stats import levene

  several = [arm for arm in arms if len(arm) > 2]  # two values lie equally far from their mean, always
  if len(several) < 2:
    return None
  deviations = [float(np.std(list(arm.values()), ddof=1)) for arm in several]
  if min(deviations) == 0:
    return None
  means = {seed: np.mean([arm[seed] for arm in several if seed in arm]) for arm in several for seed in arm}
  rests = [np.array([value - means[seed] for seed, value in arm.items()]) for arm in several]
  return max(deviations) / min(deviations), float(levene(*[rest - rest.mean() for rest in rests]).pvalue)
