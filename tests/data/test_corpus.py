"""The opened store: gathering tokens, splitting documents, finding damage."""

import copy
import pathlib
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.data import checksums, store
from bert_jax.data import corpus as corpus_module
from tests.data import small_stores
from tests.data.small_stores import TOKENIZER, use_small_units


@pytest.fixture(autouse=True)
def _small_units(monkeypatch):
  use_small_units(monkeypatch)


@pytest.fixture(scope="module")
def prepared():
  return small_stores.prepared()


# ---- gather --------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_gather_is_slicing(prepared, data):
  corpus, _, _ = prepared
  token_ids, word_starts = whole(corpus)
  near_borders = st.sampled_from(corpus._shard_offsets.tolist()).flatmap(lambda b: st.integers(max(0, b - 9), b + 9))
  starts = data.draw(st.lists(near_borders | st.integers(0, corpus.num_tokens), max_size=20))
  starts = [min(start, corpus.num_tokens) for start in starts]
  lengths = [min(data.draw(st.sampled_from([0, 1, 13, 2000, 10**6])), corpus.num_tokens - start) for start in starts]
  got_ids, got_starts = corpus.gather(np.array(starts, np.int64), np.array(lengths))
  pieces = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
  np.testing.assert_array_equal(got_ids, np.concatenate([token_ids[:0], *(token_ids[p] for p in pieces)]))
  np.testing.assert_array_equal(got_starts, np.concatenate([word_starts[:0], *(word_starts[p] for p in pieces)]))


def whole(corpus: store.Corpus) -> tuple[np.ndarray, np.ndarray]:
  """All tokens and word starts, read from the files without `gather`."""
  shards = [corpus.folder / "shards" / shard["name"] for shard in corpus.metadata["shards"]]
  ids = [np.load(shard / "token_ids.npy") for shard in shards]
  bits = [np.unpackbits(np.load(shard / "word_starts.npy"), bitorder="little") for shard in shards]
  return np.concatenate(ids), np.concatenate([b[: len(i)] for b, i in zip(bits, ids, strict=True)]).astype(bool)


# ---- splits --------------------------------------------------------------------------------------------


def with_hashes(corpus: store.Corpus, hashes: np.ndarray) -> store.Corpus:
  other = copy.copy(corpus)
  other.document_groups = np.asarray(hashes, np.uint64)
  return other


fractions = st.sampled_from([0.01, 0.05, 0.3, 0.5, 0.99]) | st.floats(0.001, 0.999)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40), st.integers(0, 9), fractions, fractions, fractions)
def test_splits(prepared, hashes, repeats, eval_fraction, small, large):
  hashes = np.array(hashes + hashes[:repeats], np.uint64)
  corpus = with_hashes(prepared[0], hashes)
  small, large = sorted((small, large))
  if len(set(hashes.tolist())) == 1:
    with pytest.raises(ValueError, match="one text only"):
      corpus.documents("eval", eval_fraction, 1.0)
    return
  held_out = corpus.documents("eval", eval_fraction, large)
  training = corpus.documents("train", eval_fraction, 1.0)
  np.testing.assert_array_equal(np.sort(np.concatenate([held_out, training])), np.arange(len(hashes)))
  assert len(held_out)
  assert len(training)
  assert not set(hashes[held_out].tolist()) & set(hashes[training].tolist())
  fewer, more = (corpus.documents("train", eval_fraction, fraction) for fraction in (small, large))
  assert len(fewer)
  assert set(fewer.tolist()) <= set(more.tolist()) <= set(training.tolist())
  np.testing.assert_array_equal(held_out, corpus.documents("eval", eval_fraction, small))
  assert fewer.dtype == held_out.dtype == np.int64
  order = np.random.default_rng(len(hashes)).permutation(len(hashes))
  shuffled = with_hashes(corpus, hashes[order]).documents("eval", eval_fraction, 1.0)
  assert sorted(hashes[order][shuffled].tolist()) == sorted(hashes[held_out].tolist())


def test_shares_are_as_asked_and_independent(prepared):
  rng = np.random.default_rng(0)
  corpus = with_hashes(prepared[0], rng.integers(0, 2**64, 200_000, np.uint64))
  held_out, training = len(corpus.documents("eval", 0.05, 1.0)), len(corpus.documents("train", 0.05, 0.25))
  # 5 standard deviations of a binomial
  assert abs(held_out - 10_000) < 5 * (10_000 * 0.95) ** 0.5
  assert abs(training - 47_500) < 5 * (47_500 * 0.75) ** 0.5


