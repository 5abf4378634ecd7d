"""Predicts with a bundle, or with any model with a task's head that bert_jax.load opens.

INPUT is a text file with a text a line, or CSV, TSV or JSON lines with named columns: --text, and --pair for the second
text of a pair (a passage, where --text is a question), or --choices. A tagger reads .conll and .conllu files too, whole
documents where the file marks them, and a model that finds answers a SQuAD file (.json), with answers or without. In
place of a file, tfds:NAME:SPLIT is a TensorFlow data set. Input is read and answered in parts, so that a file of any
size takes little memory, but for a SQuAD file, which is read whole; the output has a line for each example, in their
order.

With --output=X.json, answers are written as SQuAD's official evaluation reads them; with X.conll, tags in columns.
"""

import argparse
import csv
import io
import itertools
import json
import os
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
  parser.add_argument("--probabilities", action="store_true", help="of every class too, in JSON lines or CSV")
  parser.add_argument("--batch-size", type=int, default=32, help="texts at a time (32)")


def run(given: argparse.Namespace) -> int:
  if given.output != "-" and not given.output.endswith(_ENDINGS):
    raise ValueError(f"--output={given.output} must end in {', '.join(_ENDINGS)}, or be -")
  if given.probabilities and given.output.endswith((".json", ".conll")):
    raise ValueError(f"--probabilities are written to a .jsonl or .csv file; {given.output} has no place for them")
  from bert_jax.cli.lines import check_output, write_whole

  check_output(given.output, [given.input])
  _check_input(given.input)
  import bert_jax

  model = bert_jax.load(given.model)
  found = _answered(model, _examples(given, model.network), given.input, given.batch_size)
  lines = (line.encode() for line in _written(given.output, found, model.class_names if given.probabilities else None))
  if given.output == "-":
    sys.stdout.buffer.writelines(lines)
  else:
    write_whole(given.output, lambda file: file.writelines(lines))
  return 0


# ---- in ----


def _check_input(path: str) -> None:
  """Raises ValueError where it is not there, before a model is opened."""
  from bert_jax.data import tfds_sets

  if path != "-" and not path.startswith(tfds_sets.PREFIX) and not os.path.isfile(path):
    raise ValueError(f"{path}: {'it is no file' if os.path.exists(path) else 'there is no such file'}")


def _examples(given: argparse.Namespace, network: str) -> Iterator[tuple[list[dict[str, Any]], Any]]:
  """(what the parts of an answer are written beside, what the model is asked), example by example.

  Of a document, the parts are its sentences; of all else, there is one.
  """
  from bert_jax.cli.lines import streamed_lines
  from bert_jax.data import conll, files, squad, tables, tfds_sets

  path, choices = given.input, tuple(filter(None, (given.choices or "").split(",")))
  of_tfds, named = path.startswith(tfds_sets.PREFIX), given.text is not None
  if path.endswith(files.packed(".conll", ".conllu")) or (of_tfds and not named and network == "token_classification"):
    _refuse(given, ("pair", "choices"), "tagged words")
    return _documents(conll.sentences(path, given.text or "1", tagged=False))
  if not named and (path.endswith(files.packed(".json")) or (of_tfds and network == "question_answering")):
    _refuse(given, ("pair", "choices"), "SQuAD's questions; with --text, the file is read as JSON lines")
    questions = squad.read(path, training=False, answered=False).questions
    return (([{"id": q.id, "question": q.question}], (q.question, q.context)) for q in questions)
  if not of_tfds and not path.endswith(files.packed(*tables.SUFFIXES)):
    _refuse(given, ("text", "pair", "choices"), "a text a line, without columns")
    return (([{"text": line}], line) for line in streamed_lines(path))
  wanted = [given.text or "text", *([given.pair] if given.pair else []), *choices]
  return (_of_row(values, bool(given.pair), bool(choices)) for values, _ in tables.read(path, wanted))


def _refuse(given: argparse.Namespace, names: tuple[str, ...], what: str) -> None:
  for name in names:
    if getattr(given, name) is not None:
      raise ValueError(f"--{name}={getattr(given, name)} is not for {given.input}, which is read as {what}")


def _documents(sentences: Iterator[Any]) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
  """Whole documents, as a tagger learns from them."""
  for _, group in itertools.groupby(sentences, key=lambda sentence: sentence.document):
    words = [list(sentence.words) for sentence in group]
    yield [{"words": some} for some in words], list(itertools.chain.from_iterable(words))


def _of_row(values: tuple[str, ...], pair: bool, choices: bool) -> tuple[list[dict[str, Any]], Any]:
  if choices:
    text, *several = values
    return [{"text": text, "choices": several}], [(text, choice) for choice in several]
  if pair:
    return [{"text": values[0], "text_pair": values[1]}], (values[0], values[1])
  return [{"text": values[0]}], values[0]


def _answered(model: Any, examples: Iterator[Any], path: str, batch_size: int) -> Iterator[tuple[dict[str, Any], Any]]:
  first = 0
  while some := list(itertools.islice(examples, _AT_ONCE)):
    try:
      answers = model.predict([asked for _, asked in some], batch_size=batch_size)
    except ValueError as error:
      raise ValueError(f"{path}, examples {first + 1:,} to {first + len(some):,}: {error}") from error
    first += len(some)
    for (beside, _), answer in zip(some, answers, strict=True):
      parts = answer.parts([len(part["words"]) for part in beside]) if len(beside) > 1 else [answer]
      yield from zip(beside, parts, strict=True)


# ---- out ----


def _written(
  output: str, found: Iterator[tuple[dict[str, Any], Any]], classes: tuple[str, ...] | None
) -> Iterator[str]:
  """The lines of the output; classes: where all probabilities are asked for, what they are of."""
  from bert_jax.inference import predictions

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
      record = _flat(beside | predictions.record(answer, classes))
      if not number:
        yield _row(list(record))
      yield _row([_cell(value) for value in record.values()])
  else:
    for beside, answer in found:
      yield json.dumps(beside | predictions.record(answer, classes), ensure_ascii=False) + "\n"


def _flat(record: dict[str, Any]) -> dict[str, Any]:
  """A record with a field of its own for each class's probability."""
  if isinstance(record.get("probabilities"), dict):
    record |= {f"probability of {name}": chance for name, chance in record.pop("probabilities").items()}
  return record


def _cell(value: Any) -> str:
  if isinstance(value, list | tuple | dict):
    texts = all(isinstance(part, str) for part in value)
    return "|".join(value) if texts and not isinstance(value, dict) else json.dumps(value, ensure_ascii=False)
  return f"{value:.6f}" if isinstance(value, float) else str(value)


def _row(fields: list[str]) -> str:
  file = io.StringIO()
  csv.writer(file, lineterminator="\n").writerow(fields)
  return file.getvalue()
