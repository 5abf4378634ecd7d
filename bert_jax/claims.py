"""Who does which run, where several processes work in one folder: files that outlive a crash.

A run is taken by making RUN/.claim-1, which only one process can. Its holder touches the file every `BEAT_SECONDS`. One
that nobody has touched for `STALE_SECONDS` is of a process that has died, and the run is taken over by making .claim-2,
and so on: the highest number counts, and lower ones are removed. Whoever does not find its own file as the highest has
been taken for dead, and stops. A process that died on the same machine is known at once. Clocks of machines are never
compared: how long a file has not changed, each process sees for itself.
"""

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging
from etils import epath

BEAT_SECONDS = 15.0
STALE_SECONDS = 150.0  # some beats, and the minute that a network file system may show an old time for
_NAME = re.compile(r"\.claim-([1-9]\d*)")


class Claim:
  """A run that this process does; it beats until it is let go."""

  def __init__(self, folder: epath.Path, number: int, on_loss: Callable[[], None]):
    self._folder, self._number, self._on_loss = folder, number, on_loss
    self._path, self._me = folder / f".claim-{number}", _myself()
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._beat, daemon=True, name=f"claim of {folder}")
    self._thread.start()

  def _beat(self) -> None:
    while not self._ended.wait(BEAT_SECONDS):
      try:
        if _highest(self._folder) != self._number or not self._is_mine():
          logging.warning("%s was taken over by another process, for this one had stood still", self._folder)
          self._on_loss()
          return
        _touch(self._path)
      except OSError as error:  # of a network file system, which may come back
        logging.warning("%s cannot be touched: %s", self._path, error)

  def _is_mine(self) -> bool:
    """Whether the file is this process's, and not one of the same number that another made after it was removed."""
    try:
      owner = json.loads(self._path.read_text())
    except FileNotFoundError:
      return False
    except ValueError:  # it is being written; the next beat tells
      return True
    return self._me.items() <= owner.items()

  def let_go(self) -> None:
    """Leaves the run to others, done or not."""
    self._ended.set()
    self._thread.join()
    with contextlib.suppress(OSError):
      if self._is_mine():
        self._path.unlink(missing_ok=True)


class Claims:
  """What one process knows of others' claims: when it saw each of them change last."""

  def __init__(self, on_loss: Callable[[], None] | None = None):
    """on_loss: called from a thread when a run was taken from this process; by default, it gets a SIGTERM."""
    self._seen: dict[str, tuple[Any, float]] = {}  # path → its state, and since when
    self._on_loss = on_loss or (lambda: os.kill(os.getpid(), signal.SIGTERM))

  def take(self, folder: epath.Path) -> Claim | None:
    """The run of a folder, for this process to do; None where another one lives that does it.

    Raises:
      ValueError: the folder cannot be written to.
    """
    number = _highest(folder)
    if number and self.holder(folder) is not None:
      return None
    try:
      folder.mkdir(parents=True, exist_ok=True)
      made = _create(folder / f".claim-{number + 1}", json.dumps(_myself()))
    except OSError as error:
      raise ValueError(f"{folder} cannot be written to: {error.strerror or error}") from error
    if not made:
      return None
    if _highest(folder) != number + 1:  # this process stood still meanwhile, and another has taken it over
      (folder / f".claim-{number + 1}").unlink(missing_ok=True)
      return None
    for below in range(1, number + 1):  # of processes that have died, or will see by this that they count as dead
      with contextlib.suppress(OSError):
        (folder / f".claim-{below}").unlink(missing_ok=True)
    return Claim(folder, number + 1, self._on_loss)

  def holder(self, folder: epath.Path) -> dict[str, Any] | None:
    """The live process that does the run of a folder; None where there is none."""
    number = _highest(folder)
    path = folder / f".claim-{number}"
    if not number or (state := _state(path)) is None:
      return None
    known, since = self._seen.get(os.fspath(path), (None, 0.0))
    if known != state:
      known, since = self._seen[os.fspath(path)] = state, time.monotonic()
    owner = _read(path)
    if time.monotonic() - since > STALE_SECONDS or _is_dead(owner):
      return None
    return owner


def in_words(owner: dict[str, Any]) -> str:
  """A holder, for a person."""
  return f"process {owner.get('process', '?')} on {owner.get('machine', '?')}"


def held_by(folder: epath.Path, process: int) -> bool:
  """Whether the last claim of a run is of this process of this machine, dead or alive."""
  number = _highest(folder)
  owner = _read(folder / f".claim-{number}") if number else {}
  return owner.get("process") == process and owner.get("system") == _system()


# ---- files -----------------------------------------------------------------------------------------------------------


def _highest(folder: epath.Path) -> int:
  """The number of the claim that counts; 0 without one."""
  try:
    names = [path.name for path in folder.iterdir()]
  except (FileNotFoundError, NotADirectoryError):
    return 0
  return max((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), default=0)


def _create(path: epath.Path, content: str) -> bool:
  """Makes a file that is not there; False where it is. Of several processes, one makes it."""
  if "://" in os.fspath(path):
    import fsspec

    system, name = fsspec.core.url_to_fs(os.fspath(path))
    try:
      system.pipe_file(name, content.encode(), mode="create")
    except FileExistsError:
      return False
    return True
  try:
    with open(path, "x") as file:
      file.write(content)
  except FileExistsError:
    return False
  return True


def _touch(path: epath.Path) -> None:
  if "://" in os.fspath(path):
    path.write_text(json.dumps(_myself() | {"beat": time.time()}))
  else:
    os.utime(path)


def _state(path: epath.Path) -> tuple[int, float] | None:
  """What changes when a file is touched."""
  try:
    found = path.stat()
  except FileNotFoundError:
    return None
  return found.length, found.mtime


def _read(path: epath.Path) -> dict[str, Any]:
  """Who made a claim; nothing where it is being written."""
  try:
    owner = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return owner if isinstance(owner, dict) else {}


# ---- processes -------------------------------------------------------------------------------------------------------


def _myself() -> dict[str, Any]:
  process = os.getpid()
  return {"machine": platform.node(), "system": _system(), "process": process, "started": _started(process)}


def _system() -> str:
  """Names a running system in which a process id means one process: a machine since it started, or a container on it.

  Empty where that is not known, so that nobody is taken for dead by its id.
  """
  if sys.platform == "darwin":
    return platform.node()
  try:
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ""


def _started(process: int) -> str | None:
  """When a process of this system started, as the system says it; None where there is no such process."""
  if sys.platform == "darwin":
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(process)], capture_output=True, text=True)
    return found.stdout.strip() or None
  try:
    stat = Path(f"/proc/{process}/stat").read_text()
  except OSError:
    return None
  fields = stat.rpartition(")")[2].split()  # after the name, which may hold anything
  return None if fields[0] in "ZX" else fields[19]


def _is_dead(owner: dict[str, Any]) -> bool:
  """Whether a holder is of this system, and not there any more."""
  system = _system()
  return bool(system) and owner.get("system") == system and _started(owner["process"]) != owner.get("started")
