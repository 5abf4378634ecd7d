"""Stores in a bucket: the same files as on a disk, copied before they are read."""

import dataclasses
import hashlib
import itertools
import os
import shutil

import numpy as np
import pytest
from etils import epath

from bert_jax import records, settings
from bert_jax.data import buckets, shards, store
from bert_jax.training.pretraining import check_corpus, prepare_corpus
from tests import tiny
from tests.data.small_stores import some_texts, use_small_units, write_documents


def files(folder: epath.Path) -> dict[str, bytes]:
  """What is in a folder, hidden files left out."""
  found = {}
  for path in folder.iterdir():
    if path.is_dir():
      found |= {f"{path.name}/{name}": content for name, content in files(path).items()}
    elif not path.name.startswith("."):
      found[path.name] = path.read_bytes()
  return found


def let_copies_go() -> None:
  """As if this process had ended."""
  while buckets._in_use:
    os.close(buckets._in_use.popitem()[1])


def test_a_store_made_in_a_bucket_and_copied_is_the_one_of_a_disk(bucket, tmp_path, monkeypatch):
  use_small_units(monkeypatch)
  data, cache = write_documents(tmp_path / "text", some_texts(14)), str(tmp_path / "cache")
  own = store.prepare(data, tmp_path / "own", num_workers=1)
  store.make_in_bucket(data, bucket, cache, num_workers=1)
  assert files(bucket) == files(epath.Path(tmp_path / "own"))
  assert not os.listdir(cache), "what was made here is let go"
  store.make_in_bucket(data, bucket, cache, num_workers=1)  # it is there
  with pytest.raises(ValueError, match=r"data\.eval_fraction"):
    store.make_in_bucket(dataclasses.replace(data, eval_fraction=0.3), bucket, cache)
  copy = buckets.copied(bucket, cache, 0)
  assert files(copy) == files(bucket)
  again, everything = store.open_corpus(copy), (np.array([0]), np.array([own.num_tokens]))
  assert again.hash == own.hash
  np.testing.assert_array_equal(again.gather(*everything)[0], own.gather(*everything)[0])


def test_shards_that_workers_write_into_a_bucket_are_those_of_a_disk(bucket, tmp_path, monkeypatch):
  """As Beam's workers do, where a shard is half there and another is of another text."""
  use_small_units(monkeypatch)
  data = write_documents(tmp_path / "text", some_texts(24))
  store.prepare(data, tmp_path / "own", num_workers=1)

  class Workers(store.ThisMachine):
    def write_shards(self, folder, source, data, groups):
      buckets.begin(folder, bucket)
      documents = list(source)
      bounds = shards.bounds(np.array([len(document.text) for document in documents]))
      assert len(bounds) > 3
      (bucket / "shards" / "00001" / "token_ids.npy").write_bytes(b"half")
      for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        for _ in range(2):  # once more, by a worker that was taken for dead
          shards.write_one(bucket, number, documents[begin:end], groups[begin:end], data)
      buckets.take(shards.folders(bucket), folder / "shards", but=("token_ids", "word_starts"))

  (bucket / "plan.json").write_text("{}")
  (bucket / "shards" / "00000" / "shard.json").write_text("{}")
  store.make_in_bucket(data, bucket, str(tmp_path / "cache"), engine=Workers(1))
  assert files(bucket) == files(epath.Path(tmp_path / "own"))


def test_a_copy_that_was_cut_short_goes_on_and_a_damaged_one_is_refused(bucket, tmp_path):
  data, cache = write_documents(tmp_path / "text", some_texts(5)), str(tmp_path / "cache")
  store.make_in_bucket(data, bucket, cache, num_workers=1)
  whole = buckets.copied(bucket, cache, 0)
  expected = files(whole)
  (whole / "metadata.json").unlink()
  (whole / "document_offsets.npy").unlink()
  assert files(buckets.copied(bucket, cache, 0)) == expected
  shutil.rmtree(whole)
  (bucket / "shards" / "00000" / "token_ids.npy").write_bytes(b"other")
  with pytest.raises(ValueError, match=r"token_ids\.npy has changed since it was written"):
    buckets.copied(bucket, cache, 0)
  with pytest.raises(ValueError, match="is missing or damaged"):
    buckets.copied(bucket.parent / "none", cache, 0)


@pytest.mark.parametrize("place", ["files", "shards"])
def test_no_store_writes_outside_of_the_cache(place, bucket, tmp_path):
  data, cache = write_documents(tmp_path / "text", some_texts(5)), tmp_path / "cache"
  store.make_in_bucket(data, bucket, str(cache), num_workers=1)
  metadata = records.require_json(bucket / "metadata.json", "")
  (bucket.parent / "evil.npy").write_bytes(b"evil")
  checksum = hashlib.sha256(b"evil").hexdigest()
  if place == "files":
    metadata["sha256"]["../evil.npy"] = checksum
  else:
    metadata["shards"].append({"name": "../..", "sha256": {"evil": checksum}})
  records.write_json(bucket / "metadata.json", metadata)
  with pytest.raises(ValueError, match="does not lie inside it"):
    buckets.copied(bucket, str(cache), 0)
  assert not list(tmp_path.rglob("evil.npy"))


def test_copies_keep_within_their_bound(bucket, tmp_path):
  sizes, cache = [], str(tmp_path / "cache")
  for number in range(3):
    data = write_documents(tmp_path / f"text{number}", some_texts(5, seed=number))
    store.make_in_bucket(data, bucket / str(number), cache, num_workers=1)
    sizes.append(sum(map(len, files(bucket / str(number)).values())))
  bound = 2.5 * max(sizes) / 2**30
  first, second = (buckets.copied(bucket / str(number), cache, bound) for number in (0, 1))
  os.utime(second / ".used", (1, 1))
  with pytest.raises(ValueError, match=r"has no room in .* those that are in use among them"):
    buckets.copied(bucket / "2", cache, bound)  # this process reads them
  held = {name for name in buckets._in_use if name.startswith(cache)}
  assert held == {os.fspath(first), os.fspath(second)}, "a copy that failed is left to others"
  let_copies_go()
  third = buckets.copied(bucket / "2", cache, bound)
  assert [copy.exists() for copy in (first, second, third)] == [True, False, True]
  assert store.open_corpus(buckets.copied(bucket / "2", cache, bound)).num_tokens > 0
  let_copies_go()
  with pytest.raises(ValueError, match=r"has no room in .*runtime\.store_cache_gib="):
    buckets.copied(bucket / "1", cache, 0.5 * sizes[1] / 2**30)


def test_a_run_reads_a_store_of_a_bucket_and_does_not_make_it(bucket, tmp_path):
  given = {"data.store": str(bucket), "runtime.store_cache": str(tmp_path / "cache")}
  config = settings.assign(tiny.config(tiny.write_text(tmp_path / "text")), given)
  with pytest.raises(ValueError, match="has no complete store; `bert-jax prepare"):
    check_corpus(config, tmp_path)
  store.make_in_bucket(config.data, bucket, str(tmp_path / "cache"), num_workers=1)
  check_corpus(config, tmp_path)
  corpus = prepare_corpus(config, tmp_path)
  assert corpus.num_tokens > 0
  assert corpus.folder.parent == epath.Path(tmp_path / "cache")


def test_other_files_of_a_bucket_are_left_alone(bucket, tmp_path):
  (bucket / "thesis.txt").write_text("mine")
  data = write_documents(tmp_path / "text", some_texts(5))
  with pytest.raises(ValueError, match="holds other files and no store"):
    store.make_in_bucket(data, bucket, str(tmp_path / "cache"), num_workers=1)
