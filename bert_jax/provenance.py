"""Where a result comes from: versions, commit, hardware in words; standard library only."""

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("bert_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tokenizers", "sentencepiece")


@functools.cache
def versions() -> dict[str, str]:
  """Python's version and that of each package that may change a result."""
  found = {"python": platform.python_version()}
  for package in PACKAGES:
    try:
      found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      found[package] = "not installed"
  return found


@functools.cache
def git_commit() -> str | None:
  """The commit of the source tree, with `+` where it has changes; None where this is no checkout."""
  folder = Path(__file__).resolve().parent
  try:
    commit = _git(folder, "rev-parse", "HEAD")
    return commit + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
  except (OSError, subprocess.SubprocessError):
    return None


def _git(folder: Path, *arguments: str) -> str:
  done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
  return done.stdout.strip()


def cpu_in_words() -> str:
  """Cores that this process may use, and the processor's family."""
  count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  return f"{count} CPU core{'s' if count != 1 else ''} ({platform.machine()})"
