"""Numbers as people read them."""

from collections.abc import Sequence

from bert_jax.analysis.comparisons import Comparison
from bert_jax.analysis.statistics import CONFIDENCE, Spread

MINUS = "\N{MINUS SIGN}"
NOTHING = "–"
PERCENT = "\N{NO-BREAK SPACE}%"  # as typeset after a number
CONFIDENCE_LEVEL = f"{100 * CONFIDENCE:.0f}{PERCENT}"


def number(value: float, decimals: int) -> str:
  """`value` with a real minus sign; a rounded zero has none."""
  text = f"{value:.{decimals}f}"
  if float(text) == 0:
    text = text.lstrip("-")
  return text.replace("-", MINUS)


def signed(value: float, decimals: int) -> str:
  """`value` with its sign, + included; a rounded zero has none."""
  text = number(value, decimals)
  return f"+{text}" if float(text.replace(MINUS, "-")) > 0 else text


def si(value: float) -> str:
  """Three digits and a suffix: 512, 15.4k, 2.30M, 1.05B."""
  for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
    if abs(value) >= 0.9995 * size:
      scaled = value / size
      return f"{scaled:.{2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0}f}{suffix}"
  return f"{value:.0f}"


def duration(seconds: float) -> str:
  """Seconds as `4.2 s`, `2 min 5 s` or `1 h 12 min`."""
  if seconds < 59.95:
    return f"{seconds:.1f} s"
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def listing(items: Sequence[str]) -> str:
  """`a`, `a and b`, `a, b and c`."""
  return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def plural(count: int, noun: str) -> str:
  """`1 run`, `3 runs`."""
  return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seeds(which: Sequence[int]) -> str:
  """`seed 1`, `seeds 0 and 1`."""
  return ("seed " if len(which) == 1 else "seeds ") + listing([str(seed) for seed in which])


def mean_sd(spread: Spread | None, decimals: int, scale: float = 1.0) -> str:
  """`5.912 ± 0.013`; the mean alone for one value; a dash without values."""
  if spread is None:
    return NOTHING
  mean = number(spread.mean * scale, decimals)
  return mean if spread.sd is None else f"{mean} ± {number(spread.sd * scale, decimals)}"


def difference(comparison: Comparison) -> str:
  """The mean difference with its sign, in nats or percentage points."""
  if comparison.mean is None:
    return NOTHING
  return signed(comparison.mean * _scale(comparison), _decimals(comparison))


def interval(comparison: Comparison) -> str:
  """The ends of the interval alone; a dash where there is none, as for one seed."""
  return _ends(comparison, comparison.interval)


def corrected(comparison: Comparison) -> str:
  """The ends of the interval that is corrected for the number of comparisons."""
  return _ends(comparison, comparison.corrected)


def _ends(comparison: Comparison, ends: tuple[float, float] | None) -> str:
  if ends is None:
    return NOTHING
  scale, decimals = _scale(comparison), _decimals(comparison)
  return f"{signed(ends[0] * scale, decimals)} to {signed(ends[1] * scale, decimals)}"


def errors(comparison: Comparison) -> str:
  """The standard error by source: `seeds 0.012, documents 0.003`."""
  scale, decimals = _scale(comparison), 2 if comparison.measure.is_share else 4
  parts = [f"{error.source} {number(error.standard_error * scale, decimals)}" for error in comparison.errors]
  return ", ".join(parts) or NOTHING


def resolution(comparison: Comparison) -> str:
  """The smallest difference that could have been shown, with its unit; a dash where there is none."""
  if comparison.corrected is None:
    return NOTHING
  half = (comparison.corrected[1] - comparison.corrected[0]) / 2
  return f"{number(half * _scale(comparison), _decimals(comparison))} {unit(comparison)}"


def probability(value: float | None) -> str:
  """A p value with two digits, `< 0.0001` where it is smaller."""
  return (
    NOTHING if value is None else "< 0.0001" if value < 0.0001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"
  )


def unit(comparison: Comparison) -> str:
  return "points" if comparison.measure.is_share else "nats"


def verdict(comparison: Comparison) -> str:
  """The verdict, with the reason where so few seeds cannot give any other, and the margin of `no difference`."""
  if too_few(comparison):
    return f"not shown ({_how_many(comparison)})"
  if comparison.verdict == "no difference":
    return f"no difference above {number(comparison.measure.margin * _scale(comparison), 2).rstrip('0').rstrip('.')}"
  return comparison.verdict


def too_few(comparison: Comparison) -> bool:
  """Whether a difference is there and nothing tells its spread."""
  return comparison.verdict == "not shown" and comparison.mean is not None and comparison.corrected is None


def _how_many(comparison: Comparison) -> str:
  return "one seed" if len(comparison.seeds) == 1 else f"{len(comparison.seeds)} seeds"


def _scale(comparison: Comparison) -> float:
  return 100.0 if comparison.measure.is_share else 1.0


def _decimals(comparison: Comparison) -> int:
  """Enough that an end of the interval that is not 0 does not look like 0."""
  decimals = 1 if comparison.measure.is_share else 3
  ends = comparison.corrected or ()
  shown = [value for value in (comparison.mean, *ends) if value]
  while decimals < 6 and any(abs(value) * _scale(comparison) < 0.5 * 10**-decimals for value in shown):
    decimals += 1
  return decimals
