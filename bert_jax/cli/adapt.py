"""Continues a model's pretraining on text of yours, and measures what that did (Gururangan et al. 2020).

MODEL is anything that bert_jax.load opens, with or without a head that predicts masked tokens. Measured before and
after: the loss at [MASK] on held-out text of the domain and on general text, each beside the best predictor without
context; and how much a few labels of the demo's tasks teach a linear model over the frozen encoder.

OUTPUT is the adapted model with its tokenizer, which every verb opens, with report.md beside it. A command that was
stopped goes on where it was when it is given again; what it needs for that is in OUTPUT.run.
"""

import argparse
import sys
import typing
from typing import Any

from bert_jax import preemption, settings
from bert_jax.adaptation.asked import TASKS, Asked
from bert_jax.config import DataConfig

HELP = "continued pretraining on your text → a model, measured before and after"

_DATA = ("source", "text_documents", "jsonl_field", "language")
_OWN = {leaf.path: leaf for leaf in settings.leaves(Asked)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "model", metavar="MODEL", help="a run, an imported folder, a Hugging Face folder, or a name on the hub"
  )
  of_data = {leaf.path: leaf for leaf in settings.leaves(DataConfig)}
  for name in _DATA:
    leaf = of_data[name]
    choices: Any = typing.get_args(leaf.type) or None
    parser.add_argument(
      f"--data.{name}",
      required=name == "source",
      default=None if name == "source" else leaf.default,
      choices=choices,
      help=leaf.help.replace("%", "%%"),
    )
  parser.add_argument("--output", required=True, metavar="FOLDER", help="folder to write; new or empty")
  for name, leaf in _OWN.items():
    kind = next(option for option in (typing.get_args(leaf.type) or (leaf.type,)) if option is not type(None))
    metavar = "X" if kind is float else "N"
    help = leaf.help.replace("%", "%%")
    parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=leaf.default, metavar=metavar, help=help)
  parser.add_argument(
    "--general",
    metavar="SOURCE",
    help="other text to measure on, as --data.source has it; none: no such text (demo, where that is installed)",
  )
  parser.add_argument(
    "--tasks",
    metavar="A,B",
    help=f"of {', '.join(TASKS)}, the demo's; none: no task (both, where the demo is installed)",
  )


def run(given: argparse.Namespace) -> int:
  asked = Asked(**{name: getattr(given, name) for name in _OWN})
  asked.check()

  from bert_jax.interop import folders

  out = folders.new_folder(given.output)

  from bert_jax.data import sources

  domain = DataConfig(**{name: getattr(given, f"data.{name}") for name in _DATA})
  sources.check(domain)

  from bert_jax.adaptation import measuring

  domain = measuring.split(domain)
  beside = measuring.Measuring.of(domain, given.general, given.tasks)

  from bert_jax.adaptation import adapting, report
  from bert_jax.training import platform

  platform.select_platform(None)
  platform.use_compilation_cache()
  try:
    adapted = adapting.adapt(given.model, domain, asked, beside, out)
  except preemption.Preempted as stopped:
    print(stopped, file=sys.stderr)
    return preemption.EXIT_PREEMPTED
  print("\n".join(report.lines(adapted)))
  print(f"The model and the report are in {out}; to use it: bert-jax finetune {out} …", file=sys.stderr)
  return 0
