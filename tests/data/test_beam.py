"""A store that Apache Beam's own runner has made is the one that this machine makes alone, byte for byte."""

import contextlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax.config import DataConfig
from bert_jax.data import beam, buckets, near_duplicates, shards, sources, store
from bert_jax.data.tokenize import hash_text
from tests.data.small_stores import SHARD, UNIT, files, some_texts, use_small_units, write_documents


@pytest.fixture(autouse=True)
def _small_units(monkeypatch):
  use_small_units(monkeypatch)


def several_files(folder: pathlib.Path) -> DataConfig:
  """Four files, one of them of short documents, with near duplicates across them."""
  texts = some_texts(60)
  texts[40] = texts[3] + " And one thing more."
  texts[41] = texts[3]
  data = write_documents(folder, texts[:20])
  for number, part in enumerate((texts[20:25], texts[25:50], texts[50:]), 1):
    write_documents(folder / "more", part)
    (folder / "more" / "a.jsonl").rename(folder / f"b{number}.jsonl")
  (folder / "more").rmdir()
  return data


# ---- what it is made of, without Beam ----


def test_parts_one_after_the_other_are_the_documents(tmp_path: pathlib.Path) -> None:
  source = sources.open_source(several_files(tmp_path / "text"))
  assert source.num_parts == 4
  assert [d for number in range(4) for d in source.part(number)] == list(source)
  assert [d.name for d in source.part(2)] == [d.name for d in source][25:50]


@pytest.mark.parametrize("seed", range(5))
def test_shards_begin_where_they_begin_on_one_machine(seed: int, tmp_path: pathlib.Path) -> None:
  lengths = np.random.default_rng(seed).integers(1, (40, 400, 1500, 4000, 9000)[seed], 90)
  texts = [f"{number} ".ljust(length, "a") for number, length in enumerate(lengths)]
  corpus = store.prepare(write_documents(tmp_path / "text", texts), tmp_path / "store", num_workers=1)
  counts = [shard["num_source_documents"] for shard in corpus.metadata["shards"]]
  bounds = shards.bounds(np.array([len(text) for text in texts]))
  assert np.diff(bounds).tolist() == counts


def test_a_shard_that_is_there_is_not_made_again_and_a_damaged_one_is(tmp_path: pathlib.Path) -> None:
  data = several_files(tmp_path / "text")
  whole = store.prepare(data, tmp_path / "store", num_workers=1)
  documents = list(sources.open_source(data))
  folder, count = epath.Path(tmp_path / "store"), whole.metadata["shards"][0]["num_source_documents"]
  before = files(tmp_path / "store")
  shard = tmp_path / "store" / "shards" / "00000"
  groups = near_duplicates.split_hashes(sources.open_source(data))[:count]

  def again() -> None:
    shards.write_one(folder, 0, iter(documents[:count]), groups, data)

  modified = (shard / "token_ids.npy").stat().st_mtime_ns
  again()
  assert (shard / "token_ids.npy").stat().st_mtime_ns == modified
  (shard / "token_ids.npy").write_bytes(b"damaged")
  again()
  assert files(tmp_path / "store") == before
  (shard / "token_ids.npy").write_bytes(b"damaged")
  with pytest.raises(ValueError, match="changed while"):
    shards.write_one(folder, 0, iter(documents[: count - 1]), groups, data)


def test_what_a_dead_worker_left_is_in_nobodys_way(tmp_path: pathlib.Path) -> None:
  data = several_files(tmp_path / "text")

  class Dying(store.ThisMachine):
    def write_shards(self, folder: epath.Path, *rest: Any) -> None:
      super().write_shards(folder, *rest)
      (folder / "shards" / "00001-0a1b2c3d.tmp").mkdir()

  store.prepare(data, tmp_path / "alone", num_workers=1)
  store.prepare(data, tmp_path / "died", engine=Dying(1))
  assert files(tmp_path / "died") == files(tmp_path / "alone")


