"""Looks at a run's text and at its first steps before hours are spent on it.

  bert-jax doctor experiments/pretrain.py --recipe=bert_base --scale=demo --data.source='text:FOLDER'

The text is prepared as for the run, which takes it up from the workdir. Then: duplicates, unknown and special tokens,
lengths, labels, padding, room for checkpoints; the first loss beside that of guessing; a few rows learned by heart
within a minute; making batches against training on them. All flags are the experiment's; of several arms the first is
looked at. The status is 1 where a run would end in an error.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from bert_jax.experiment import Plan

HELP = "a run's text and first steps, looked at before it is run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("experiment", metavar="EXPERIMENT", help="a file, or a name that `bert-jax experiments` lists")
  parser.add_argument("flags", metavar="FLAGS", nargs=argparse.REMAINDER, help="the experiment's")


def run(given: argparse.Namespace) -> int:
  from bert_jax import command_line
  from bert_jax.cli import experiments

  file, experiment = experiments.declared(given.experiment)
  sys.argv[:] = [os.fspath(file), *given.flags]
  command_line.main(experiment, _examine)
  return 0


def _examine(asked: "Plan") -> int:
  from etils import epath

  from bert_jax import settings
  from bert_jax.planning import doctor
  from bert_jax.training import platform
  from bert_jax.training.layout import make_layout
  from bert_jax.training.pretraining import check_corpus, check_devices, prepare_corpus, resolve

  platform.select_platform(asked.platform)
  platform.use_compilation_cache()
  workdir = epath.Path(asked.workdir)
  config = settings.assign(asked.configs[asked.arms[0].name], {"train.seed": asked.seeds[0]})
  layout = make_layout(config.runtime.mesh)
  check_devices(config, layout)
  check_corpus(config, workdir)
  corpus = prepare_corpus(config, workdir)
  looked_at = stopping = 0
  for finding in doctor.examine(resolve(config, corpus), corpus, workdir, layout):
    mark = "STOP" if finding.stops else "LOOK" if finding.advice else "ok"
    print(f"{mark:<5} {finding.what}: {finding.said}", flush=True)
    if finding.advice:
      print(f"      {finding.advice}", flush=True)
    looked_at += bool(finding.advice)
    stopping += finding.stops
  print(
    "\nNothing to look at." if not looked_at else f"\n{looked_at} to look at, {stopping} of which would stop the run."
  )
  return 1 if stopping else 0
