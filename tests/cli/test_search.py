"""`bert-jax search` as a person has it: a file becomes an index, and the index answers."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import console
from bert_jax.cli import main
from bert_jax.inference import search
from bert_jax.interop import writing
from tests.interop import small

LINES = ["Snow is white.", "", "The cat sat on the mat.", "Paris\x1b[2J is the capital of France, and the sea is cold."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """A Hugging Face folder of a small BERT."""
  folder = tmp_path_factory.mktemp("model") / "hf"
  writing.write_files(small.make("bert", tokenizer=small.tokenizer_of()), epath.Path(folder))
  return folder


@pytest.fixture(scope="module")
def index(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
  """An index of LINES."""
  place = tmp_path_factory.mktemp("index")
  (place / "texts").write_text("\n".join(LINES) + "\n")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(console, "log_own_lines_only", lambda: None)
    assert call("search", "index", folder, place / "texts", "--output", place / "I") == 0
  return place / "I"


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(console, "log_own_lines_only", lambda: None)


def call(*arguments: object) -> int:
  return main.main([str(argument) for argument in arguments])


def answers_of(text: str) -> list[dict[str, Any]]:
  return [json.loads(line) for line in text.splitlines()]


def test_a_text_finds_itself_under_its_line(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert call("search", "query", index, LINES[2], LINES[0], "--top-k", 2) == 0
  found = answers_of(capsys.readouterr().out)
  assert [row["query"] for row in found] == [LINES[2], LINES[0]]
  for row, line in zip(found, (3, 1), strict=True):
    assert [answer["rank"] for answer in row["answers"]] == [1, 2]
    assert row["answers"][0] | {"score": 0} == {"rank": 1, "score": 0, "id": str(line), "text": LINES[line - 1]}
    assert row["answers"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert row["answers"][1]["score"] < row["answers"][0]["score"]


def test_blank_lines_are_left_out_and_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  (tmp_path / "texts").write_text("\n".join(LINES))
  assert call("search", "index", folder, tmp_path / "texts", "-o", tmp_path / "I") == 0
  said = capsys.readouterr()
  assert said.out == f"{tmp_path / 'I'}: 3 texts, 24 numbers each\n"
  assert "1 of 4 texts of" in said.err
  assert [row["id"] for row in answers_of((tmp_path / "I" / "texts.jsonl").read_text())] == ["1", "3", "4"]


def test_a_table_is_indexed_by_its_columns(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  (tmp_path / "t.csv").write_text('key,what\na7,"Snow\nis, white."\nb9,the sea\nc1,\n')
  assert call("search", "index", folder, tmp_path / "t.csv", "--text=what", "--id=key", "-o", tmp_path / "I") == 0
  (tmp_path / "q.jsonl").write_text('{"q": "the sea"}\n{"q": ""}\n{"q": "Snow\\nis, white."}\n')
  out = tmp_path / "found.jsonl"
  assert call("search", "query", tmp_path / "I", "--queries", tmp_path / "q.jsonl", "--text=q", "-o", out) == 0
  found = answers_of(out.read_text())
  assert [(row["query"], row["answers"][0]["id"]) for row in found] == [("the sea", "b9"), ("Snow\nis, white.", "a7")]
  assert [len(row["answers"]) for row in found] == [2, 2]
  assert capsys.readouterr().out == f"{tmp_path / 'I'}: 2 texts, 24 numbers each\n"


def test_queries_come_from_stdin(index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfthe sea\r\n\r\nParis\r\n")))
  assert call("search", "query", index) == 0
  assert [row["query"] for row in answers_of(capsys.readouterr().out)] == ["the sea", "Paris"]


def test_a_terminal_gets_a_list(index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
  monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size((40, 20)))
  assert call("search", "query", index, LINES[3], LINES[0], "--top-k=1") == 0
  assert capsys.readouterr().out.split("\n") == [
    "Paris\ufffd[2J is the capital of France, and…",
    "   1   1.000  4  Paris\ufffd[2J is the capit…",
    "",
    "Snow is white.",
    "   1   1.000  1  Snow is white.",
    "",
  ]


def test_a_person_is_answered_line_by_line(index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
  typed, seen = iter([LINES[0], " ", LINES[2]]), []

  def ask(prompt: str) -> str:
    seen.append(capsys.readouterr().out)
    try:
      return next(typed)
    except StopIteration:
      raise EOFError from None

  monkeypatch.setattr("builtins.input", ask)
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
  monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
  assert call("search", "query", index, "--top-k=1") == 0
  assert seen == ["", f"   1   1.000  1  {LINES[0]}\n", "", f"   1   1.000  3  {LINES[2]}\n"]


def test_a_model_that_moved_or_was_converted_is_taken(
  folder: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  assert call("import", folder, tmp_path / "M") == 0
  assert call("export", tmp_path / "M", tmp_path / "back") == 0
  capsys.readouterr()
  assert call("search", "query", index, "snow") == 0
  expected = capsys.readouterr().out
  for model in (tmp_path / "M", tmp_path / "back"):
    assert call("search", "query", index, "snow", "--model", model) == 0
    assert capsys.readouterr().out == expected


def test_an_index_says_where_its_model_was(
  folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
  bert_jax.load(folder).save(tmp_path / "M")
  (tmp_path / "texts").write_text("one\n")
  monkeypatch.chdir(tmp_path)
  assert call("search", "index", "M", "texts", "-o", "I") == 0
  monkeypatch.chdir("/")
  assert call("search", "query", tmp_path / "I", "one") == 0
  (tmp_path / "M").rename(tmp_path / "N")
  assert call("search", "query", tmp_path / "I", "one") == 1
  said = capsys.readouterr().err
  assert f"{tmp_path / 'I'} was made with {tmp_path / 'M'}, which does not open: " in said
  assert "say so with --model" in said
  assert call("search", "query", tmp_path / "I", "one", "--model", tmp_path / "N") == 0


def test_what_goes_wrong_is_a_line_and_leaves_nothing(
  folder: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
  monkeypatch.setattr(bert_jax, "load", lambda *_: pytest.fail("a model was opened"))
  (tmp_path / "blank").write_text("\n \n")
  (tmp_path / "empty").write_text("")
  (tmp_path / "latin").write_bytes("one\nCafé\n".encode("latin-1"))
  (tmp_path / "good").write_text("one\n")
  (tmp_path / "twice.csv").write_text("text,id\none,a\n,a\ntwo,b\nthree,a\n")
  (tmp_path / "half.jsonl").write_text('{"text": "one"}\n{"text": "\\ud83d"}\n')
  os.mkfifo(tmp_path / "pipe")
  before = sorted(path.name for path in tmp_path.iterdir())
  out = tmp_path / "I"
  for arguments, message in (
    (("index", folder, tmp_path / "blank", "-o", out), "blank holds no text to index"),
    (("index", folder, tmp_path / "empty", "-o", out), "empty holds no text to index"),
    (("index", folder, tmp_path / "latin", "-o", out), "latin, line 2: not UTF-8"),
    (("index", folder, tmp_path / "nowhere", "-o", out), "nowhere cannot be read"),
    (("index", folder, "-", "-o", out), "- is no file, and an index is made of one"),
    (("index", folder, tmp_path / "pipe", "-o", out), "pipe is no file, and an index is made of one"),
    (("index", folder, tmp_path / "half.jsonl", "-o", out), "half.jsonl: text 2 holds half a character"),
    (("index", folder, tmp_path / "good", "-o", index), "is there already"),
    (("index", folder, tmp_path / "good", "--id=id", "-o", out), "has no columns"),
    (("index", folder, tmp_path / "twice.csv", "--id=id", "-o", out), "texts 1 and 4 both have id='a'"),
    (("index", folder, tmp_path / "twice.csv", "--text=words", "-o", out), "no column 'words'; it has 'text', 'id'"),
    (("query", tmp_path, "one"), "is no index"),
    (("query", index, "--queries", tmp_path / "blank"), "there is no query in"),
    (("query", index, "one", " "), "a query is blank"),
    (("query", index, "one", "--queries", tmp_path / "good"), "give queries or a file (--queries, --text), not both"),
    (("query", index, "one", "--text", "q"), "give queries or a file"),
    (("query", index, "one", "--top-k", 0), "--top-k=0 must be at least 1"),
    (("query", index, "one", "-o", "found.csv"), "--output=found.csv must end in .jsonl"),
    (("query", index, "--queries", tmp_path / "twice.csv", "--text=q", "-o", "-"), "no column 'q'"),
  ):
    assert call("search", *arguments) == 1, arguments
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
  assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_vectors_are_what_embed_gives(folder: Path, index: Path) -> None:
  expected = bert_jax.load(folder).embed([line for line in LINES if line], normalize=True)
  np.testing.assert_allclose(np.load(index / search.VECTORS), expected, rtol=1e-5, atol=1e-6)
