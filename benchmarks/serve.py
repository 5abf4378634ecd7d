"""The app under load: 500 requests from 20 clients on loopback, beside a plain loop that answers them one by one.

    pip install -e '.[app]' && python benchmarks/serve.py MODEL

MODEL is anything that `bert-jax serve` takes. Every answer is compared with the loop's; the exit status is 1 where one
is lost or wrong. The requests are of a kind that the model answers: predictions, else masked words, else similarities.
What is compiled is compiled before the clock runs, by earlier passes of the same requests.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np

import bert_jax
from bert_jax.app import answers, schema, serving

SENTENCES = (
  "The river floods its banks in spring.",
  "A court has found the company guilty of fraud.",
  "He scored twice in the second half, and the crowd was on its feet.",
  "The album was recorded in two weeks.",
  "Prices rose faster than wages did last year, the bank said on Monday.",
  "She was born in a small village near the coast.",
  "It is found in forests of the north.",
  "The film tells the story of two brothers who meet again after the war and find that nothing is as it was.",
)
_PROGRAM = "import sys; from bert_jax.cli.main import main; sys.exit(main())"


def request_of(kind: schema.Kind, number: int, longest: int | None) -> dict[str, Any]:
  """One of many that differ in length and content; the demo's models read 32 tokens."""
  one, other = (SENTENCES[(number * step + number // 8) % len(SENTENCES)] for step in (1, 3))
  text = f"{one} {other}" if number % 3 == 0 else one
  if longest is not None and longest < 64:
    text = " ".join(text.split()[: 4 + number % 8])
  if kind == "masks":
    return {"model": "M", "text": text, "words": [1 + number % 4]}
  return {"model": "M", "texts": [text] if kind == "predict" else [text, other, f"Number {number}."]}


def ask(address: str, kind: str, body: dict[str, Any]) -> tuple[int, Any, float]:
  """(status, answer, seconds); a client that is told to come again does."""
  begin = time.perf_counter()
  while True:
    request = urllib.request.Request(
      f"{address}api/{kind}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
      with urllib.request.urlopen(request, timeout=120) as response:
        return response.status, json.loads(response.read()), time.perf_counter() - begin
    except urllib.error.HTTPError as error:
      if error.code != 429:
        return error.code, error.read().decode(), time.perf_counter() - begin
      time.sleep(0.05)


def same(one: Any, other: Any) -> bool:
  """Whether two answers are equal but for rounding: a batch of another shape is summed in another order."""
  if isinstance(one, dict):
    return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
  if isinstance(one, list):
    return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
  if isinstance(one, float):
    return isinstance(other, float) and abs(one - other) < 2e-4
  return one == other


def main(arguments: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("model", metavar="MODEL")
  parser.add_argument("--requests", type=int, default=500)
  parser.add_argument("--clients", type=int, default=20)
  given = parser.parse_args(arguments)
  model = bert_jax.load(serving.name_and_path(given.model)[1])
  able = answers.kinds_of(model)
  kind: schema.Kind = next(kind for kind in ("predict", "masks", "similarity") if kind in able)
  bodies = [request_of(kind, number, model.config.longest_input) for number in range(given.requests)]
  asked = [schema.ASKED[kind].model_validate(body) for body in bodies]
  plain, loop_seconds = [], 0.0
  for _ in range(2):
    begin = time.perf_counter()
    plain = [json.loads(json.dumps(answers.KINDS[kind](model, [one])[0])) for one in asked]
    loop_seconds = time.perf_counter() - begin
  environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
  command = [sys.executable, "-c", _PROGRAM, "serve", f"M={given.model}", "--port=0"]
  process = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)
  assert process.stderr is not None
  found, seconds = [], 0.0
  try:
    address = next(line.split()[1] for line in process.stderr if line.startswith("open "))
    for _ in range(3):  # batches fall otherwise each time, and each shape is compiled once
      begin = time.perf_counter()
      with concurrent.futures.ThreadPoolExecutor(given.clients) as pool:
        found = list(pool.map(lambda body: ask(address, kind, body), bodies))
      seconds = time.perf_counter() - begin
  finally:
    process.terminate()
    process.communicate()
  lost = sum(status != 200 for status, *_ in found)
  both = zip(found, plain, strict=True)
  wrong = sum(status == 200 and not same(answer, wanted) for (status, answer, _), wanted in both)
  milliseconds = 1000 * np.array([taken for *_, taken in found])
  print(f"{model.describe()}; {len(bodies)} requests of {kind}, {given.clients} clients")
  print(
    f"  the app: {len(bodies) / seconds:.0f} requests a second; lost {lost}, wrong {wrong}; milliseconds: "
    f"p50 {np.percentile(milliseconds, 50):.0f}, p99 {np.percentile(milliseconds, 99):.0f}"
  )
  print(f"  a plain loop, without HTTP: {len(bodies) / loop_seconds:.0f} requests a second")
  print(f"  ratio: {loop_seconds / seconds:.2f}")
  return int(bool(lost or wrong))


if __name__ == "__main__":
  sys.exit(main())
