"""The platform that a process computes on: which one, its memory, and the compiled programs that it keeps."""

import ctypes
import functools
import os
import sys

import jax


def select_platform(platform: str | None) -> None:
  """Makes JAX use `platform` (cpu, gpu or tpu), or whatever it finds where that is None.

  Raises:
    ValueError: the platform was asked for and is not there. Nothing falls back to the CPU silently.
  """
  keep_freed_memory()
  if platform is None:
    return
  try:
    jax.config.update("jax_platforms", {"gpu": "cuda,rocm"}.get(platform, platform))
    found = jax.default_backend()
  except RuntimeError as error:
    raise ValueError(
      f"--platform={platform}: JAX finds no such device ({str(error).splitlines()[0]}); install the extra for it"
      " (docs/devices.md) or leave the flag out to run on the CPU"
    ) from error
  if found != platform and platform != "gpu":
    raise ValueError(f"--platform={platform}: JAX chose {found}")


def use_compilation_cache() -> None:
  """Keeps compiled programs from one process to the next: a second start of a run compiles nothing.

  The folder is JAX's own setting, JAX_COMPILATION_CACHE_DIR, and where that is not set the user's cache folder.
  """
  if not jax.config.values["jax_compilation_cache_dir"]:
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    jax.config.update("jax_compilation_cache_dir", os.path.join(caches, "bert_jax", "compiled"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@functools.cache
def keep_freed_memory() -> None:
  """Makes glibc give memory that one step freed to the next one, in place of back to the system.

  On CPU, XLA allocates the intermediate arrays of a step at once and frees them after it. By default glibc maps so
  large a block again each time, and the page faults of touching it took a quarter of a small model's step. It helps
  only before JAX starts its threads, for their arenas give memory back whatever the thresholds.
  """
  if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
    return
  trim_threshold, mmap_max, arena_max = -1, -4, -8  # malloc.h
  libc.mallopt(mmap_max, 0)
  libc.mallopt(trim_threshold, -1)
  libc.mallopt(arena_max, 1)
