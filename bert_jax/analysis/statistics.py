"""The arithmetic of a comparison: paired differences, Student's t interval, the verdict."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
# A share of a hundred texts moves in steps of a hundredth, so two or three pairs agree by chance to the last digit, and
# the interval of their t test says nothing. So many pairs are asked for before a share is judged.
PAIRS_FOR_A_SHARE = 5


@dataclasses.dataclass(frozen=True)
class Spread:
  """Mean and sample standard deviation (n − 1) of n values; the deviation is None for one value."""

  n: int
  mean: float
  sd: float | None


@dataclasses.dataclass(frozen=True)
class Interval:
  """Mean of n paired differences with its t interval; `low` and `high` are None where there is none.

  `resolution` is half the interval's width: the smallest mean difference that would have excluded 0 with
  this many pairs and the spread that they showed.
  """

  n: int
  mean: float
  low: float | None
  high: float | None
  resolution: float | None

  @property
  def degrees_of_freedom(self) -> int:
    return self.n - 1


def spread(values: Sequence[float]) -> Spread | None:
  """Mean and standard deviation; None without values."""
  if not values:
    return None
  return Spread(len(values), float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def t_quantile(degrees_of_freedom: int, confidence: float = CONFIDENCE) -> float:
  """How many standard errors a two-sided interval reaches to either side."""
  return float(stdtrit(degrees_of_freedom, 0.5 + confidence / 2))


def paired_interval(
  differences: Sequence[float], is_share: bool = False, confidence: float = CONFIDENCE
) -> Interval | None:
  """The t interval of the mean of paired differences, with n − 1 degrees of freedom; None without pairs.

  There is no interval, and so no verdict, of one pair, of pairs that all differ alike (their spread is not 0, it was
  not seen), and of a share's with fewer than `PAIRS_FOR_A_SHARE`.
  """
  seen = spread(differences)
  if seen is None:
    return None
  # Equal differences of floats are equal up to their last digits.
  if seen.sd is None or seen.sd <= 1e-12 * max(1.0, abs(seen.mean)) or (is_share and seen.n < PAIRS_FOR_A_SHARE):
    return Interval(seen.n, seen.mean, None, None, None)
  half = t_quantile(seen.n - 1, confidence) * seen.sd / math.sqrt(seen.n)
  return Interval(seen.n, seen.mean, seen.mean - half, seen.mean + half, half)


def sampling_error(differences: Sequence[float], counts: Sequence[float]) -> float | None:
  """The standard error of a difference of losses from the choice of held-out documents; None for fewer than two.

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
  residuals = deltas - deltas.sum() / total * sizes
  return float(math.sqrt(documents / (documents - 1) * np.sum(residuals**2)) / total)


def verdict(interval: Interval | None, higher_is_better: bool) -> str:
  """What an interval shows: better or worse where it excludes 0, else not shown; not run without pairs."""
  if interval is None:
    return "not run"
  if interval.low is None or interval.high is None or interval.low <= 0 <= interval.high:
    return "not shown"
  return "better" if (interval.mean > 0) == higher_is_better else "worse"


def agreement(verdict: str, direction: int) -> str:
  """What a verdict says of the paper's direction (+1 better, −1 worse, 0 no claim)."""
  if direction == 0:
    return "no claim"
  if verdict not in ("better", "worse"):
    return "cannot say"
  return "agrees" if (verdict == "better") == (direction > 0) else "disagrees"
