"""Scores a file of predictions alone, without a model.

For tables, --predictions has a column --predicted, row by row with --data; where it has the columns text and text_pair
too, as bundles have them, they must be those of --data. For tagging both are CoNLL files with the
same words; for question_answering --data is SQuAD's JSON, and --predictions an object of id → answer, as bert-jax
predict -o X.json and the official evaluations have it (squad is another name for it). With --na-prob-file, id → how
likely it is that there is no answer, the best threshold and what it reaches are printed too.
"""

import argparse
import json
import sys
from typing import Any

from bert_jax.cli.finetune import TASKS, add_columns, columns_of

HELP = "a file of predictions → its figures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  names = (*(name for name in TASKS if name != "retrieval"), "squad")
  parser.add_argument("task", metavar="TASK", choices=names, help=", ".join(names))
  parser.add_argument("--predictions", required=True, metavar="FILE", help="what was predicted")
  parser.add_argument("--data", required=True, metavar="FILE", help="what is right")
  add_columns(parser)
  parser.add_argument("--label", metavar="COLUMN", help="of what is right, in --data (label; the last one in CoNLL)")
  parser.add_argument(
    "--predicted", metavar="COLUMN", help="of the predictions (predicted, where there is one, as in a bundle; or label)"
  )
  parser.add_argument("--na-prob-file", metavar="FILE", help="for SQuAD 2.0: id → how likely there is no answer")
  parser.add_argument("--output", "-o", metavar="X.json", help="writes the figures there too")


def run(given: argparse.Namespace) -> int:
  from bert_jax.cli.lines import check_output, write_whole
  from bert_jax.transfer import bundles
  from bert_jax.transfer.kinds import KINDS

  if given.output is not None:
    check_output(given.output, [given.data, given.predictions])
  kind = KINDS["question_answering" if given.task == "squad" else given.task]
  if given.na_prob_file and kind.name != "question_answering":
    raise ValueError("--na-prob-file is for question_answering")
  if given.predicted and kind.name == "question_answering":
    raise ValueError(f"--predicted={given.predicted} is of no use here: the predictions are an object of id → answer")
  examples = kind.read(given.data, columns_of(given, kind), training=False)
  answers = list(kind.answers_in(given.predictions, examples, given.predicted or _column(given.predictions)))
  scores = kind.score(examples, answers)
  if given.na_prob_file:
    scores |= _thresholds(given.na_prob_file, examples, answers)
  main = next(iter(scores))
  of_main = kind.interval(examples, answers, main)
  name, trivial = next(iter(kind.trivial(examples, examples).items()))
  beaten = kind.score(examples, trivial)
  print(f"{len(examples):,} examples")
  for measure, value in scores.items():
    interval = ""
    if measure == main and of_main is not None:
      interval = "  (95 % over other examples: {} to {})".format(*(bundles.shown(main, bound) for bound in of_main))
    beside = f"  {name}: {bundles.shown(measure, beaten[measure])}" if measure in beaten else ""
    print(f"{measure:24} {bundles.shown(measure, value):>8}{beside}{interval}")
  if given.output is not None:
    figures = {"task": kind.name, "examples": len(examples), "scores": scores, "interval": of_main, name: beaten}
    write_whole(given.output, lambda file: file.write((json.dumps(figures, indent=1) + "\n").encode()))
    print(f"{given.output} has the figures", file=sys.stderr)
  return 0


def _column(predictions: str) -> str:
  """Where a file has its predictions; in a bundle's own, the column label has what is right."""
  from bert_jax.data import files, tables

  if predictions.endswith(files.packed(*tables.SUFFIXES)):
    try:
      next(tables.read(predictions, ["predicted"]), None)
    except ValueError:
      return "label"
    return "predicted"
  return "label"


def _thresholds(path: str, examples: Any, answers: list[Any]) -> dict[str, float]:
  """What the best thresholds reach, and where they are."""
  from etils import epath

  from bert_jax import foreign
  from bert_jax.interop import rules
  from bert_jax.transfer import squad_metrics

  file = epath.Path(path)
  odds = foreign.read_object(file.parent, file.name)
  for name, value in odds.items():
    if not rules.is_number(value):
      raise ValueError(f"{path}: {name}={value!r:.40} must be a number")
  questions = examples.labels
  texts = {question.id: answer.text for question, answer in zip(questions, answers, strict=True)}
  return squad_metrics.best(questions, texts, odds)
