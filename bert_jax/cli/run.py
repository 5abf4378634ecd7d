"""Runs an experiment that comes with the package: `bert-jax run bert_vs_roberta --scale=smoke`.

All that stands behind the name goes to the experiment; `bert-jax run NAME --help` shows what it takes. Results are
written under the current folder, in runs/NAME-SCALE, unless --workdir says otherwise.
"""

import argparse
import runpy
import sys

HELP = "an experiment, by its name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("name", metavar="NAME", help="one of those that `bert-jax experiments` lists")
  parser.add_argument("flags", metavar="FLAGS", nargs=argparse.REMAINDER, help="of the experiment")


def run(given: argparse.Namespace) -> int:
  from bert_jax.cli import experiments

  files = experiments.found()
  if given.name not in files:
    raise ValueError(f"there is no experiment {given.name}; there are {', '.join(files)}")
  file = str(files[given.name])
  sys.argv[:] = [file, *given.flags]
  runpy.run_path(file, run_name="__main__")
  return 0
