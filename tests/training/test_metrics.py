"""metrics.jsonl is the truth of a run: rewound with it, whole after a kill, and null where there is no number."""

import dataclasses
import io
import json
import math
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from bert_jax import records
from bert_jax.results import Facts, Fingerprints, Pretrained
from bert_jax.training import metrics
from bert_jax.training.metrics import MetricsWriter, Progress, in_one_line, read_metrics
from tests import tiny


def write(folder: Path, start: int, steps: list[int]) -> None:
  with MetricsWriter(epath.Path(folder), start) as writer:
    for step in steps:
      writer.write("train", step, {"mlm_loss": step / 7})


def steps(folder: Path) -> list[int]:
  return [line["step"] for line in read_metrics(folder)]


def test_a_rewound_run_drops_the_lines_of_later_steps(tmp_path: Path) -> None:
  write(tmp_path, 0, [3, 6, 9, 12])
  write(tmp_path, 8, [9, 12, 15])
  assert steps(tmp_path) == [3, 6, 9, 12, 15]
  write(tmp_path, 6, [])
  assert steps(tmp_path) == [3, 6]


def test_a_run_that_starts_anew_drops_all_lines(tmp_path: Path) -> None:
  write(tmp_path, 0, [3, 6])
  write(tmp_path, 0, [5])
  assert steps(tmp_path) == [5]


def test_going_on_leaves_the_lines_as_they_are(tmp_path: Path) -> None:
  write(tmp_path, 0, [3, 6])
  before = (tmp_path / "metrics.jsonl").read_bytes()
  file = (tmp_path / "metrics.jsonl").stat().st_ino
  write(tmp_path, 6, [])
  assert (tmp_path / "metrics.jsonl").read_bytes() == before
  assert (tmp_path / "metrics.jsonl").stat().st_ino == file, "nothing to drop, nothing to write"


@pytest.mark.parametrize("cut", [1, 9, 25])
def test_a_line_cut_short_by_a_kill_costs_that_line_only(cut: int, tmp_path: Path) -> None:
  write(tmp_path, 0, [3, 6, 9])
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(path.read_bytes()[:-cut])
  # Cut by one byte a line lacks its end only, and is whole.
  assert steps(tmp_path) == ([3, 6, 9] if cut == 1 else [3, 6])
  write(tmp_path, 9, [12])
  assert steps(tmp_path) == ([3, 6, 9, 12] if cut == 1 else [3, 6, 12])
  assert path.read_text().count("\n") == len(steps(tmp_path))


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
  with MetricsWriter(epath.Path(tmp_path), 0) as writer:
    writer.write("eval", 4, {"mlm_loss": math.nan, "mlm_perplexity": math.inf, "tokens": 7, "nsp_accuracy": None})
  records.write_json(epath.Path(tmp_path) / "x.json", {"a": [math.nan, 1.5], "b": {"c": -math.inf}})

  def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")

  line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
  assert len(line.pop("crc32")) == 8
  assert line == {
    "kind": "eval",
    "step": 4,
    "mlm_loss": None,
    "mlm_perplexity": None,
    "tokens": 7,
    "nsp_accuracy": None,
  }
  values = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
  assert {name: values[name] for name in "ab"} == {"a": [None, 1.5], "b": {"c": None}}


def test_a_failed_write_names_the_file_and_the_rest_stays(tmp_path: Path) -> None:
  write(tmp_path, 0, [3])

  def fill() -> None:
    with MetricsWriter(epath.Path(tmp_path), 3) as writer:
      for step in range(4, 99):
        writer.write("train", step, {"mlm_loss": 0.5})

  with tiny.largest_file(500), pytest.raises(ValueError, match=r"could not write .*metrics.jsonl: File too large"):
    fill()
  kept = steps(tmp_path)
  assert kept[:4] == [3, 4, 5, 6]
  write(tmp_path, 5, [6, 7])
  assert steps(tmp_path) == [3, 4, 5, 6, 7]


def events(folder: Path) -> list[Any]:
  """All events of a folder, as TensorBoard reads them: files by name; a record is length, checksum, bytes, checksum."""
  from tensorboardX.proto import event_pb2 as proto

  found = []
  for path in sorted((folder / "tensorboard").iterdir()):
    content = path.read_bytes()
    while content:
      (length,) = struct.unpack("<Q", content[:8])
      found.append(proto.Event.FromString(content[12 : 12 + length]))
      content = content[16 + length :]
  return found


