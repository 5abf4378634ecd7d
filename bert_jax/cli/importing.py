"""Reads a Hugging Face folder, a model of its hub, or a TF1 checkpoint of google-research/bert into a folder of ours.

Every weight is accounted for: one that is missing, unexpected or of another shape is an error. OUT holds model.json,
params.safetensors and the tokenizer's files, unchanged; bert_jax.load and every verb open it.
"""

import argparse
import dataclasses
import sys

HELP = "a Hugging Face folder → a folder of bert_jax's own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "source",
    metavar="SOURCE",
    help="folder with config.json, weights and tokenizer; or a name on the hub, NAME[@REVISION]",
  )
  parser.add_argument("out", metavar="OUT", help="folder to write; new or empty")
  parser.add_argument(
    "--head",
    help="the network to make of it where config.json names another: encoder, pooled_encoder, masked_lm, …;"
    " a wrong name is answered with all (weights of other heads are left out; those that are lacking are new)",
  )
  parser.add_argument(
    "--extend-vocab", metavar="FILE", help="new tokens, one a line: each gets the mean of its old pieces' rows"
  )
  parser.add_argument(
    "--extend-positions", metavar="N", type=int, help="make the longest sequence N tokens: the old rows, again"
  )


def run(given: argparse.Namespace) -> int:
  from etils import epath

  from bert_jax.interop import extend, folders, hub, imported, reading

  out = folders.new_folder(given.out)
  source, origin = hub.fetch(given.source)
  model = dataclasses.replace(reading.read(source, given.head, say), origin=origin)
  if given.extend_vocab is not None:
    model = extend.extend_vocab(model, extend.read_tokens(epath.Path(given.extend_vocab)), say)
  if given.extend_positions is not None:
    model = extend.extend_positions(model, given.extend_positions, say)
  imported.save(model, out)
  print(f"{origin or given.source} is imported to {out}: {model.describe()}")
  return 0


def say(text: str) -> None:
  print(text, file=sys.stderr)