# ---- with Beam ----


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
  "flags", [[], ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]], ids=["one", "several"]
)
def test_the_store_is_that_of_one_machine(flags: list[str], tmp_path: pathlib.Path) -> None:
  pytest.importorskip("apache_beam", reason="needs the extra beam")
  data = several_files(tmp_path / "text")
  source = sources.open_source(data)
  own = np.array([hash_text(document.text) for document in source], np.uint64)
  assert (near_duplicates.split_hashes(source) != own).any(), "near duplicates are among them"
  alone = store.prepare(data, tmp_path / "alone", num_workers=1)
  assert len(alone.metadata["shards"]) > 4
  store.prepare(
    data, tmp_path / "beam", engine=beam.Beam(epath.Path(tmp_path / "beam"), ["--runner=DirectRunner", *flags])
  )
  assert files(tmp_path / "beam") == files(tmp_path / "alone")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_store_of_a_bucket_is_that_of_a_disk(bucket: epath.Path, tmp_path: pathlib.Path) -> None:
  pytest.importorskip("apache_beam", reason="needs the extra beam")
  data = several_files(tmp_path / "text")
  store.prepare(data, tmp_path / "alone", num_workers=1)
  in_memory = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]  # where this bucket is seen
  store.make_in_bucket(data, bucket, str(tmp_path / "cache"), engine=beam.Beam(bucket, in_memory))
  copied = files(pathlib.Path(buckets.copied(bucket, str(tmp_path / "cache"), 0)))
  assert copied.pop(".used") == b""
  assert copied == files(tmp_path / "alone")


IN_WORKERS = """
import pathlib, sys
from etils import epath
from bert_jax.config import DataConfig, TokenizerConfig
from bert_jax.data import beam, shards, store
shards.UNIT_CHARACTERS, shards.SHARD_CHARACTERS = {unit}, {shard}
data = DataConfig(source={source!r}, tokenizer=TokenizerConfig(vocab_size=300))
flags = ["--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
folder = epath.Path({folder!r})
store.make(data, folder, engine=beam.Beam(folder, flags))
"""


def workers_of(command: subprocess.Popen[Any]) -> list[int]:
  """The processes of Beam's workers that a command in a session of its own has started."""
  found = []
  for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
    with contextlib.suppress(OSError):
      words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
      if b"apache_beam.runners.worker.sdk_worker_main" in words and os.getsid(pid) == command.pid:
        found.append(pid)
  return found


@pytest.mark.exhaustive
@pytest.mark.slow
def test_after_a_worker_died_the_same_command_ends_with_the_same_store(tmp_path: pathlib.Path) -> None:
  """Beam's own runner gives the work of a dead worker to nobody, and waits, or ends."""
  pytest.importorskip("apache_beam", reason="needs the extra beam")
  data, folder = several_files(tmp_path / "text"), tmp_path / "beam"
  store.prepare(data, tmp_path / "alone", num_workers=1)
  program = IN_WORKERS.format(unit=UNIT, shard=SHARD, source=data.source, folder=str(folder))
  for dies in (True, False):
    command = subprocess.Popen(
      [sys.executable, "-c", program],
      env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
      start_new_session=True,
      stderr=subprocess.DEVNULL,
    )
    if dies:
      while command.poll() is None and not (workers_of(command) and list(folder.glob("shards/?????"))):
        time.sleep(0.01)
      for pid in workers_of(command):
        os.kill(pid, signal.SIGKILL)
      with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(10)
      with contextlib.suppress(ProcessLookupError):
        os.killpg(command.pid, signal.SIGKILL)
      assert not (folder / "metadata.json").exists()
    assert (command.wait() == 0) == (not dies)
  assert files(folder) == files(tmp_path / "alone")


@pytest.mark.exhaustive
@pytest.mark.parametrize("runner", ["Nonsense", "nowhere.of.Runner"])
def test_a_runner_that_there_is_not_is_refused_before_the_text_is_read(runner: str, tmp_path: pathlib.Path) -> None:
  pytest.importorskip("apache_beam", reason="needs the extra beam")
  with pytest.raises(ValueError, match=runner.partition(".")[0]):
    beam.Beam(epath.Path(tmp_path), [f"--runner={runner}"])


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is not None, reason="Beam is installed")
def test_without_beam_its_extra_is_named_before_the_text_is_read(tmp_path: pathlib.Path) -> None:
  with pytest.raises(ValueError, match=r"--runner needs Apache Beam: pip install 'bert_jax\[beam\]'"):
    beam.Beam(epath.Path(tmp_path), ["--runner=DirectRunner"])
