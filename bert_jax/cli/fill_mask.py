"""Fills the masks of texts: prints the likeliest tokens for the place of each [MASK]."""

import argparse

HELP = "the likeliest tokens in the place of each [MASK]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("model", metavar="MODEL", help="a run, an imported folder, or a Hugging Face folder")
  parser.add_argument("texts", metavar="TEXT", nargs="*", help="with [MASK] in it; none: lines of stdin")
  parser.add_argument("--top-k", type=int, default=5, help="candidates of a mask (5)")
  parser.add_argument("--step", type=int, help="of a run, which checkpoint; without it the best")


def run(given: argparse.Namespace) -> int:
  from bert_jax.cli.lines import check_output, input_lines

  check_output("-", [])
  texts = given.texts or input_lines("-")
  import bert_jax

  model = bert_jax.load(given.model, given.step)
  for text in texts:
    found = model.fill_masks(text, given.top_k)
    for number, candidates in enumerate(found, 1):
      print(f"{text}  (mask {number})" if len(found) > 1 else text)
      for candidate in candidates:
        print(f"  {candidate.probability:.4f}  {candidate.token:16}  {candidate.sequence}")
  return 0
