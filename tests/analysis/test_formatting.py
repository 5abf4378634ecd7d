"""Numbers as people read them."""

import itertools

import pytest

from bert_jax.analysis import formatting
from bert_jax.analysis.plots import _spread_out
from bert_jax.analysis.statistics import Spread


@pytest.mark.parametrize(
  ("value", "text"),
  [
    (0, "0"),
    (512, "512"),
    (999.9, "1.00k"),
    (15_432, "15.4k"),
    (999_600, "1.00M"),
    (2.3e6, "2.30M"),
    (1.05e9, "1.05B"),
  ],
)
def test_si(value: float, text: str) -> None:
  assert formatting.si(value) == text


@pytest.mark.parametrize(
  ("seconds", "text"), [(4.21, "4.2 s"), (59.97, "1 min 0 s"), (125, "2 min 5 s"), (4320, "1 h 12 min")]
)
def test_duration(seconds: float, text: str) -> None:
  assert formatting.duration(seconds) == text


def test_signs() -> None:
  assert formatting.signed(0.0004, 3) == formatting.signed(-0.0004, 3) == "0.000"
  assert formatting.signed(0.0104, 3) == "+0.010"
  assert formatting.signed(-0.0104, 3) == "−0.010"


def test_lists_and_means() -> None:
  assert [formatting.listing(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
  assert formatting.mean_sd(Spread(1, 0.4567, None), 1, 100) == "45.7"
  assert formatting.mean_sd(Spread(2, 5.9123, 0.0131), 3) == "5.912 ± 0.013"
  assert formatting.mean_sd(None, 3) == "–"


def test_labels_are_pushed_apart_and_stay_in_order_and_inside() -> None:
  wanted = [1.0, 1.01, 1.02, 5.0, 9.99, 10.0]
  places = _spread_out(wanted, 0.5, 0.0, 10.0)
  # Sums of a few floats; 1e-9 is far below what can be seen.
  assert all(above - below >= 0.5 - 1e-9 for below, above in itertools.pairwise(places))
  assert places[0] >= 0
  assert places[-1] <= 10 + 1e-9
  assert places[3] == pytest.approx(5.0)
  assert sum(places[:3]) == pytest.approx(sum(wanted[:3]))
