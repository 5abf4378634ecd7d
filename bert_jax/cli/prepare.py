"""Tokenizes a text for the runs of an experiment, and does no more; they take it up from --data.store or --workdir.

  bert-jax prepare pretrain --recipe=roberta_base --data.source='jsonl:FOLDER' --data.store=STORE
  bert-jax prepare pretrain --data.source=tfds:wiki40b/en --data.store=STORE --runner=DataflowRunner -- --project=…

Without --runner the cores of this machine do it. With it, that runner of Apache Beam, which `pip install
"bert_jax[beam]"` brings, with what follows a bare -- as its own flags; its workers have to see the text and the store
under the same names, on a shared disk or in a bucket. The store is the same, byte for byte. All flags but --runner are
the experiment's.
"""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from bert_jax.experiment import Plan

HELP = "a text tokenized, by this machine or by a runner of Apache Beam"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("experiment", metavar="EXPERIMENT", help="a file, or a name that `bert-jax experiments` lists")
  parser.add_argument(
    "flags", metavar="FLAGS", nargs=argparse.REMAINDER, help="the experiment's, --runner=…, -- Beam's"
  )


def run(given: argparse.Namespace) -> int:
  from absl import flags

  from bert_jax import command_line
  from bert_jax.cli import experiments

  file, experiment = experiments.declared(given.experiment)
  flags.DEFINE_string("runner", None, "of Apache Beam, such as DirectRunner or DataflowRunner; none: this machine")
  end = given.flags.index("--") if "--" in given.flags else len(given.flags)
  sys.argv[:] = [os.fspath(file), *given.flags[:end]]
  command_line.main(experiment, lambda asked: _prepare(asked, given.flags[end + 1 :]), more_flags=("runner",))
  return 0


def _prepare(asked: "Plan", of_beam: list[str]) -> int:
  from absl import flags

  from bert_jax.data import beam, buckets, sources, store
  from bert_jax.data.corpus import read_metadata
  from bert_jax.training.pretraining import corpus_folder

  runner = flags.FLAGS.runner
  if of_beam and not runner:
    raise ValueError(f"{' '.join(of_beam)} would be Beam's; add --runner=…")
  made = set()
  for arm in asked.arms:
    config = asked.configs[arm.name]
    folder = corpus_folder(config, asked.workdir)
    if folder in made:
      continue
    made.add(folder)
    if not (folder / "metadata.json").exists():
      sources.check(config.data)
    began, workers = time.monotonic(), config.runtime.num_workers
    engine = beam.Beam(folder, [f"--runner={runner}", *of_beam]) if runner else None
    if buckets.is_bucket(folder):
      store.make_in_bucket(config.data, folder, config.runtime.store_cache, workers, engine)
    else:
      store.make(config.data, folder, workers, engine)
    made_of = read_metadata(folder)
    print(
      f"{folder}: {made_of['num_documents']:,} documents, {made_of['num_tokens']:,} tokens of a vocabulary of"
      f" {made_of['tokenizer']['vocab_size']:,}, {time.monotonic() - began:.0f} s",
      flush=True,
    )
  return 0
