"""Small stores for the tests of the store: of a text that they write, with units and shards of a few documents."""

import atexit
import functools
import json
import pathlib
import random
import shutil
import tempfile

import numpy as np
import pytest

from bert_jax.config import DataConfig, TokenizerConfig
from bert_jax.data import sentences, shards, store, tokenize, tokenizers
from tests.data.test_tokenizers import make_text

UNIT, SHARD = 700, 2500  # characters: small, so that a small text has many of both
TOKENIZER = tokenizers.train(make_text(9), TokenizerConfig(vocab_size=200))


def use_small_units(monkeypatch: pytest.MonkeyPatch) -> None:
  """Makes stores cut text into units and shards of a few documents."""
  monkeypatch.setattr(shards, "UNIT_CHARACTERS", UNIT)
  monkeypatch.setattr(shards, "SHARD_CHARACTERS", SHARD)


def write_documents(folder: pathlib.Path, texts: list[str]) -> DataConfig:
  """The texts as a JSON lines file, and settings with a small tokenizer."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
  return DataConfig(source=f"jsonl:{folder}", tokenizer=TokenizerConfig(vocab_size=300))


def some_texts(count: int, seed: int = 0) -> list[str]:
  rng, lines = random.Random(seed), make_text(seed, 4000)
  return [" ".join(rng.choices(lines, k=rng.randint(1, 7))) + f" Number {i}." for i in range(count)]


def files(folder: pathlib.Path) -> dict[str, bytes]:
  """What the files of a store hold; its lock may still say who held it last."""
  found = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != ".lock")
  return {str(f.relative_to(folder)): f.read_bytes() for f in found}


@functools.cache
def prepared() -> tuple[store.Corpus, list[str], DataConfig]:
  """A store of many shards, the texts it holds, the settings it was made with; not to be written to."""
  folder = pathlib.Path(tempfile.mkdtemp())
  atexit.register(shutil.rmtree, folder)
  texts = some_texts(60)
  data = write_documents(folder / "text", texts)
  with pytest.MonkeyPatch.context() as patch:
    use_small_units(patch)
    return store.prepare(data, folder / "store", num_workers=1), texts, data


def flip_a_bit(file: pathlib.Path) -> None:
  """Damages a file in place."""
  content = bytearray(file.read_bytes())
  content[-3] ^= 4
  file.write_bytes(content)


def sentence_tokens(corpus: store.Corpus) -> list[list[tuple[np.ndarray, np.ndarray]]]:
  """(token ids, word starts) of every sentence of every document, read piece by piece."""
  documents = []
  for first, last in zip(corpus.document_offsets[:-1], corpus.document_offsets[1:], strict=True):
    offsets = corpus.sentence_offsets[first : last + 1]
    documents.append([corpus.gather(offsets[i : i + 1], np.diff(offsets[i : i + 2])) for i in range(last - first)])
  return documents


def assert_holds(corpus: store.Corpus, texts: list[str]) -> None:
  """The store holds the sentences of the texts that have tokens, each encoded by itself."""
  expected = []
  for text in texts:
    encoded = [corpus.tokenizer.encode([sentence])[0] for sentence in sentences.split_sentences(text)]
    expected.append([pair for pair in encoded if len(pair[0])])
  kept = [i for i, document in enumerate(expected) if document]
  found = sentence_tokens(corpus)
  assert [len(document) for document in found] == [len(expected[i]) for i in kept]
  for document, i in zip(found, kept, strict=True):
    for (ids, starts), (expected_ids, expected_starts) in zip(document, expected[i], strict=True):
      np.testing.assert_array_equal(ids, expected_ids)
      np.testing.assert_array_equal(starts, expected_starts)
      assert ids.dtype == np.int32
      assert starts.dtype == bool
  assert corpus.document_hashes.tolist() == [tokenize.hash_text(texts[i]) for i in kept]
  assert (corpus.num_documents, corpus.num_sentences) == (len(kept), sum(len(document) for document in found))
  assert corpus.num_tokens == corpus.sentence_offsets[-1] == sum(len(ids) for d in found for ids, _ in d)
  for offsets in (corpus.document_offsets, corpus.sentence_offsets):
    assert offsets.dtype == np.int64
    assert offsets[0] == 0
    assert (np.diff(offsets) > 0).all()
