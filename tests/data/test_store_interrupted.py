"""What an interruption of `prepare` leaves, and that the next call ends as if there had been none."""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from absl import logging

from bert_jax.data import sources, store, tokenize
from bert_jax.data.corpus import SHARD_ARRAYS
from tests.data import small_stores
from tests.data.small_stores import (
  SHARD,
  TOKENIZER,
  UNIT,
  assert_holds,
  files,
  flip_a_bit,
  some_texts,
  use_small_units,
  write_documents,
)


@pytest.fixture(autouse=True)
def _small_units(monkeypatch):
  use_small_units(monkeypatch)


@pytest.fixture(scope="module")
def prepared():
  return small_stores.prepared()


INTERRUPTED = """
import os, pathlib, signal, shutil, sys
from bert_jax.config import DataConfig, TokenizerConfig
from bert_jax.data import shards, store
shards.UNIT_CHARACTERS, shards.SHARD_CHARACTERS = 700, 2500
text, work = sys.argv[1], pathlib.Path(sys.argv[2])
data = DataConfig(source=f"jsonl:{text}", tokenizer=TokenizerConfig(vocab_size=300))
replace, save = os.replace, store.np.save

def files(folder):  # a lock may still say who held it last
  found = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != ".lock")
  return {str(f.relative_to(folder)): f.read_bytes() for f in found}

def die_at(count):
  # Every write that the store makes ends in one of these; death comes just before or just after one.
  left = [count]
  def before_and_after(call):
    def wrapped(*arguments):
      for half in (lambda: None, lambda: call(*arguments)):
        half()
        left[0] -= 1
        if left[0] < 0:
          os.kill(os.getpid(), signal.SIGKILL)
    return wrapped
  os.replace, store.np.save = before_and_after(replace), before_and_after(save)

store.prepare(data, work / "whole", num_workers=1)
whole, count, states = files(work / "whole"), 0, set()
while True:
  folder = work / "cut"
  child = os.fork()
  if child == 0:
    die_at(count)
    store.prepare(data, folder, num_workers=1)
    os._exit(0)
  killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
  states.add(len(list(folder.glob("shards/?????"))))
  store.prepare(data, folder, num_workers=1)
  assert files(folder) == whole, (count, files(folder).keys() ^ whole.keys())
  shutil.rmtree(folder)
  if not killed:
    break
  count += 1
print(count, len(states))
"""


@pytest.mark.slow
def test_killed_at_any_write_it_ends_as_if_undisturbed(tmp_path):
  write_documents(tmp_path / "text", some_texts(14))
  run = subprocess.run(
    [sys.executable, "-c", INTERRUPTED, tmp_path / "text", tmp_path],
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TOKENIZERS_PARALLELISM": "false"},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  writes, states = map(int, run.stdout.split())
  assert writes > 40
  assert states > 2


@pytest.mark.slow
def test_killed_with_its_workers_at_work(prepared, tmp_path):
  corpus, texts, data = prepared
  program = textwrap.dedent(f"""
    from bert_jax.config import DataConfig, TokenizerConfig
    from bert_jax.data import shards, store
    shards.UNIT_CHARACTERS, shards.SHARD_CHARACTERS = {UNIT}, {SHARD}
    data = DataConfig(source={data.source!r}, tokenizer=TokenizerConfig(vocab_size=300))
    store.prepare(data, {str(tmp_path / "store")!r}, num_workers=2)
  """)
  seen = set()
  for _ in range(2):
    process = subprocess.Popen(
      [sys.executable, "-c", program],
      env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
      start_new_session=True,
    )
    while process.poll() is None and {f.name for f in (tmp_path / "store" / "shards").glob("?????")} <= seen:
      pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen |= {f.name for f in (tmp_path / "store" / "shards").glob("?????")}
  assert seen
  again = store.prepare(data, tmp_path / "store", num_workers=2)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))
  assert_holds(again, texts)


