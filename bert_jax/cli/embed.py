"""Embeds texts, one a line: writes a vector for each, in their order.

A text of more tokens than the model was made for is read in windows, whose vectors are pooled, or is cut (--long=cut);
stderr says so.
"""

import argparse
import json
import sys

HELP = "one vector for each line of text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("model", metavar="MODEL", help="a run, an imported folder, or a Hugging Face folder")
  parser.add_argument("input", metavar="INPUT", nargs="?", default="-", help="text file, UTF-8; -, or none: stdin")
  parser.add_argument(
    "--output",
    "-o",
    default="-",
    help="X.npy, or X.jsonl with an object a line (text, embedding); -: JSON lines to stdout",
  )
  parser.add_argument(
    "--pooling", choices=("cls", "mean", "max"), help="over tokens; without it, the model's own or mean"
  )
  parser.add_argument(
    "--normalize", action=argparse.BooleanOptionalAction, help="to length 1; without it, as the model was made"
  )
  parser.add_argument("--batch-size", type=int, default=32, help="texts at a time (32)")
  parser.add_argument("--max-tokens", type=int, help="of a window; without it, as the model was made")
  parser.add_argument("--prompt", metavar="NAME", help="of the model's own; without it, its default; '': none")
  parser.add_argument(
    "--long", choices=("windows", "cut"), default="windows", help="texts beyond --max-tokens: in windows (or cut)"
  )
  parser.add_argument("--stride", type=int, help="tokens from one window to the next (half a window)")
  parser.add_argument("--step", type=int, help="of a run, which checkpoint; without it the best")


def run(given: argparse.Namespace) -> int:
  if given.output != "-" and not given.output.endswith((".npy", ".jsonl")):
    raise ValueError(f"--output={given.output} must end in .npy or .jsonl, or be -")
  from bert_jax.cli.lines import check_output, input_lines, write_whole

  check_output(given.output, [given.input])
  texts = input_lines(given.input)
  import numpy as np

  import bert_jax

  model = bert_jax.load(given.model, given.step)
  vectors = model.embed(
    texts,
    given.pooling,
    given.normalize,
    batch_size=given.batch_size,
    max_tokens=given.max_tokens,
    stride=given.stride,
    prompt=given.prompt,
    long=given.long,
  )
  if given.output.endswith(".npy"):
    write_whole(given.output, lambda file: np.save(file, vectors))
    print(f"{given.output}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers, float32", file=sys.stderr)
    return 0
  lines = (
    json.dumps({"text": text, "embedding": [float(f"{x:.8g}") for x in vector]}, ensure_ascii=False) + "\n"
    for text, vector in zip(texts, vectors, strict=True)
  )
  if given.output == "-":
    sys.stdout.buffer.writelines(line.encode() for line in lines)  # JSON is UTF-8, whatever the terminal is
  else:
    write_whole(given.output, lambda file: file.writelines(line.encode() for line in lines))
    print(f"{given.output}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers", file=sys.stderr)
  return 0
