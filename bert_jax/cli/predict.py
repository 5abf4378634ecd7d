"""Predicts with a bundle, or with any model with a task's head that bert_jax.load opens.

INPUT is a text file with a text a line, or CSV, TSV or JSON lines with named columns: --text, and --pair for the second
text of a pair (a passage, where --text is a question), or --choices. A tagger reads .conll and .conllu files too, and a
model that finds answers a SQuAD file (.json). Input is read and answered in parts, so that a file of any size takes
little memory; the output has a line for each example, in their order.

With --output=X.json, answers are written as SQuAD's official evaluation reads them; with X.conll, tags in columns.
"""

import argparse
import csv
import io
import itertools
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

HELP = "what a model says of texts: classes, tags, answers, numbers"
_AT_ONCE = 1024  # examples
_ENDINGS = (".jsonl", ".csv", ".json", ".conll")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  from bert_jax.cli.finetune import add_columns

  parser.add_argument("model", metavar="BUNDLE", help="a bundle, or a folder of a model with a task's head")
  parser.add_argument(
    "input", metavar="INPUT", help="text file, UTF-8; or a .csv, .tsv, .jsonl, .conll(u) or .json file"
  )
  add_columns(parser)
  parser.add_argument(
    "--output", "-o", default="-", help="X.jsonl, X.csv, X.json (answers) or X.conll (tags); -: JSON lines to stdout"
  )
  parser.add_argument("--probabilities", action="store_true", help="of every class, in JSON lines")
  parser.add_argument("--batch-size", type=int, default=32, help="texts at a time (32)")


def run(given: argparse.Namespace) -> int:
  if given.output != "-" and not given.output.endswith(_ENDINGS):
    raise ValueError(f"--output={given.output} must end in {', '.join(_ENDINGS)}, or be -")
  from bert_jax.cli.lines import check_output, write_whole

  check_output(given.output, [given.input])
  examples = _examples(given)
  import bert_jax

  model = bert_jax.load(given.model)
  found = _answered(model, examples, given.batch_size)
  lines = (line.encode() for line in _written(given.output, found, model.class_names if given.probabilities else ()))
  if given.output == "-":
    sys.stdout.buffer.writelines(lines)
  else:
    write_whole(given.output, lambda file: file.writelines(lines))
  return 0


# ---- in ----


def _examples(given: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any]]:
  """(what an answer is written beside, what the model is asked), example by example."""
  from bert_jax.cli.lines import input_lines, streamed_lines
  from bert_jax.data import conll, files, squad, tables

  path, choices = given.input, tuple(filter(None, (given.choices or "").split(",")))
  if path.endswith(files.packed(".conll", ".conllu")):
    sentences = conll.read(path, given.text or "1", tagged=False).sentences
    return (({"words": list(s.words)}, list(s.words)) for s in sentences)
  if path.endswith(files.packed(".json")) and given.text is None:
    questions = squad.read(path, training=False).questions
    return (({"id": q.id, "question": q.question}, (q.question, q.context)) for q in questions)
  if not path.endswith(files.packed(*tables.SUFFIXES)):
    return (({"text": line}, line) for line in (input_lines(path) if path == "-" else streamed_lines(path)))
  wanted = [given.text or "text", *([given.pair] if given.pair else []), *choices]
  return (_of_row(values, bool(given.pair), bool(choices)) for values, _ in tables.read(path, wanted))


def _of_row(values: tuple[str, ...], pair: bool, choices: bool) -> tuple[dict[str, Any], Any]:
  if choices:
    text, *several = values
    return {"text": text, "choices": several}, [(text, choice) for choice in several]
  if pair:
    return {"text": values[0], "text_pair": values[1]}, (values[0], values[1])
  return {"text": values[0]}, values[0]


def _answered(model: Any, examples: Iterator[Any], batch_size: int) -> Iterator[tuple[dict[str, Any], Any]]:
  while some := list(itertools.islice(examples, _AT_ONCE)):
    answers = model.predict([asked for _, asked in some], batch_size=batch_size)
    yield from ((beside, answer) for (beside, _), answer in zip(some, answers, strict=True))


# ---- out ----


def _written(output: str, found: Iterator[tuple[dict[str, Any], Any]], classes: tuple[str, ...]) -> Iterator[str]:
  if output.endswith(".conll"):
    for _, answer in found:
      if not hasattr(answer, "tags"):
        raise ValueError(f"--output={output} is for taggers; take a .jsonl or .csv file")
      yield "".join(f"{word}\t{tag}\n" for word, tag in zip(answer.words, answer.tags, strict=True)) + "\n"
  elif output.endswith(".json"):
    answers = {}
    for beside, answer in found:
      if "id" not in beside or not hasattr(answer, "null_margin"):
        raise ValueError(
          f"--output={output} is for answers to the questions of a SQuAD file; take a .jsonl or .csv file"
        )
      answers[beside["id"]] = answer.text
    yield json.dumps(answers, ensure_ascii=False, indent=1) + "\n"
  elif output.endswith(".csv"):
    for number, (beside, answer) in enumerate(found):
      record = beside | _record(answer, ())
      if not number:
        yield _row(list(record))
      yield _row([_cell(value) for value in record.values()])
  else:
    for beside, answer in found:
      yield json.dumps(beside | _record(answer, classes), ensure_ascii=False) + "\n"


def _record(answer: Any, classes: tuple[str, ...]) -> dict[str, Any]:
  """An answer as JSON has it; of probabilities those of `classes`, where there are any."""
  record = answer._asdict()
  probabilities = record.pop("probabilities", None)
  if "tags" in record:
    spans = [_record(span, ()) for span in record.pop("spans")]
    return {"words": list(record["words"]), "tags": list(record["tags"]), "spans": spans}
  if "text" in record and "null_margin" in record:
    record["answer"] = record.pop("text")
  if probabilities is not None and len(classes) == len(probabilities):
    record["probabilities"] = {name: round(float(p), 6) for name, p in zip(classes, probabilities, strict=True)}
  return {name: _rounded(value) if isinstance(value, float) else value for name, value in record.items()}


def _rounded(value: float) -> float | None:
  """To six digits; None for what JSON has no number for, such as the margin of a passage without words."""
  return round(value, 6) if math.isfinite(value) else None


def _cell(value: Any) -> str:
  if isinstance(value, list | tuple | dict):
    texts = all(isinstance(part, str) for part in value)
    return "|".join(value) if texts and not isinstance(value, dict) else json.dumps(value, ensure_ascii=False)
  return f"{value:.6f}" if isinstance(value, float) else str(value)


def _row(fields: list[str]) -> str:
  file = io.StringIO()
  csv.writer(file, lineterminator="\n").writerow(fields)
  return file.getvalue()
