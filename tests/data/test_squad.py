"""Questions from SQuAD's JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from bert_jax.data import squad

PASSAGE = "Paris is the capital of France. Paris lies on the Seine."


def content(**changes: Any) -> dict[str, Any]:
  asked = {
    "id": "q1",
    "question": "Where?",
    "answers": [{"text": "the Seine", "answer_start": PASSAGE.index("the Seine")}],
  }
  return {"data": [{"title": "Paris", "paragraphs": [{"context": PASSAGE, "qas": [asked | changes]}]}]}


def read(tmp_path: Path, value: Any, training: bool = True) -> Any:
  (tmp_path / "x.json").write_text(value if isinstance(value, str) else json.dumps(value))
  return squad.read(tmp_path / "x.json", training).questions


def test_questions_with_their_passages(tmp_path: Path) -> None:
  (found,) = read(tmp_path, content())
  (text, start) = found.answers[0]
  assert (found.id, found.title, found.impossible) == ("q1", "Paris", False)
  assert found.context[start : start + len(text)] == "the Seine"
  (none,) = read(tmp_path, content(answers=[], is_impossible=True))
  assert none.impossible
  assert none.answers == ()


def test_an_answer_is_looked_for_and_a_question_without_one_is_left_out(
  tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
  caplog.set_level("WARNING", logger="absl")
  value = content(answers=[{"text": "Paris", "answer_start": 29}])
  value["data"][0]["paragraphs"][0]["qas"].append(
    {"id": "q2", "question": "Who?", "answers": [{"text": "Rome", "answer_start": 0}]}
  )
  (found,) = read(tmp_path, value)
  assert found.answers == (("Paris", 32),), "the nearer of the two places"
  assert (
    "1 questions are left out, for none of their answers stands in its passage; 1 answers stand elsewhere"
    in caplog.text
  )
  one, two = read(tmp_path, value, training=False)
  assert (one.answers, two.answers) == ((("Paris", 29),), (("Rome", 0),)), "to measure by, they stay as they are"


@pytest.mark.parametrize(
  ("value", "message"),
  [
    ("{", "is no JSON"),
    ([], r"x.json has no 'data'; it has nothing"),
    ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\], paragraphs\[0\] has no 'context'; it has 'qas'"),
    ({"data": [{"paragraphs": [3]}]}, r"paragraphs\[0\] is a JSON int, and must be an object"),
    (content(answers=[{"text": "Paris", "answer_start": "0"}]), r"answers\[0\]: answer_start='0' must be a JSON int"),
    (content(is_impossible="no"), "is_impossible='no' must be true or false"),
    ({"data": []}, "has no question"),
    ({"data": content()["data"] * 2}, "has the id 'q1' 2 times; give each question one of its own"),
  ],
)
def test_what_is_not_squad_is_said_with_its_place(tmp_path: Path, value: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    read(tmp_path, value)
