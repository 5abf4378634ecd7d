"""Speed of the batches: tokens a second on one core, read, laid out and masked, for each format and masking unit.

Counted are real tokens (padding is work, and no result) and seconds of the processor, so that what else runs on the
machine disturbs little. The goals at length 512, batch 256 are 10M token/s for packed sentences and 5M for segment
pairs. A pair of single sentences leaves most of 512 places empty, so its figure says more about padding than about
the code.

  python benchmarks/pipeline.py
  python benchmarks/pipeline.py --sources='text:FOLDER/*.txt' --seq_len=128

`synthetic` is text of random words, so its documents have any length that is asked for; `demo` needs the extra `demo`.
"""

import dataclasses
import itertools
import pathlib
import statistics
import tempfile
import time

import numpy as np
from absl import app, flags, logging

from bert_jax.config import DataConfig, MaskingConfig, TokenizerConfig
from bert_jax.data import store
from bert_jax.data.batches import TrainBatches
from bert_jax.data.corpus import Corpus

SOURCES = flags.DEFINE_list("sources", ["synthetic", "demo"], "synthetic, or values of data.source")
SEQ_LEN = flags.DEFINE_integer("seq_len", 512, "places of a row")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "rows of a batch")
VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 8192, "of the tokenizer that is trained")
SENTENCES = flags.DEFINE_integer("sentences", 100_000, "of the synthetic text, 41 on average a document")
BATCHES = flags.DEFINE_integer("batches", 20, "batches of one timing")
REPEATS = flags.DEFINE_integer("repeats", 5, "timings, of which the median is shown")

FORMATS = ("segment_pair", "sentence_pair", "full_sentences", "doc_sentences")
UNITS = ("token", "whole_word")


def main(_: list[str]) -> None:
  logging.set_verbosity(logging.ERROR)
  for source in SOURCES.value:
    with tempfile.TemporaryDirectory() as folder:
      try:
        corpus = prepare(source, pathlib.Path(folder))
      except ValueError as error:
        print(f"\n{source}: left out: {error}")
        continue
      print(f"\n{source}: {corpus.num_documents:,} documents, {corpus.num_tokens:,} tokens; ", end="")
      print(f"length {SEQ_LEN.value}, batch {BATCH_SIZE.value}; one core")
      print(
        f"{'format':<16}{'unit':<12}{'M token/s':>10}{'real share':>12}{'random pairs':>14}{'M sentence/s built':>20}"
      )
      for format, unit in itertools.product(FORMATS, UNITS):
        print(measure(corpus, format, unit), flush=True)


def prepare(source: str, folder: pathlib.Path) -> Corpus:
  """The tokenized corpus of a source."""
  data = DataConfig(source=source, tokenizer=TokenizerConfig(vocab_size=VOCAB_SIZE.value))
  if source == "synthetic":
    (folder / "synthetic.txt").write_text(synthetic_text(SENTENCES.value))
    data = dataclasses.replace(data, source=f"text:{folder / 'synthetic.txt'}", text_documents="blank_line")
  return store.prepare(data, folder / "store")


def synthetic_text(num_sentences: int) -> str:
  """Random words of 2 to 8 letters with frequencies as Zipf's law has them; 5 to 35 words a sentence, 1 to 80 sentences
  a document."""
  rng = np.random.default_rng(0)
  letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
  words = np.array(["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(20_000)])
  frequencies = 1 / np.arange(1, len(words) + 1)
  sizes = rng.integers(5, 36, num_sentences)
  drawn = iter(words[rng.choice(len(words), sizes.sum(), p=frequencies / frequencies.sum())].tolist())
  sentences = [" ".join(itertools.islice(drawn, size)).capitalize() + "." for size in sizes.tolist()]
  rest = iter(sentences)
  documents = iter(lambda: " ".join(itertools.islice(rest, int(rng.integers(1, 81)))), "")
  return "\n\n".join(documents)


def measure(corpus: Corpus, format, unit) -> str:
  """One line of the table."""
  masking = MaskingConfig(policy="dynamic", unit=unit)
  data = DataConfig(format=format, max_seq_len=SEQ_LEN.value, segmentations=1, masking=masking)
  make = TrainBatches(corpus, data, 0, BATCH_SIZE.value)
  begin = time.process_time()
  examples = make.examples(0)
  building = time.process_time() - begin
  make(0)  # warm-up: files are read for the first time
  speeds, tokens = [], 0
  for repeat in range(REPEATS.value):
    tokens, begin = 0, time.process_time()
    for step in range(repeat * BATCHES.value, (repeat + 1) * BATCHES.value):
      tokens += int(make(step)["attention_mask"].sum())
    speeds.append(tokens / (time.process_time() - begin) / 1e6)
  share = tokens / (BATCHES.value * BATCH_SIZE.value * SEQ_LEN.value)
  random = "" if examples.random_share is None else f"{examples.random_share:.1%}"
  built = corpus.num_sentences / building / 1e6
  return f"{format:<16}{unit:<12}{statistics.median(speeds):>10.1f}{share:>12.0%}{random:>14}{built:>20.1f}"


if __name__ == "__main__":
  app.run(main)
