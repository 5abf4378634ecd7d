"""What a run reports while it runs: JSON lines, TensorBoard where it is installed, and a person's terminal."""

import json
import os
import sys
import time
from typing import Any

from absl import logging
from etils import epath
from tqdm import tqdm


class MetricsWriter:
  """Appends to FOLDER/metrics.jsonl, one JSON object a line; this file is the truth, other writers are copies."""

  def __init__(self, folder: epath.Path, step: int):
    """Opens the file to go on from `step`: lines of later steps are of a run that was cut off, and are dropped."""
    self.path = folder / "metrics.jsonl"
    kept = [line for line in read_metrics(folder) if line["step"] <= step] if step else []
    _write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))
    self._file = self.path.open("a")
    self._board = _tensorboard(folder / "tensorboard", step)

  def __enter__(self) -> "MetricsWriter":
    return self

  def __exit__(self, *_: Any) -> None:
    self._file.close()
    if self._board is not None:
      self._board.close()

  def write(self, kind: str, step: int, values: dict[str, float | int | None]) -> None:
    """One line: `kind` is train or eval."""
    self._file.write(json.dumps({"kind": kind, "step": step} | values) + "\n")
    self._file.flush()
    if self._board is not None:
      for name, value in values.items():
        if value is not None:
          self._board.add_scalar(f"{kind}/{name}", value, step)


def read_metrics(folder: epath.PathLike) -> list[dict[str, Any]]:
  """The lines of FOLDER/metrics.jsonl; none where there is no file. A last line cut short by a kill is left out."""
  path = epath.Path(folder) / "metrics.jsonl"
  lines = []
  for text in path.read_text().splitlines() if path.exists() else []:
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines


def _write_atomically(path: epath.Path, text: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / (path.name + ".tmp")
  temporary.write_text(text)
  temporary.replace(path)


def write_json(path: epath.Path, value: Any) -> None:
  """Writes JSON that is there whole or not at all."""
  _write_atomically(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def _tensorboard(folder: epath.Path, step: int) -> Any:
  """A TensorBoard writer that hides what a cut-off run wrote after `step`; None where tensorboardX is missing."""
  try:
    import tensorboardX
  except ImportError:
    return None
  if "://" in os.fspath(folder):
    return None
  return tensorboardX.SummaryWriter(os.fspath(folder), purge_step=step + 1 if step else None)


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

  def update(self, step: int, values: dict[str, float]) -> None:
    """Shows loss, token/s and the share of time spent waiting for data; the time left is the bar's own."""
    if self._terminal:
      self._bar.set_postfix_str(_shown(values))
    elif time.monotonic() - self._said >= 60:
      self._said = time.monotonic()
      left = (self._said - self._start) / max(1, step - self._first) * (self._steps - step)
      logging.info("%s: step %d of %d, %s, %.0f s left", self._label, step, self._steps, _shown(values), left)

  def advance(self, step: int) -> None:
    self._bar.update(step - self._step)
    self._step = step


def _shown(values: dict[str, float]) -> str:
  return (
    f"loss {values['mlm_loss']:.3f}, {values['tokens_per_second'] / 1000:.1f}k token/s,"
    f" data wait {values['data_wait_share']:.0%}"
  )
