"""Time and memory of preparing text, by the size of the text: tokenized by `bert-jax prepare`, then cut into examples.

Larger texts are copies of a given one, each with the words of its documents in another order, so that no two are near
duplicates. Memory is the peak over all processes, without the pages of files, which the system takes back at will.

  python benchmarks/preparing.py --source='jsonl:FOLDER' --tokens=10e6,100e6,1e9
  python benchmarks/preparing.py --prepare='--runner=DirectRunner -- --direct_running_mode=multi_processing'

Works on Linux, and with the extra `demo` where no source is given.
"""

import contextlib
import itertools
import json
import os
import pathlib
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from absl import app, flags
from etils import epath

from bert_jax.config import DataConfig
from bert_jax.data import sources
from bert_jax.data.batches import TrainBatches
from bert_jax.data.corpus import open_corpus, read_metadata

SOURCE = flags.DEFINE_string("source", "demo", "text to repeat, a value of data.source")
TOKENS = flags.DEFINE_list("tokens", ["1e6", "10e6"], "sizes of text, about, a line of the table each")
VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 30_522, "of the tokenizer that is trained")
PREPARE = flags.DEFINE_string("prepare", "", "more flags of `bert-jax prepare`, such as a runner and its own flags")
CUT = flags.DEFINE_enum("cut", None, ["full_sentences", "segment_pair"], "cut the store --store so, and no more")
STORE = flags.DEFINE_string("store", None, "for --cut")
FOLDER = flags.DEFINE_string("folder", None, "for text and stores, which go when done; none: the system's")

CHARACTERS_A_TOKEN = 4.9  # of English articles, for such a vocabulary
FILE_CHARACTERS = 32_000_000
RUN = "import sys; from bert_jax.cli.main import main; sys.exit(main())"
COLUMNS = ("tokens", "documents", "text, MB", "store, MB", "prepared", "", "full sentences", "", "segment pairs", "")


def main(_: list[str]) -> None:
  if CUT.value:
    store: Any = STORE.value
    way: Any = CUT.value
    TrainBatches(open_corpus(store), DataConfig(format=way, max_seq_len=512), 0, 256)(0)
    return
  documents = [document.text for document in sources.open_source(DataConfig(source=SOURCE.value))]
  print("Seconds, and GiB at most, of each of the three.")
  print(f"{os.cpu_count()} cores; {SOURCE.value}, {PREPARE.value or 'this machine'}")
  print(" ".join(f"{name:>{max(12, len(name))}}" for name in COLUMNS), flush=True)
  for tokens in map(float, TOKENS.value):
    with tempfile.TemporaryDirectory(dir=FOLDER.value) as folder:
      cells = measure(documents, int(tokens), pathlib.Path(folder))
    print(" ".join(f"{cell:>{max(12, len(name))}}" for name, cell in zip(COLUMNS, cells, strict=True)), flush=True)


def measure(documents: list[str], tokens: int, folder: pathlib.Path) -> list[str]:
  """The cells of one line."""
  size = write(documents, int(tokens * CHARACTERS_A_TOKEN), folder / "text")
  store = folder / "store"
  command = ["-c", RUN, "prepare", "pretrain", f"--workdir={folder / 'W'}", f"--data.store={store}"]
  command += [f"--data.source=jsonl:{folder / 'text'}", f"--data.tokenizer.vocab_size={VOCAB_SIZE.value}"]
  command += shlex.split(PREPARE.value)
  measured = [watched(command)]
  of_store = read_metadata(epath.Path(store))
  shutil.rmtree(folder / "text")
  files = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
  for way in ("full_sentences", "segment_pair"):
    measured.append(watched([__file__, f"--store={store}", f"--cut={way}"]))
  cells = [f"{of_store['num_tokens']:,}", f"{of_store['num_documents']:,}", f"{size / 1e6:,.0f}", f"{files / 1e6:,.0f}"]
  return cells + [cell for seconds, peak in measured for cell in (f"{seconds:,.0f}", f"{peak / 2**30:.2f}")]


def write(documents: list[str], characters: int, folder: pathlib.Path) -> int:
  """Writes files of so much text; returns their bytes."""
  folder.mkdir()
  copies = (text for copy in itertools.count() for text in in_another_order(documents, copy))
  written = 0
  for number in itertools.count():
    file = folder / f"{number:05d}.jsonl"
    with file.open("w") as stream:
      in_file = 0
      while in_file < FILE_CHARACTERS and written < characters:
        text = next(copies)
        stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        in_file, written = in_file + len(text), written + len(text)
    if written >= characters:
      return sum(file.stat().st_size for file in folder.iterdir())
  raise AssertionError


def in_another_order(documents: list[str], copy: int) -> Iterator[str]:
  """The documents; of every copy but the first, with their words in another order."""
  draw = random.Random(copy)
  for text in documents:
    if copy:
      words = text.split(" ")
      draw.shuffle(words)
      text = " ".join(words)
    yield text


def watched(command: list[str]) -> tuple[float, int]:
  """Seconds that a Python process took, and the peak of its and its children's memory, in bytes."""
  began, peak = time.monotonic(), 0
  with tempfile.TemporaryFile("w+") as said:
    process = subprocess.Popen([sys.executable, *command], stdout=said, stderr=subprocess.STDOUT)
    while process.poll() is None:
      peak = max(peak, sum(memory(pid) for pid in tree(process.pid)))
      time.sleep(0.2)
    if process.returncode:
      said.seek(0)
      raise SystemExit(said.read()[-4_000:])
  return time.monotonic() - began, peak


def tree(pid: int) -> Iterator[int]:
  """A process and all that came of it."""
  yield pid
  with contextlib.suppress(OSError):  # it ended meanwhile
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
      for child in (task / "children").read_text().split():
        yield from tree(int(child))


def memory(pid: int) -> int:
  """Bytes that no file holds; what processes share is divided among them."""
  with contextlib.suppress(OSError):
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))
  return 0


if __name__ == "__main__":
  app.run(main)
