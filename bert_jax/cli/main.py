"""The command `bert-jax`."""

import argparse
import sys
from collections.abc import Sequence

import bert_jax
from bert_jax import console
from bert_jax.cli import embed, export, fill_mask, importing

VERBS = {"import": importing, "export": export, "fill-mask": fill_mask, "embed": embed}


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs one verb; returns the exit status: 0, or 1 where the user has to change something."""
  parser = argparse.ArgumentParser(prog="bert-jax", description=bert_jax.__doc__)
  parser.add_argument("--version", action="version", version=bert_jax.__version__)
  verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
  for name, module in VERBS.items():
    verb = verbs.add_parser(name, help=module.HELP, description=module.__doc__)
    module.add_arguments(verb)
    verb.set_defaults(run=module.run)
  given = parser.parse_args(arguments)
  console.log_own_lines_only()
  try:
    return given.run(given)
  except BrokenPipeError:
    return 1
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    return 130
