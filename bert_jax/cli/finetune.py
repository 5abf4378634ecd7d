"""Fine-tunes a model to tell the classes of texts apart, and writes a bundle that predicts.

The files are CSV, TSV (without quoting, as GLUE's) or JSON lines; where --text, --pair and --label are numbers, a CSV
or TSV file has no header. Without --dev, a part of the training texts is held out. The bundle has the model, its
tokenizer, its figures beside those of the majority class and of TF-IDF on the same texts, its predictions for them, and
a card.

A command that was stopped goes on where it was when it is given again; what it needs for that is in OUTPUT.run.
"""

import argparse
import sys

HELP = "labelled texts → a bundle: a classifier that predicts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "model", metavar="MODEL", help="a run, an imported folder, a Hugging Face folder, or a name on the hub"
  )
  parser.add_argument("--train", required=True, metavar="FILE", help="labelled texts to train on")
  parser.add_argument("--dev", metavar="FILE", help="labelled texts to measure on; without it, a part of --train")
  parser.add_argument("--dev-fraction", type=float, default=0.1, help="that part (0.1)")
  parser.add_argument("--output", required=True, metavar="BUNDLE", help="folder to write; new or empty")
  parser.add_argument("--text", default="text", metavar="COLUMN", help="of the text (text)")
  parser.add_argument("--pair", metavar="COLUMN", help="of the second text, where pairs are classified")
  parser.add_argument("--label", default="label", metavar="COLUMN", help="of the class (label)")
  parser.add_argument(
    "--way", choices=("full", "frozen"), default="full", help="all parameters, or a layer over frozen features"
  )
  parser.add_argument("--epochs", type=int, default=3, help="passes over the texts (3)")
  parser.add_argument("--batch-size", type=int, default=32, help="texts a step (32)")
  parser.add_argument("--peak-lr", type=float, default=5e-5, help="learning rate after warm-up over a tenth (5e-5)")
  parser.add_argument("--pooling", choices=("cls", "mean"), default="cls", help="what the classifier reads (cls)")
  parser.add_argument("--max-tokens", type=int, default=128, help="of a text, special ones counted (128)")
  parser.add_argument("--seed", type=int, default=0, help="of new weights, order and dropout (0)")


def run(given: argparse.Namespace) -> int:
  from bert_jax.data import labelled
  from bert_jax.interop import folders
  from bert_jax.training import loop
  from bert_jax.transfer import classifiers

  out = folders.new_folder(given.output)
  columns = labelled.Columns(given.text, given.pair, given.label)
  asked = classifiers.Asked(
    way=given.way,
    epochs=given.epochs,
    batch_size=given.batch_size,
    peak_lr=given.peak_lr,
    pooling=given.pooling,
    max_tokens=given.max_tokens,
    seed=given.seed,
  )
  train = labelled.read(given.train, columns)
  if given.dev is None:
    train, dev = labelled.hold_out(train, given.dev_fraction)
  else:
    dev = labelled.read(given.dev, columns)
  try:
    figures, baselines = classifiers.make(given.model, train, dev, asked, out)
  except loop.Preempted as stopped:
    print(stopped, file=sys.stderr)
    return loop.EXIT_PREEMPTED
  reached = ", ".join(f"{name} {100 * value:.1f} %" for name, value in baselines.items())
  print(f"{out}: {100 * figures.accuracy:.1f} % of {figures.texts:,} held-out texts right ({reached})")
  print(f"To use it: bert-jax predict {out} FILE", file=sys.stderr)
  return 0
