"""The opened store: gathering tokens, splitting documents, finding damage."""

import copy
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.data import corpus as corpus_module
from bert_jax.data import store
from tests.data import small_stores
from tests.data.small_stores import TOKENIZER, flip_a_bit, use_small_units


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
  other.document_hashes = np.asarray(hashes, np.uint64)
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


def test_damage_is_named(prepared, tmp_path):
  corpus, _, _ = prepared
  shutil.copytree(corpus.folder, tmp_path / "store")
  file = tmp_path / "store" / "shards" / "00001" / "token_ids.npy"
  good = file.read_bytes()
  flip_a_bit(file)
  with pytest.raises(ValueError, match=r"00001/token_ids.npy has changed since it was written"):
    store.open_corpus(tmp_path / "store").verify()
  for bad in (good[:-2], b"", good[:200]):
    file.write_bytes(bad)
    with pytest.raises(ValueError, match=r"00001/token_ids.npy (is missing or damaged|has)"):
      store.open_corpus(tmp_path / "store")
  np.save(file, np.load(tmp_path / "store" / "shards" / "00002" / "token_ids.npy")[:-1])
  with pytest.raises(ValueError, match=r"00001/token_ids.npy has \d+ entries, and the store \d+"):
    store.open_corpus(tmp_path / "store")
  file.unlink()
  with pytest.raises(ValueError, match=r"00001/token_ids.npy is missing or damaged"):
    store.open_corpus(tmp_path / "store")


def test_another_tokenizer_or_format_in_the_store_is_refused(prepared, tmp_path):
  corpus, _, _ = prepared
  shutil.copytree(corpus.folder, tmp_path / "store")
  metadata = (tmp_path / "store" / "metadata.json").read_text()
  (tmp_path / "store" / "metadata.json").write_text(metadata.replace('"format_version": 1', '"format_version": 7'))
  with pytest.raises(ValueError, match="format 7, and this version reads 1"):
    store.open_corpus(tmp_path / "store")
  (tmp_path / "store" / "metadata.json").write_text(metadata)
  TOKENIZER.save(tmp_path / "store" / "tokenizer")
  with pytest.raises(ValueError, match=f"{corpus.tokenizer.hash}, but .* holds {TOKENIZER.hash}"):
    store.open_corpus(tmp_path / "store")


def test_only_known_splits(prepared):
  with pytest.raises(AssertionError):
    prepared[0].documents("test", 0.1, 1.0)
  assert corpus_module.FORMAT_VERSION == 1
