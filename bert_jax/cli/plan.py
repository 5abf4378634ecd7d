"""Says whether an experiment fits on some chips, how long it takes and what it costs; no accelerator is needed.

  bert-jax plan experiments/pretrain.py --recipe=bert_large --topology=v5e:4x4
  bert-jax plan pretrain --recipe=roberta_base --topology=gpu:h100x8 --train.batch_size=2048

The real training step is compiled by the compiler of TPUs, which `pip install "bert_jax[plan]"` brings, so what is said
of memory is what the chips would say. For GPUs the memory is not asked about. The times are bounds, from what a step
multiplies, reads and sends. Beside --topology, --minutes, --table and --prices the flags are the experiment's, and its
scale is `paper` where it has that.
"""

import argparse
import itertools
import os
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from bert_jax.experiment import Plan

HELP = "fits, how long, what price: asked before a run, without its chips"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("experiment", metavar="EXPERIMENT", help="a file, or a name that `bert-jax experiments` lists")
  parser.add_argument("flags", metavar="FLAGS", nargs=argparse.REMAINDER, help="--topology=…, and the experiment's")


def run(given: argparse.Namespace) -> int:
  from absl import flags

  from bert_jax import command_line
  from bert_jax.cli import experiments
  from bert_jax.planning import compiled

  file, experiment = experiments.declared(given.experiment)
  os.environ.update(compiled.ENVIRONMENT)  # a TPU is not needed, and not looked for
  flags.DEFINE_list("topology", None, "chips: v5e:4x4, v5p:2x2x1, gpu:h100x8, …; several with commas")
  flags.DEFINE_float("minutes", 3.0, "of compiling, in which the largest batch is searched for", lower_bound=0)
  flags.DEFINE_bool("table", False, "a line for each of them, as Markdown")
  flags.DEFINE_string("prices", None, "a table of prices, in place of the package's planning/prices.csv")
  sys.argv[:] = [os.fspath(file), *given.flags]
  command_line.main(experiment, _print, "paper", ("topology", "minutes", "table", "prices"))
  return 0


def _print(asked: "Plan") -> int:
  from absl import flags

  from bert_jax.planning import accelerators, prices

  if not flags.FLAGS.topology:
    raise ValueError("--topology is needed: the chips, such as v5e:4x4 or gpu:h100x8")
  topologies = [accelerators.topology(name) for name in flags.FLAGS.topology]
  table = prices.read(pathlib.Path(flags.FLAGS.prices) if flags.FLAGS.prices else prices.TABLE)
  from bert_jax.planning import compiler, plan, wording  # heavy, and of no use before the chips are known

  fits = True
  if flags.FLAGS.table:
    print(f"| {' | '.join(wording.COLUMNS)} |\n|{' --- |' * len(wording.COLUMNS)}")
  for arm, topology in itertools.product(asked.arms, topologies):
    if len(asked.arms) > 1 and not flags.FLAGS.table:
      print(f"{arm.name}: {arm.change}")
    try:
      phases = plan.plan(asked.configs[arm.name], topology, compiler.compile_elsewhere, flags.FLAGS.minutes)
    except plan.NotPlanned as error:
      if not flags.FLAGS.table:
        raise
      print(f"| {' | '.join(wording.row_of_none(arm.name, topology, str(error)))} |", flush=True)
      fits = False
      continue
    for planned in phases:
      if flags.FLAGS.table:
        print(f"| {' | '.join(wording.row(arm.name, planned, table))} |", flush=True)
      else:
        lines = wording.in_words(planned, table)
        print("\n".join(f"  {what:<14} {how_much}" for what, how_much in lines), flush=True)
        print()
      fits = fits and (planned.fit is None or planned.fit.fits)
  return 0 if fits else 1
