"""Files that carry their checksum: any flipped bit is found, and costs what it damaged and no more."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax import records
from tests import tiny

VALUES = {"b": [1, 2.5, None], "a": {"name": "Zürich", "loss": 0.7, "7": -1e-30}, "status": "finished"}


@pytest.fixture
def file(tmp_path: Path) -> epath.Path:
  path = epath.Path(tmp_path) / "x.json"
  records.write_json(path, VALUES)
  return path


def test_what_is_written_is_read(file: epath.Path) -> None:
  assert records.read_json(file, "") == VALUES
  assert json.loads(file.read_text())["a"] == VALUES["a"], "by any other reader too"
  assert records.read_json(file.parent / "other.json", "") is None


def test_what_has_no_number_in_json_is_null(file: epath.Path) -> None:
  records.write_json(file, {"a": [math.nan, 1.5], "b": {3: -math.inf}})
  assert records.read_json(file, "") == {"a": [None, 1.5], "b": {"3": None}}


def test_another_layout_is_the_same(file: epath.Path) -> None:
  file.write_text(json.dumps(json.loads(file.read_text())))
  assert records.read_json(file, "") == VALUES


def test_every_flipped_bit_is_found_or_changes_nothing(file: epath.Path) -> None:
  content = file.read_bytes()
  for bit in range(8 * len(content)):
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(flipped))
    try:
      assert records.read_json(file, "way out") == VALUES  # white space between the values
    except ValueError as error:
      assert str(file) in str(error)  # noqa: PT017
      assert "way out" in str(error)  # noqa: PT017


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": 1}', '{"a": NaN, "crc32": "00000000"}', "[" * 100_000, "\udcff"])
def test_what_is_no_record_is_refused(text: str, file: epath.Path) -> None:
  file.write_bytes(text.encode(errors="surrogateescape"))
  with pytest.raises(
    ValueError, match=r"x.json is not as it was written \(its|x.json is not as it was written \(it is"
  ):
    records.read_json(file, "")


def test_it_is_there_whole_or_not_at_all(file: epath.Path) -> None:
  with tiny.largest_file(50), pytest.raises(ValueError, match=r"could not write .*x.json: File too large. Make room"):
    records.write_json(file, {"a": "long" * 99})
  assert records.read_json(file, "") == VALUES


def test_a_damaged_line_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  said: list[str] = []
  monkeypatch.setattr(records.logging, "warning", lambda text, *values: said.append(text % values))
  path = epath.Path(tmp_path) / "metrics.jsonl"
  lines = [{"kind": "eval", "step": step, "mlm_loss": 4.53 - step / 7} for step in range(9)]
  written = [records.line(line) for line in lines]
  draws = np.random.default_rng(0)
  for _ in range(50):
    number, damaged = int(draws.integers(9)), [line.encode() for line in written]
    at = int(draws.integers(len(damaged[number]) - 1))
    flipped = bytearray(damaged[number])
    flipped[at] ^= 1 << int(draws.integers(8))
    damaged[number] = bytes(flipped)
    path.write_bytes(b"".join(damaged))
    said.clear()
    read: list[Any] = records.read_lines(path)
    if read != lines:
      assert read == lines[:number] + lines[number + 1 :]
      assert f"{path}, line {number + 1} is not as it was written and is left out" in said[0]
  assert said


def test_a_last_line_cut_short_is_left_out_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
  path = epath.Path(tmp_path) / "metrics.jsonl"
  path.write_text(records.line({"step": 1}) + records.line({"step": 2})[:-9])
  assert records.read_lines(path) == [{"step": 1}]
  assert not caplog.text
