"""What a run reports while it runs: JSON lines, TensorBoard where it is installed, and a person's terminal."""

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from absl import logging
from etils import epath
from tqdm import tqdm

from bert_jax import records
from bert_jax.results import Pretrained


class MetricsWriter:
  """Appends to FOLDER/metrics.jsonl, one JSON object with its checksum a line; it is the truth, others are copies."""

  def __init__(self, folder: epath.Path, step: int):
    """Opens the file to go on from `step`: lines of later steps are of a run that was cut off, and are dropped.

    Raises:
      ValueError: it cannot be written.
    """
    self.path = folder / "metrics.jsonl"
    kept = [line for line in read_metrics(folder) if line["step"] <= step] if step else []
    content = "".join(map(records.line, kept)).encode()
    try:
      if not self.path.exists() or self.path.read_bytes() != content:
        records.write_text(self.path, content.decode())
      self._file = self.path.open("a")
    except OSError as error:
      raise records.write_error(self.path, error) from error
    self._board = _tensorboard(folder / "tensorboard", step)

  def __enter__(self) -> "MetricsWriter":
    return self

  def __exit__(self, *_: Any) -> None:
    with contextlib.suppress(OSError):  # every line was flushed, or its failure raised, when it was written
      self._file.close()
    with contextlib.suppress(OSError):  # a copy only
      if self._board is not None:
        self._board.close()

  def write(self, kind: str, step: int, values: dict[str, float | int | None]) -> None:
    """One line: `kind` is train or eval. What is not finite is written as null.

    Raises:
      ValueError: it cannot be written.
    """
    try:
      self._file.write(records.line({"kind": kind, "step": step} | values))
      self._file.flush()
    except OSError as error:
      raise records.write_error(self.path, error) from error
    if self._board is None:
      return
    try:
      self._board.write(step, {f"{kind}/{name}": x for name, x in records.storable(values).items() if x is not None})
    except OSError:
      self._board = None


class NoWriter:
  """In place of a writer, in processes that write nothing."""

  def __enter__(self) -> "NoWriter":
    return self

  def __exit__(self, *_: Any) -> None: ...

  def write(self, kind: str, step: int, values: dict[str, float | int | None]) -> None: ...


def read_metrics(folder: epath.PathLike) -> list[dict[str, Any]]:
  """The lines of FOLDER/metrics.jsonl; none where there is no file. What is damaged or cut short is left out."""
  return records.read_lines(epath.Path(folder) / "metrics.jsonl")


class _TensorBoard:
  """An event file of what the lines say, written in step with them.

  It is a copy, so a disk that is full ends it and nothing else. tensorboardX's own SummaryWriter writes from a thread,
  and again while the interpreter stops, where a full disk prints tracebacks over the run's own words.
  """

  def __init__(self, folder: epath.Path, step: int):
    """Opens a file that hides what a cut-off run wrote after `step`.

    Raises:
      ImportError: tensorboardX is not installed.
      OSError: it cannot be written.
    """
    with _not_there("torch"):  # tensorboardX loads all of PyTorch where it is installed, for the name of a type
      from tensorboardX import event_file_writer, summary

    event_pb2: Any = importlib.import_module("tensorboardX.proto.event_pb2")  # whose names are made at its import
    self._event, self._scalar = event_pb2.Event, summary.scalar
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f".{step}"  # or a run that goes on within a second writes over the file before
    self._events = event_file_writer.EventsWriter(os.fspath(folder / "events"), suffix)
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._events.write_event(event_pb2.Event(step=step + 1, session_log=start))

  def write(self, step: int, values: dict[str, float]) -> None:
    for name, value in values.items():
      scalar = self._scalar(name, value)
      self._events.write_event(self._event(wall_time=time.time(), step=step, summary=scalar))
    self._events.flush()

  def close(self) -> None:
    self._events.close()


@contextlib.contextmanager
def _not_there(package: str) -> Iterator[None]:
  """Imports find no such package, unless it is loaded already."""
  if package in sys.modules:
    yield
    return
  sys.modules[package] = None  # type: ignore[assignment]
  try:
    yield
  finally:
    del sys.modules[package]


def _tensorboard(folder: epath.Path, step: int) -> _TensorBoard | None:
  """None where tensorboardX is missing or cannot write."""
  if "://" in os.fspath(folder):
    return None
  with contextlib.suppress(ImportError, OSError):
    return _TensorBoard(folder, step)
  return None


def in_words(seconds: float) -> str:
  """A span of time for a person: `40 s`, `12 min`, `3 h 20 min`."""
  if seconds < 100:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def in_one_line(result: Pretrained) -> str:
  """What came of a run, for a person."""
  if result.status != "finished":
    return f"{result.status}: {result.reason}"
  measures = result.measures
  # A model that never sees [MASK] in training is not measured there; see `masked_lm_measure`.
  places, where = ("mlm", "over all places") if measures["mask_loss"] is None else ("mask", "at [MASK]")
  return (
    f"held-out loss {where} {measures[f'{places}_loss']:.3f} nats (without context"
    f" {result.trivial[f'context_free_{places}_loss']:.3f}), {measures[f'{places}_accuracy']:.1%} right, after"
    f" {result.steps:,} steps and {result.tokens:,} tokens"
  )


class Progress:
  """A progress bar, or one line a minute where standard error is no terminal."""

  def __init__(self, label: str, step: int, steps: int):
    self._label, self._step, self._steps, self._first = label, step, steps, step
    self._terminal = sys.stderr.isatty()
    self._start = self._said = time.monotonic()
    self._bar = tqdm(total=steps, initial=step, desc=label, unit="step", disable=not self._terminal, smoothing=0.05)

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *_: Any) -> None:
    self._bar.close()

  def say(self, what: str) -> None:
    """Says what is going on while no step is done."""
    if self._terminal:
      self._bar.set_postfix_str(what)
    else:
      logging.info("%s: %s", self._label, what)

  def update(self, step: int, values: dict[str, float]) -> None:
    """Shows losses, token/s and the share of time spent waiting for data; the time left is the bar's own."""
    if self._terminal:
      self._bar.set_postfix_str(_shown(values))
    elif time.monotonic() - self._said >= 60:
      self._said = time.monotonic()
      left = (self._said - self._start) / max(1, step - self._first) * (self._steps - step)
      logging.info("%s: step %d of %d, %s, %s left", self._label, step, self._steps, _shown(values), in_words(left))

  def advance(self, step: int) -> None:
    self._bar.update(step - self._step)
    self._step = step


def _shown(values: dict[str, float]) -> str:
  losses = {name.removesuffix("_loss"): value for name, value in values.items() if name.endswith("_loss")}
  # Of several each by its name: which of them comes first says nothing.
  shown = ", ".join(f"{name if len(losses) > 1 else 'loss'} {value:.3f}" for name, value in losses.items())
  return f"{shown}, {values['tokens_per_second'] / 1000:.1f}k token/s, data wait {values['data_wait_share']:.0%}"
