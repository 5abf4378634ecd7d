"""Writes a run, or an imported folder, as a Hugging Face folder that AutoModel and AutoTokenizer open.

OUT holds config.json, model.safetensors (float32), the tokenizer's files, README.md (where the model comes from, its
licence where that is known, how to use it), and receipt.json: the hash of each file, and by how much the outputs of
the folder differ from those of the model.
"""

import argparse

HELP = "a run, or an imported folder → a Hugging Face folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("run_or_folder", metavar="RUN", help="a workdir with one run, a run, a checkpoint, or a model")
  parser.add_argument("out", metavar="OUT", help="folder to write; new or empty")
  parser.add_argument("--step", type=int, help="of a run, which checkpoint; without it the best")


def run(given: argparse.Namespace) -> int:
  from bert_jax.cli.importing import say
  from bert_jax.interop import folders, writing
  from bert_jax.interop.load import load

  out = folders.new_folder(given.out)
  model = load(given.run_or_folder, given.step)
  receipt = writing.write(model, out, say)
  print(f"{given.run_or_folder} is exported to {out} as {receipt['class']}: {model.describe()}")
  return 0
