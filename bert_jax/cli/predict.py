"""Predicts the classes of texts with a bundle, or with any classifier that bert_jax.load opens.

INPUT is a text file with a text a line, or CSV, TSV or JSON lines with named columns, which are read and answered in
parts, so that a file of any size takes little memory. The output has a line for each text, in their order.
"""

import argparse
import csv
import io
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

HELP = "the class of each text, by a classifier"
_AT_ONCE = 1024  # texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("model", metavar="BUNDLE", help="a bundle, or a folder with a classifier")
  parser.add_argument("input", metavar="INPUT", help="text file, UTF-8; or a .csv, .tsv or .jsonl file")
  parser.add_argument("--text", default="text", metavar="COLUMN", help="of a table, that of the text (text)")
  parser.add_argument("--pair", metavar="COLUMN", help="of a table, that of the second text of a pair")
  parser.add_argument(
    "--output", "-o", default="-", help="X.jsonl or X.csv (text, label, probability); -: JSON lines to stdout"
  )
  parser.add_argument("--batch-size", type=int, default=32, help="texts at a time (32)")


def run(given: argparse.Namespace) -> int:
  if given.output != "-" and not given.output.endswith((".jsonl", ".csv")):
    raise ValueError(f"--output={given.output} must end in .jsonl or .csv, or be -")
  from bert_jax.cli.lines import check_output, write_whole

  check_output(given.output, [given.input])
  texts = _texts(given.input, given.text, given.pair)
  import bert_jax

  model = bert_jax.load(given.model)
  lines = _lines(model, texts, given.batch_size, given.output.endswith(".csv"), given.pair is not None)
  if given.output == "-":
    sys.stdout.buffer.writelines(line.encode() for line in lines)
  else:
    write_whole(given.output, lambda file: file.writelines(line.encode() for line in lines))
  return 0


def _texts(path: str, text: str, pair: str | None) -> Iterator[Any]:
  from etils import epath

  from bert_jax.cli.lines import input_lines
  from bert_jax.data import files, tables

  if not path.endswith(files.packed(*tables.SUFFIXES)):
    return iter(input_lines(path))
  wanted = [text] if pair is None else [text, pair]
  rows = tables.read(epath.Path(path), wanted)
  return (row.values[0] if pair is None else (row.values[0], row.values[1]) for row in rows)


def _lines(model: Any, texts: Iterator[Any], batch_size: int, as_csv: bool, pairs: bool) -> Iterator[str]:
  if as_csv:
    yield _row(["text", *(["text_pair"] if pairs else []), "label", "probability"])
  while some := list(itertools.islice(texts, _AT_ONCE)):
    for text, found in zip(some, model.predict(some, batch_size=batch_size), strict=True):
      parts = list(text) if isinstance(text, tuple) else [text]
      if as_csv:
        yield _row([*parts, found.label, f"{found.probability:.6f}"])
      else:
        named = dict(zip(("text", "text_pair"), parts, strict=False))
        answer = {"label": found.label, "probability": round(found.probability, 6)}
        yield json.dumps(named | answer, ensure_ascii=False) + "\n"


def _row(fields: list[str]) -> str:
  file = io.StringIO()
  csv.writer(file, lineterminator="\n").writerow(fields)
  return file.getvalue()
