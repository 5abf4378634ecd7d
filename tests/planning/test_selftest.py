"""What users try on their own devices passes here, on four, and sees what does not hold."""

import time
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax import recipes
from bert_jax.planning import selftest
from bert_jax.planning.selftest import Check


@pytest.mark.exhaustive
@pytest.mark.slow
def test_everything_holds_on_these_devices() -> None:
  checks = list(selftest.run())
  assert [check for check in checks if check.holds is not True] == []
  whats = " ".join(check.what for check in checks)
  for what in ("microbatches", "data:1 has", "fsdp:2", "tensor:2", "fused", "bfloat16", "stopped", "flipped"):
    assert what in whats
  assert selftest.report(checks, time.monotonic()).startswith(f"{len(checks)} of {len(checks)} hold, in 0 s, on 4 cpu")


def test_gradients_are_apart_by_their_difference() -> None:
  one = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
  assert selftest._apart(one, one) == 0
  assert selftest._apart(one, {"a": np.array([3.0, 0.5]), "b": np.array([[4.0]])}) == pytest.approx(0.1)


def test_a_gradient_that_differs_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
  """Each way to compute it is compared with the first."""
  calls = iter(range(100))

  def gradient(*_: Any) -> Any:
    return {"loss": 1.0}, {"a": np.array([1.0, 0.0 if next(calls) < 3 else 0.2])}

  monkeypatch.setattr(selftest, "_gradient", gradient)
  nothing: Any = None
  checks = list(selftest._gradients(recipes.recipe("bert_base"), nothing, epath.Path("x")))
  assert [check.holds for check in checks[:3]] == [True, True, False]
  assert "2.0e-01 apart" in checks[2].said


def test_an_error_is_a_check_that_fails_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
  def broken(*_: Any) -> Any:
    raise RuntimeError("no such kernel")
    yield

  def fine(*_: Any) -> Any:
    yield Check("something", "yes", True)

  monkeypatch.setattr(selftest, "_TRIALS", {"attention": broken, "more": fine})
  assert list(selftest.run()) == [
    Check("attention", "RuntimeError: no such kernel", False),
    Check("something", "yes", True),
  ]
