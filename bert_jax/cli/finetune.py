"""Fine-tunes a model for a task of yours, and writes a bundle that predicts.

--task says what is to be learned:
{kinds}

A table is a CSV, TSV (without quoting, as GLUE's) or JSON lines file; --text, --pair and --label name its columns.
Where they are numbers, counted from 1, a CSV or TSV file has no header. In place of a file, tfds:NAME:SPLIT is a
TensorFlow data set that was prepared as array_record, such as tfds:glue/sst2:train. Without --dev, a part of the
training examples is held out; equal texts, and examples about one passage or query, stay on one side.

The bundle has the model, its tokenizer, its predictions for the held-out examples, a card, and its figures there beside
those of the trivial, of counted words, of word vectors and of frozen encoders.

A command that was stopped goes on where it was when it is given again; what it needs for that is in OUTPUT.run.
"""

import argparse
import dataclasses
import sys
from typing import Any

from bert_jax import preemption
from bert_jax.transfer.grids import RECIPES, Grid

HELP = "labelled examples → a bundle: a model that predicts"

# What is asked for, with a line each; transfer/kinds has the kinds, which a parser should not wait for.
TASKS = {
  "classification": "one of several classes for a text, or for a pair of texts",
  "multi_label": "any number of labels for a text: a|b|c, a JSON list, or none",
  "regression": "a number for a text or a pair",
  "tagging": "a tag for each word: CoNLL columns (--text=1 --label=4) or CoNLL-U",
  "question_answering": "the span of a passage that answers a question: SQuAD's JSON, 1.1 or 2.0",
  "multiple_choice": "which of several texts (--choices) fits a text; labels are 0, 1, … or A, B, …",
  "similarity": "vectors whose cosines order pairs of texts as the numbers of --label do",
  "retrieval": "vectors that find, for a text, the one (--pair) that answers it",
  "reranking": "orders passages (--pair) for a query (--text), by labels 0 and 1",
}
__doc__ = str(__doc__).format(kinds="\n".join(f"  {name:19} {line}" for name, line in TASKS.items()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "model", metavar="MODEL", help="a run, an imported folder, a Hugging Face folder, or a name on the hub"
  )
  parser.add_argument(
    "--task", choices=tuple(TASKS), default="classification", metavar="TASK", help="see above (classification)"
  )
  parser.add_argument("--train", required=True, metavar="FILE", help="labelled examples to train on")
  parser.add_argument("--dev", metavar="FILE", help="labelled examples to measure on; without it, a part of --train")
  parser.add_argument("--dev-fraction", type=float, metavar="SHARE", help="that part (0.1)")
  parser.add_argument("--output", required=True, metavar="BUNDLE", help="folder to write; new or empty")
  add_columns(parser)
  parser.add_argument("--label", metavar="COLUMN", help="of what is to be learned (label; the last one in CoNLL)")
  parser.add_argument(
    "--way", choices=("full", "frozen"), default="full", help="all parameters, or a layer over frozen features"
  )
  parser.add_argument("--epochs", metavar="N[,N]", help="passes over the examples (3); several values are all tried")
  parser.add_argument("--batch-size", metavar="N[,N]", help="examples a step (32); several values are all tried")
  parser.add_argument("--peak-lr", metavar="X[,X]", help="learning rate after warm-up (5e-5); several are all tried")
  parser.add_argument("--recipe", metavar="NAME", help=f"settings to try, as published: {', '.join(RECIPES)}")
  parser.add_argument(
    "--seeds", metavar="N[,N]", help="of new weights, order and dropout (0; 0,1,2,3,4 where settings are tried)"
  )
  parser.add_argument("--warmup-fraction", type=float, help="of all steps (0.1)")
  parser.add_argument(
    "--pooling", choices=("cls", "mean"), help="a text's vector (cls; mean where vectors are compared)"
  )
  parser.add_argument("--layer-decay", type=float, help="of the learning rate, a layer down (1: none)")
  parser.add_argument("--top-layers", type=int, help="train these and the head alone")
  parser.add_argument(
    "--max-tokens",
    type=int,
    help="of a text or window (128; 384 for question_answering; the model's positions where these are fewer)",
  )
  parser.add_argument(
    "--baselines",
    metavar="A,B",
    help="of trivial, tfidf, tfidf_cut, word_table, random, frozen, scratch (all but scratch)",
  )
  parser.add_argument("--word-vectors", metavar="FILE", help="a word2vec text file, as one more baseline")


def add_columns(parser: argparse.ArgumentParser) -> None:
  """The flags that name the columns of texts."""
  parser.add_argument("--text", metavar="COLUMN", help="of the text (text; 1, the words', in CoNLL)")
  parser.add_argument("--pair", metavar="COLUMN", help="of the second text, where pairs are read")
  parser.add_argument("--choices", metavar="A,B", help="of the texts to choose from")


def columns_of(given: argparse.Namespace, kind: Any) -> Any:
  """The columns that are asked for.

  Raises:
    ValueError: one is named that this kind of task does not read.
  """
  for name in ("text", "pair", "label", "choices", "pooling"):
    value = getattr(given, name, None)
    if value is not None and name not in kind.reads:
      read = ", ".join(f"--{name}" for name in sorted(kind.reads)) or "none of these flags"
      raise ValueError(f"--{name}={value} is of no use for {kind.name}, which reads {read}")
  return kind.columns(given.text, given.pair, given.label, tuple(filter(None, (given.choices or "").split(","))))


def _check_way(given: argparse.Namespace, compared: tuple[str, ...]) -> None:
  """Refuses flags that nothing would read.

  Raises:
    ValueError: naming the first of them.
  """
  if given.dev is not None and given.dev_fraction is not None:
    raise ValueError(f"--dev-fraction={given.dev_fraction:g} is a part of --train, and --dev={given.dev} is given")
  if given.way != "frozen":
    return
  names = ["pooling"]
  if "scratch" not in compared:  # which is trained
    names += ["recipe", "epochs", "batch_size", "peak_lr", "warmup_fraction", "layer_decay", "top_layers"]
  for name in names:
    if getattr(given, name) is not None:
      raise ValueError(
        f"--{name.replace('_', '-')}={getattr(given, name)} is of no use with --way=frozen, which fits a layer to the"
        " means over the tokens of texts, or to words"
      )


def run(given: argparse.Namespace) -> int:
  from bert_jax.data import labelled
  from bert_jax.interop import folders
  from bert_jax.transfer import baselines, making
  from bert_jax.transfer.kinds import KINDS

  kind = KINDS[given.task]
  out = folders.new_folder(given.output)
  compared = baselines.chosen(given.baselines, given.word_vectors)
  columns = columns_of(given, kind)
  _check_way(given, compared)
  grid, seeds = _grid(given)
  chosen = {
    "kind": given.task,
    "way": given.way,
    "pooling": given.pooling or kind.pooling,
    "top_layers": given.top_layers,
    "max_tokens": kind.max_tokens if given.max_tokens is None else given.max_tokens,
  }
  stated = {
    name: getattr(given, name) for name in ("warmup_fraction", "layer_decay") if getattr(given, name) is not None
  }
  first = {**grid.settings()[0], **grid.fixed, **stated}
  asked = making.Asked(**chosen, **first, seed=seeds[0])
  grid = dataclasses.replace(grid, fixed=grid.fixed | stated)
  searching = len(grid.settings()) * len(seeds) > 1
  if searching and given.way == "frozen":
    raise ValueError(
      "--way=frozen is fitted, not trained: it has no settings to try; give one value each, and one seed"
    )
  train = kind.read(given.train, columns, training=True)
  if given.dev is None:
    train, dev = labelled.hold_out(train, 0.1 if given.dev_fraction is None else given.dev_fraction)
  else:
    dev = kind.read(given.dev, columns, training=False)
  try:
    source = making.Source.of(given.model, given.task, train, dev)
    if given.max_tokens is None:
      asked = dataclasses.replace(asked, max_tokens=source.start.config.length_within(kind.max_tokens))
    more = {"grid": grid, "seeds": seeds} if searching else {}
    outcome = making.make(source, asked, out, compared, given.word_vectors, **more)
  except preemption.Preempted as stopped:
    print(stopped, file=sys.stderr)
    return preemption.EXIT_PREEMPTED
  print("\n".join(outcome.lines()))
  print(f"To use it: bert-jax predict {out} FILE", file=sys.stderr)
  return 0


def _grid(given: argparse.Namespace) -> tuple[Any, tuple[int, ...]]:
  """The settings to try, one or more, and the seeds."""
  if given.recipe is not None and given.recipe not in RECIPES:
    raise ValueError(f"--recipe={given.recipe} is none of {', '.join(RECIPES)}")
  grid = RECIPES[given.recipe] if given.recipe else Grid((5e-5,), (32,), (3,))  # Devlin et al. 2018, A.3
  values = {
    name: _values(given, name, float if name == "peak_lr" else int) for name in ("peak_lr", "batch_size", "epochs")
  }
  grid = dataclasses.replace(grid, **{name: value for name, value in values.items() if value})
  several = len(grid.settings()) > 1
  return grid, _values(given, "seeds", int) or ((0, 1, 2, 3, 4) if several else (0,))


def _values(given: argparse.Namespace, name: str, kind: Any) -> tuple[Any, ...]:
  """The numbers of a flag, separated by commas; none where it is not given."""
  text = getattr(given, name) or ""
  try:
    return tuple(kind(part) for part in text.split(",") if part.strip())
  except ValueError as error:
    raise ValueError(f"--{name.replace('_', '-')}={text} must be numbers, separated by commas") from error