def test_without_evaluation_nothing_is_held_out(prepared):
  corpus, texts, _ = prepared
  assert len(corpus.documents("eval", 0.0, 1.0)) == 0
  assert len(corpus.documents("train", 0.0, 1.0)) == len(texts)


# ---- damage --------------------------------------------------------------------------------------------


@pytest.fixture
def copied(prepared, tmp_path):
  """A copy of the store, and the settings that it was made with."""
  corpus, _, data = prepared
  shutil.copytree(corpus.folder, tmp_path / "store")
  return tmp_path / "store", data


def flipped(file: pathlib.Path, bit: int) -> bytes:
  """Flips a bit of a file; returns what the file was before."""
  before = file.read_bytes()
  content = bytearray(before)
  content[bit // 8] ^= 1 << bit % 8
  file.write_bytes(content)
  return before


@pytest.mark.parametrize("at_once", [True, False])
def test_a_flipped_bit_in_any_file_is_an_error_that_names_it(copied, monkeypatch, at_once):
  folder, data = copied
  if not at_once:
    monkeypatch.setattr(corpus_module, "VERIFY_AT_ONCE_BYTES", 0)
  rng = np.random.default_rng(0)
  checked = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.stat().st_size]
  checked = [file for file in checked if "shards" not in file.parts or file.parent.name == "00001"]
  assert len(checked) > 14
  for file in checked:
    size = 8 * file.stat().st_size
    for bit in {0, size - 1, *rng.integers(0, size, 2).tolist()}:
      before = flipped(file, bit)
      with pytest.raises(ValueError, match=rf"{file.relative_to(folder)} (has|is missing|is not as it was written)"):
        store.prepare(data, folder).finish_verification()
      file.write_bytes(before)
  store.prepare(data, folder).finish_verification()


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other"])
def test_damaged_files_are_named(copied, damage):
  folder, data = copied
  for file in [
    folder / "metadata.json",
    folder / "sentence_offsets.npy",
    folder / "shards" / "00001" / "token_ids.npy",
  ]:
    before = file.read_bytes()
    if damage == "missing":
      file.unlink()
    else:
      file.write_bytes({"cut": before[:-2], "empty": b"", "other": b"[1]"}[damage])
    if file.name != "metadata.json" or damage != "missing":  # without it, a store is unfinished
      with pytest.raises(ValueError, match=rf"{file.relative_to(folder)} (has|is missing|is not as it was written)"):
        store.prepare(data, folder)
    file.write_bytes(before)


def test_damage_found_meanwhile_is_raised_by_the_next_batch(copied, monkeypatch):
  folder, _ = copied
  hash_file, go_on = checksums.hash_file, threading.Event()

  def slow_hash(file):
    if file.name == "token_ids.npy":
      assert go_on.wait(60)
    return hash_file(file)

  monkeypatch.setattr(corpus_module, "VERIFY_AT_ONCE_BYTES", 0)
  monkeypatch.setattr(checksums, "hash_file", slow_hash)
  flipped(folder / "shards" / "00002" / "token_ids.npy", 2000)
  corpus = store.open_corpus(folder)
  assert len(corpus.gather(np.array([0]), np.array([5]))[0]) == 5
  go_on.set()
  with pytest.raises(ValueError, match=r"00002/token_ids.npy has changed since it was written"):
    corpus.finish_verification()
  with pytest.raises(ValueError, match=r"00002/token_ids.npy has changed since it was written"):
    corpus.gather(np.array([0]), np.array([5]))


def test_a_store_of_another_format_is_refused(copied):
  folder, data = copied
  metadata = (folder / "metadata.json").read_text()
  (folder / "metadata.json").write_text(metadata.replace('"format_version": 2', '"format_version": 7'))
  for attempt in (lambda: store.open_corpus(folder), lambda: store.prepare(data, folder)):
    with pytest.raises(ValueError, match=r"metadata.json has the store format 7, and this version reads 2"):
      attempt()


def test_another_tokenizer_in_the_store_is_refused(copied):
  folder, _ = copied
  TOKENIZER.save(folder / "tokenizer")
  with pytest.raises(ValueError, match=r"tokenizer/tokenizer.json has changed since it was written"):
    store.open_corpus(folder)


def test_only_known_splits(prepared):
  with pytest.raises(AssertionError):
    prepared[0].documents("test", 0.1, 1.0)
  assert corpus_module.FORMAT_VERSION == 2