def test_finished_shards_are_not_made_again(prepared, tmp_path, monkeypatch):
  corpus, _, data = prepared
  shutil.copytree(corpus.folder, tmp_path / "store")
  (tmp_path / "store" / "metadata.json").unlink()
  shutil.rmtree(tmp_path / "store" / "shards" / "00003")
  shutil.rmtree(tmp_path / "store" / "shards" / "00004")
  times = {f: f.stat().st_mtime_ns for f in (tmp_path / "store").glob("shards/0000[012]/*")}
  made = []
  tokenize_all = tokenize.tokenize_all
  monkeypatch.setattr(
    tokenize, "tokenize_all", lambda units, *rest: tokenize_all((made.append(u) or u for u in units), *rest)
  )
  store.prepare(data, tmp_path / "store", num_workers=1)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))
  assert {f: f.stat().st_mtime_ns for f in times} == times
  done = sum(shard["num_source_documents"] for shard in corpus.metadata["shards"][:3])
  assert sum(map(len, made)) == 60 - done


def test_a_damaged_shard_of_an_unfinished_store_is_made_again(prepared, tmp_path):
  corpus, _, data = prepared
  shutil.copytree(corpus.folder, tmp_path / "store")
  (tmp_path / "store" / "metadata.json").unlink()
  flip_a_bit(tmp_path / "store" / "shards" / "00001" / "token_ids.npy")
  store.prepare(data, tmp_path / "store", num_workers=1)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


@pytest.mark.parametrize("damaged", ["plan.json", "tokenizer/tokenizer.json", "tokenizer/checksums.json"])
def test_an_unfinished_store_with_a_damaged_plan_or_tokenizer_is_begun_anew(prepared, tmp_path, damaged):
  corpus, _, data = prepared
  shutil.copytree(corpus.folder, tmp_path / "store")
  (tmp_path / "store" / "metadata.json").unlink()
  shutil.rmtree(tmp_path / "store" / "shards" / "00001")
  flip_a_bit(tmp_path / "store" / damaged)
  store.prepare(data, tmp_path / "store", num_workers=1)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


def test_a_damaged_description_of_a_finished_shard_is_made_again(prepared, tmp_path):
  corpus, _, data = prepared
  shutil.copytree(corpus.folder, tmp_path / "store")
  (tmp_path / "store" / "metadata.json").unlink()
  flip_a_bit(tmp_path / "store" / "shards" / "00001" / "shard.json")
  store.prepare(data, tmp_path / "store", num_workers=1)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


def test_half_a_tokenizer_is_not_mixed_with_another(prepared, tmp_path):
  corpus, _, data = prepared
  (tmp_path / "store" / "tokenizer.tmp").mkdir(parents=True)
  (tmp_path / "store" / "tokenizer.tmp" / "spiece.model").write_bytes(b"the first half of a model")
  shutil.copy(corpus.folder / "plan.json", tmp_path / "store")
  store.prepare(data, tmp_path / "store", num_workers=1)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


@pytest.mark.parametrize("failing", range(0, 16, 3))
def test_an_error_leaves_no_half_work(prepared, tmp_path, monkeypatch, failing):
  corpus, _, data = prepared
  save, calls = np.save, []

  def full_disk(*arguments):
    calls.append(arguments)
    if len(calls) > failing:
      raise OSError(28, "No space left on device")
    save(*arguments)

  monkeypatch.setattr(np, "save", full_disk)
  with pytest.raises(OSError, match="No space left"):
    store.prepare(data, tmp_path / "store", num_workers=1)
  assert not [name for name in files(tmp_path / "store") if ".tmp" in name]
  assert len(list((tmp_path / "store" / "shards").iterdir())) == failing // len(SHARD_ARRAYS)
  monkeypatch.undo()
  use_small_units(monkeypatch)
  store.prepare(data, tmp_path / "store", num_workers=1)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


def test_a_dead_worker_is_reported(prepared, tmp_path, monkeypatch):
  corpus, _, data = prepared
  call = tokenize._Worker.__call__

  def die_at_thirty(worker, texts):
    if any("Number 30." in text for text in texts):
      worker._process.kill()
      worker._process.wait()
    return call(worker, texts)

  monkeypatch.setattr(tokenize._Worker, "__call__", die_at_thirty)
  with pytest.raises(RuntimeError, match=r"ended with status -9.*runtime.num_workers"):
    store.prepare(data, tmp_path / "store", num_workers=2)
  monkeypatch.setattr(tokenize._Worker, "__call__", call)
  store.prepare(data, tmp_path / "store", num_workers=2)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