def test_tensorboard_files_hold_the_same_numbers(tmp_path: Path) -> None:
  write(tmp_path, 0, [3, 6])
  scalars = [(event.step, value) for event in events(tmp_path) for value in event.summary.value]
  assert [(step, value.tag) for step, value in scalars] == [(3, "train/mlm_loss"), (6, "train/mlm_loss")]
  assert [value.simple_value for _, value in scalars] == pytest.approx([3 / 7, 6 / 7])


def test_tensorboard_files_are_written_without_pytorch(tmp_path: Path) -> None:
  """Where it is installed, it would take seconds of every run to load."""
  (tmp_path / "torch.py").write_text("raise AssertionError('loaded')")
  code = (
    "import sys; from etils import epath; from bert_jax.training.metrics import MetricsWriter as M;"
    " M(epath.Path(sys.argv[1]), 0).__exit__(); print('torch' in sys.modules); import torch"
  )
  environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(tiny.ROOT)])}
  done = tiny.run([sys.executable, "-c", code, str(tmp_path / "run")], environment)
  assert done.stdout == "False\n", done.stderr
  assert done.stderr.endswith("AssertionError: loaded\n"), "and it is there again"
  assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_tensorboard_is_told_to_hide_what_a_rewound_run_wrote(tmp_path: Path) -> None:
  write(tmp_path, 0, [3, 6, 9])
  write(tmp_path, 6, [8])
  starts = [event.step for event in events(tmp_path) if event.session_log.status == event.session_log.START]
  assert starts == [1, 7], "TensorBoard drops what has this step or a later one and was written before"


def test_tensorboard_ends_where_it_cannot_be_written_and_the_lines_go_on(tmp_path: Path, monkeypatch: Any) -> None:
  with MetricsWriter(epath.Path(tmp_path), 0) as writer:
    writer.write("train", 1, {"mlm_loss": 1.0})
    board = writer._board
    if board is None:
      pytest.skip("needs tensorboardX")
    with monkeypatch.context() as patch:
      patch.setattr(board._events, "flush", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
      writer.write("train", 2, {"mlm_loss": 1.0})
    writer.write("train", 3, {"mlm_loss": 1.0})
  assert steps(tmp_path) == [1, 2, 3]
  assert 3 not in {event.step for event in events(tmp_path) if event.summary.value}


# ---- a person's terminal ---------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


VALUES = {"mlm_loss": 4.25, "tokens_per_second": 12_300.0, "data_wait_share": 0.03}


def test_a_bar_shows_loss_speed_and_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setenv("COLUMNS", "160")  # or some versions of tqdm cut the line to a narrow terminal's width
  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  with Progress("[1/2] bert, seed 0", 5, 20) as progress:
    for step in range(6, 21):
      progress.update(step, VALUES)
      progress.advance(step)
  shown = terminal.getvalue()
  for part in ("[1/2] bert, seed 0", "loss 4.250", "12.3k token/s", "data wait 3%", "20/20"):
    assert part in shown


def test_without_a_terminal_it_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
  lines: list[str] = []
  clock = [0.0]
  monkeypatch.setattr(metrics.logging, "info", lambda text, *values: lines.append(text % values))
  monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
  with Progress("bert, seed 0", 0, 400) as progress:
    for step in range(1, 301):
      clock[0] += 1.0
      progress.update(step, VALUES)
      progress.advance(step)
  assert len(lines) == 5
  assert lines[0] == "bert, seed 0: step 60 of 400, loss 4.250, 12.3k token/s, data wait 3%, 6 min left"
  with Progress("student", 0, 400) as progress:
    clock[0] += 60
    progress.update(60, {"cosine_loss": 0.07} | VALUES)
  assert "step 60 of 400, cosine 0.070, mlm 4.250, 12.3k token/s" in lines[-1]


def test_a_run_in_one_line_says_where_it_was_measured() -> None:
  result = Pretrained(
    status="finished",
    steps=1200,
    facts=Facts(1, 1.0, 1, 1, 1, 1, 1, 1, 0, 0),
    fingerprints=Fingerprints({}, "", ""),
    trivial={"context_free_mlm_loss": 5.8, "context_free_mask_loss": 6.3},
    measures={"mlm_loss": 5.5, "mlm_accuracy": 0.2, "mask_loss": 6.1, "mask_accuracy": 0.07},
    tokens=2_300_000,
  )
  assert "at [MASK] 6.100 nats (without context 6.300), 7.0% right" in in_one_line(result)
  hidden = {"mask_loss": None, "mask_accuracy": None}
  never_masked = dataclasses.replace(result, measures=result.measures | hidden)
  assert "over all places 5.500 nats (without context 5.800), 20.0% right" in in_one_line(never_masked)
