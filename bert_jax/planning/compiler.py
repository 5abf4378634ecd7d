"""Asks the compiler of TPUs, which runs in a process of its own, and keeps what it said."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from typing import Any

import bert_jax
from bert_jax import records, settings
from bert_jax.config import Config
from bert_jax.planning import compiled
from bert_jax.planning.accelerators import SLICES, Topology
from bert_jax.planning.plan import CompilerCrashed

_TIMEOUT = 1200.0  # seconds of one compilation


def compile_elsewhere(config: Config, topology: Topology) -> dict[str, Any]:
  """What `compiled.compile_step` says, from the cache where it was asked before; a line of progress on stderr.

  Raises:
    CompilerCrashed: it ended on a check of its own.
    ValueError: the compiler of TPUs is not installed, does not know the slice, or fails.
  """
  asked = {"config": settings.to_dict(config), "topology": topology.name}
  file = _cache() / f"{settings.fingerprint({**asked, 'by': _versions()})}.json"
  if (known := records.read_json(file, "remove it")) is not None:
    return known
  what = f"compiling for {topology.name}, {config.train.batch_size:,} × {config.data.max_seq_len} tokens"
  done = _run_program(json.dumps(asked), what)
  if done.returncode:
    if found := re.search(r"^F\d{4} .*?\] (Check failed.*)", done.stderr, re.MULTILINE):
      raise CompilerCrashed(
        f"--topology={topology.name}: the compiler of TPUs crashes on {config.train.batch_size:,} ×"
        f" {config.data.max_seq_len} tokens ({found[1][:200]}); try another train.batch_size or"
        " runtime.accumulation_steps, or another version of libtpu"
      )
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    raise ValueError(
      f"the compiler could not be asked about --topology={topology.name}: {last[:300]}; the slices that were tried are"
      f" {', '.join(f'{topology.chip.name}:{size}' for size in SLICES[topology.chip.name])}"
    )
  answer = json.loads(done.stdout.splitlines()[-1])
  file.parent.mkdir(parents=True, exist_ok=True)
  records.write_json(file, answer)
  return answer


def _versions() -> dict[str, str]:
  """Of all that decides what comes out: the libraries, and our own code."""
  try:
    known = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}
  except importlib.metadata.PackageNotFoundError as error:
    raise ValueError('the compiler of TPUs is not installed: pip install "bert_jax[plan]"') from error
  hasher = hashlib.sha256()
  for folder, _, names in sorted(os.walk(pathlib.Path(bert_jax.__file__).parent)):
    for name in sorted(names):
      if name.endswith(".py"):
        hasher.update(pathlib.Path(folder, name).read_bytes())
  return {**known, "code": hasher.hexdigest()}


def _cache() -> Any:
  from etils import epath

  return epath.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "bert_jax" / "plans"


def _run_program(asked: str, what: str) -> subprocess.CompletedProcess[str]:
  command = [sys.executable, "-m", "bert_jax.planning.compiled"]
  began, shown = time.monotonic(), 0.0
  with subprocess.Popen(
    command,
    env={**os.environ, **compiled.ENVIRONMENT},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    sent: str | None = asked
    try:
      while True:
        try:
          out, errors = process.communicate(sent, timeout=1.0)
          break
        except subprocess.TimeoutExpired:
          sent, passed = None, time.monotonic() - began
          if passed > _TIMEOUT:
            raise ValueError(f"{what} took more than {_TIMEOUT:.0f} s") from None
          if sys.stderr.isatty():
            print(f"\r{what}: {passed:.0f} s", end="", file=sys.stderr, flush=True)
          elif passed - shown >= 15:
            shown = passed
            print(f"{what}: {passed:.0f} s", file=sys.stderr)
    finally:
      process.kill()
      if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
  return subprocess.CompletedProcess(command, process.returncode, out, errors)