def test_an_error_in_a_worker_comes_through(tmp_path):
  units = [[sources.Document("text", "a")]]
  TOKENIZER.save(tmp_path / "t")
  worker = tokenize._Worker(str(tmp_path / "t"))
  try:
    with pytest.raises(AttributeError):
      worker([None])  # pyright: ignore[reportArgumentType]
    assert len(worker(["text"]).kept) == len(units[0])
  finally:
    worker.stop()


def test_two_at_once_make_one_store(prepared, tmp_path):
  corpus, _, data = prepared
  with concurrent.futures.ThreadPoolExecutor(2) as threads:
    made = list(threads.map(lambda _: store.prepare(data, tmp_path / "store", num_workers=1).hash, range(2)))
  assert made == [corpus.hash] * 2
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


def test_a_line_says_for_what_it_waits(prepared, tmp_path, caplog):
  logging.use_python_logging(quiet=True)
  caplog.set_level("INFO", logger="absl")
  corpus, _, data = prepared
  (tmp_path / "store").mkdir()
  with concurrent.futures.ThreadPoolExecutor(1) as threads:
    with store._locked(store.epath.Path(tmp_path / "store")):
      made = threads.submit(store.prepare, data, tmp_path / "store", 1)
      while "waiting for" not in caplog.text and not made.done():
        time.sleep(0.01)
    assert made.result().hash == corpus.hash
  line = f"waiting for process {os.getpid()}, which prepares the same corpus in {tmp_path / 'store'}"
  assert caplog.messages.count(line) == 1
  assert (tmp_path / "store" / ".lock").read_text() == ""


def test_of_a_bad_text_every_process_says_what_is_wrong(tmp_path, monkeypatch, caplog):
  """The one that waited finds the folder gone, and makes it again."""
  logging.use_python_logging(quiet=True)
  caplog.set_level("INFO", logger="absl")
  data, folder = write_documents(tmp_path / "text", some_texts(5)), tmp_path / "store"
  train = store._make_tokenizer

  def fail(*given):
    assert waited.wait(60)
    raise ValueError("the text is bad")

  waited = threading.Event()
  monkeypatch.setattr(store, "_make_tokenizer", fail)
  with concurrent.futures.ThreadPoolExecutor() as pool:
    first = pool.submit(store.make, data, folder, 1)
    while not (folder / ".lock").exists() or not (folder / ".lock").read_text():
      time.sleep(0.01)
    second = pool.submit(store.make, data, folder, 1)
    while "waiting for" not in caplog.text:
      time.sleep(0.01)
    waited.set()
    for made in (first, second):
      with pytest.raises(ValueError, match="the text is bad"):
        made.result(timeout=60)
  assert not folder.exists()
  monkeypatch.setattr(store, "_make_tokenizer", train)
  store.make(data, folder, 1)


# ---- foreign code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_a_clone", [False, True])
@pytest.mark.parametrize("pythonpath", [None, "", ".", "{root}"])
def test_modules_in_the_current_folder_are_not_run(tmp_path, monkeypatch, from_a_clone, pythonpath):
  package = pathlib.Path(tokenize.__file__).parent.parent
  here = tmp_path / "here"
  here.mkdir()
  if from_a_clone:
    shutil.copytree(package, here / "bert_jax", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(tokenize.bert_jax, "__file__", str(here / "bert_jax" / "__init__.py"))
  ran = tmp_path / "ran"
  for name in ("sentencex", "numpy", "tokenizers", "json", "pickle", "sitecustomize"):
    (here / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\nraise ImportError('hostile')\n")
  TOKENIZER.save(tmp_path / "t")
  monkeypatch.chdir(here)
  if pythonpath is None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
  else:
    monkeypatch.setenv("PYTHONPATH", pythonpath.format(root=package.parent))
  worker = tokenize._Worker(str(tmp_path / "t"))
  try:
    assert len(worker(["text"]).kept) == 1
  finally:
    worker.stop()
  assert not ran.exists()
