"""What all tests run under: four fake CPU devices, no silent broadcasting, kept compiled programs."""

import importlib.util
import os
import pathlib
from collections.abc import Iterator

import hypothesis
import jax
import jax.numpy as jnp
import pytest

from tests import shapes

if os.environ.get("CHECK_SHAPES"):  # see tests/shapes.py, which is a test of its own
  shapes.install()

PARITY_NEEDS = ("torch", "transformers")
# XLA's emitters of fusions cost more of the compiler's time than all the rest of it, and a test runs what it compiles
# a few times. What a test starts inherits this.
LESS_TO_COMPILE = "--xla_cpu_use_fusion_emitters=false"


def pytest_configure(config: pytest.Config) -> None:
  os.environ.setdefault("HF_HUB_OFFLINE", "1")
  # Machines are shared: how long an example takes says nothing about the code.
  slow = hypothesis.HealthCheck.too_slow
  hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[slow])
  hypothesis.settings.load_profile("untimed")
  if LESS_TO_COMPILE not in (given := os.environ.get("XLA_FLAGS", "")):
    os.environ["XLA_FLAGS"] = f"{given} {LESS_TO_COMPILE}"
  jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))  # cuda for `-m gpu`
  jax.config.update("jax_num_cpu_devices", 4)
  jax.config.update("jax_numpy_rank_promotion", "raise")
  # Tests spend most of their time in the compiler. Those that run experiments keep all optimizations.
  jax.config.update("jax_disable_most_optimizations", True)
  cache = getattr(config, "cache", None)  # none with -p no:cacheprovider
  if not jax.config.values["jax_compilation_cache_dir"] and cache is not None:
    jax.config.update("jax_compilation_cache_dir", str(cache.mkdir("compiled")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def bfloat16() -> None:
  """Skips where jaxlib multiplies no bfloat16 into float32 on a CPU, as 0.7.2 does not; 0.10 does."""
  features, table = jnp.ones((2, 3, 4), jnp.bfloat16), jnp.ones((7, 4), jnp.bfloat16)
  try:
    scores = jax.jit(lambda x, y: jnp.einsum("bkd,vd->bkv", x, y, preferred_element_type=jnp.float32))
    jax.block_until_ready(scores(features, table))
  except jax.errors.JaxRuntimeError as error:
    pytest.skip(f"this jaxlib does not do that on a CPU: {error}")


@pytest.fixture(scope="module", autouse=True)
def _programs_are_let_go() -> Iterator[None]:
  """Drops a module's compiled programs: kept until the end, they use up the mappings that Linux gives a process."""
  yield
  jax.clear_caches()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Puts whole runs first, and leaves out what is marked `parity` where the extra of that name is not installed.

  Whole runs take longest, and are tested by files beside this one: begun last, they would leave one process to work
  alone for minutes.
  """
  here = pathlib.Path(__file__).parent
  items.sort(key=lambda item: item.path.parent != here)
  missing = [name for name in PARITY_NEEDS if importlib.util.find_spec(name) is None]
  if not missing:
    return
  skip = pytest.mark.skip(reason=f"needs {' and '.join(missing)}: pip install -e '.[parity]' brings them")
  for item in items:
    if item.get_closest_marker("parity"):
      item.add_marker(skip)
