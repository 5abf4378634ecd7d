"""Questions about passages: SQuAD's JSON, 1.1 (Rajpurkar et al. 2016) and 2.0 (Rajpurkar et al. 2018)."""

import dataclasses
import json
from collections import Counter
from typing import Any

from absl import logging
from etils import epath

from bert_jax.data import compressed, tfds_sets


@dataclasses.dataclass(frozen=True)
class Question:
  """A question.

  Attributes:
    id: unique in its file.
    question: its text.
    context: the passage.
    answers: (text, where it starts in the passage's characters), of several people.
    impossible: whether the passage has no answer (2.0).
    title: of the article.
  """

  id: str
  question: str
  context: str
  answers: tuple[tuple[str, int], ...]
  impossible: bool
  title: str


@dataclasses.dataclass(frozen=True)
class Questions:
  """A file's questions, in order."""

  origin: str
  questions: tuple[Question, ...]


def read(path: epath.PathLike, training: bool, answered: bool = True) -> Questions:
  """The questions of a file.

  Args:
    path: of the file, which may be compressed; tfds:NAME:SPLIT is a TensorFlow data set such as squad.
    training: whether they are to learn from. Then an answer that does not stand where the file says is looked for in
      the whole passage, and a question of which no answer is found is left out; the log says how many are. To measure
      by, answers stay as they are, for their places do not matter.
    answered: whether the questions come with answers; else none are read.

  Raises:
    ValueError: the file cannot be read, or something is not where SQuAD has it; an id comes twice.
  """
  if str(path).startswith(tfds_sets.PREFIX):
    content: Any = _of_tfds(str(path), answered)
  else:
    content = _content(epath.Path(path))
  found: list[Question] = []
  moved = left_out = 0
  for article, where in _each(content, "data", str(path)):
    for paragraph, here in _each(article, "paragraphs", where):
      context = _value(paragraph, "context", str, here)
      for asked, there in _each(paragraph, "qas", here):
        question = _question(asked, context, str(article.get("title", "")), there, answered)
        if training and not question.impossible:
          answers = [_placed(answer, context) for answer in question.answers]
          kept = tuple(answer for answer in answers if answer is not None)
          moved += sum(a != b for a, b in zip(answers, question.answers, strict=True) if a is not None)
          if not kept:
            left_out += 1
            continue
          question = dataclasses.replace(question, answers=kept)
        found.append(question)
  if left_out or moved:
    logging.warning(
      "%s: %d questions are left out, for none of their answers stands in its passage; %d answers stand elsewhere than"
      " the file says",
      *(path, left_out, moved),
    )
  if not found:
    raise ValueError(f"{path} has no question" + (" whose answer is in its passage" if left_out else ""))
  name, times = Counter(question.id for question in found).most_common(1)[0]
  if times > 1:
    raise ValueError(f"{path} has the id {name!r} {times} times; give each question one of its own")
  return Questions(str(path), tuple(found))


def _content(path: epath.Path) -> Any:
  try:
    with path.open("rb") as raw, compressed.plain(path, raw) as stream:
      return json.loads(stream.read().decode("utf-8-sig"))
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is no JSON of UTF-8 text: {error}") from error
  except (EOFError, OSError, *compressed.errors()) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def _of_tfds(path: str, answered: bool) -> dict[str, Any]:
  """A TensorFlow data set as SQuAD's JSON has it: squad, and squad/v2.0, whose answers may be none."""
  articles = []
  fields = ["id", "title", "context", "question", *(["answers"] if answered else [])]
  for _, record in tfds_sets.records(path, fields):
    of_people = record["answers"] if answered else {"text": [], "answer_start": []}
    texts, starts = of_people["text"], of_people["answer_start"]
    answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    asked = {"id": record["id"], "question": record["question"], "answers": answers, "is_impossible": not answers}
    articles.append({"title": record["title"], "paragraphs": [{"context": record["context"], "qas": [asked]}]})
  return {"data": articles}


def _question(asked: dict[str, Any], context: str, title: str, where: str, answered: bool) -> Question:
  answers = []
  for answer, there in _each(asked, "answers", where) if answered else []:
    answers.append((_value(answer, "text", str, there), _value(answer, "answer_start", int, there)))
  impossible = asked.get("is_impossible", False)
  if not isinstance(impossible, bool):
    raise ValueError(f"{where}: is_impossible={impossible!r:.40} must be true or false")
  name = asked.get("id")
  if not isinstance(name, str | int):
    raise ValueError(f"{where}: id={name!r:.40} must be a text")
  return Question(str(name), _value(asked, "question", str, where), context, tuple(answers), impossible, title)


def _placed(answer: tuple[str, int], context: str) -> tuple[str, int] | None:
  """An answer where it stands: as stated, or else at the place that is nearest to that."""
  text, start = answer
  if not text.strip():
    return None
  if context[start : start + len(text)] == text:
    return answer
  places = [i for i in range(len(context) - len(text) + 1) if context.startswith(text, i)]
  return (text, min(places, key=lambda place: abs(place - start))) if places else None


def _each(value: Any, name: str, where: str) -> list[tuple[dict[str, Any], str]]:
  """(object, where it stands) of a list of objects."""
  rows = _value(value, name, list, where)
  for number, row in enumerate(rows):
    if not isinstance(row, dict):
      raise ValueError(f"{where}, {name}[{number}] is a JSON {type(row).__name__}, and must be an object")
  return [(row, f"{where}, {name}[{number}]") for number, row in enumerate(rows)]


def _value(value: Any, name: str, kind: type, where: str) -> Any:
  if not isinstance(value, dict) or name not in value:
    there = ", ".join(map(repr, value)) if isinstance(value, dict) else "nothing"
    raise ValueError(f"{where} has no {name!r}; it has {there}: is it SQuAD's JSON?")
  if type(value[name]) is not kind:
    raise ValueError(f"{where}: {name}={value[name]!r:.40} must be a JSON {kind.__name__}")
  return value[name]
