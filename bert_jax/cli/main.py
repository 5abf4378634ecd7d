"""The command `bert-jax`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import bert_jax
from bert_jax import console
from bert_jax.cli import (
  adapt,
  doctor,
  embed,
  evaluate,
  experiments,
  export,
  fill_mask,
  finetune,
  importing,
  plan,
  predict,
  prepare,
  run,
  search,
  selftest,
  serve,
)

VERBS = {
  "experiments": experiments,
  "run": run,
  "prepare": prepare,
  "plan": plan,
  "doctor": doctor,
  "selftest": selftest,
  "import": importing,
  "export": export,
  "embed": embed,
  "fill-mask": fill_mask,
  "adapt": adapt,
  "finetune": finetune,
  "predict": predict,
  "evaluate": evaluate,
  "search": search,
  "serve": serve,
}


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs one verb; returns the exit status: 0, or 1 where the user has to change something."""
  parser = argparse.ArgumentParser(prog="bert-jax", description=bert_jax.__doc__)
  parser.add_argument("--version", action="version", version=bert_jax.__version__)
  parser.add_argument(
    "--print-completion", action=_PrintCompletion, metavar="SHELL", help="of bash or zsh, to be evaluated; needs shtab"
  )
  verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
  for name, module in VERBS.items():
    raw = argparse.RawDescriptionHelpFormatter  # a module's lines stay lines
    verb = verbs.add_parser(name, help=module.HELP, description=module.__doc__, formatter_class=raw)
    module.add_arguments(verb)
    verb.set_defaults(run=module.run)
  given = parser.parse_args(arguments)
  if sys.stderr is None:  # closed; without this, its output would go to stdout
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")  # a character that the terminal cannot show is no error
  console.log_own_lines_only()
  try:
    status = given.run(given)
    if sys.stdout is not None:
      sys.stdout.flush()
    return status
  except BrokenPipeError:  # the reader of our output has gone
    _drop_stdout()
    return 1
  except (ValueError, OSError, ImportError) as error:
    console.raise_what_is_no_users(error)
    _drop_stdout()
    print(f"error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    return 130


class _PrintCompletion(argparse.Action):
  """Prints what a shell evaluates to complete verbs, flags, choices and the names of files, and ends."""

  def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
    if values not in ("bash", "zsh"):
      parser.error(f"--print-completion={values} must be bash or zsh")
    try:
      import shtab
    except ImportError:
      parser.error("--print-completion needs shtab: pip install shtab")
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for verb in verbs.choices.values():
      for action in verb._actions:
        if action.type is None and not action.choices and action.nargs != 0:
          action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, values))
    parser.exit()


def _drop_stdout() -> None:
  """Drops output that cannot be written; otherwise Python complains about it again when it exits."""
  if sys.stdout is None:
    return
  try:
    sys.stdout.flush()
  except OSError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
