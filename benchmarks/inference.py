"""How much quicker one of our models encodes text than another, such as a student and its teacher, in one run.

    python benchmarks/inference.py WORKDIR/runs/teacher/seed-0 WORKDIR/runs/student/seed-0

Both get the same texts, sentences of the demo's corpora (the extra `demo`), and take turns; tokenizing counts. What a
pass has to compile is compiled before the clock starts.
"""

import statistics
import sys
import time

import bert_jax
from bert_jax.config import DataConfig
from bert_jax.data.sources import open_source

TEXTS, TOKENS, ROUNDS = 2000, 32, 9


def main(folders: list[str]) -> None:
  if len(folders) != 2:
    sys.exit(__doc__)
  models = [bert_jax.load(folder) for folder in folders]
  texts = [document.text[:200] for document, _ in zip(open_source(DataConfig()), range(TEXTS), strict=False)]

  def seconds(model: bert_jax.Model) -> float:
    began = time.perf_counter()
    model.embed(texts, "mean", max_tokens=TOKENS, long="cut", batch_size=128, progress=False)
    return time.perf_counter() - began

  for model in models:
    seconds(model)
  rounds = [[seconds(model) for model in models] for _ in range(ROUNDS)]
  for folder, model, times in zip(folders, models, zip(*rounds, strict=True), strict=True):
    print(f"{len(texts) / statistics.median(times):9,.0f} texts/s  {model.describe()}  {folder}")
  ratios = sorted(first / second for first, second in rounds)
  print(f"the second is {statistics.median(ratios):.2f} times as quick (rounds: {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
  main(sys.argv[1:])
