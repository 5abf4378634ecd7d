"""The shapes and dtypes that signatures state are those of every network and objective."""

import subprocess
import sys

import pytest

from tests import tiny


@pytest.mark.slow
def test_what_signatures_state_holds_and_a_mistake_is_seen() -> None:
  done = subprocess.run([sys.executable, "-m", "tests.shapes"], cwd=tiny.ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
