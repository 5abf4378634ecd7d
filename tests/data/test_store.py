"""The store: what is in it, that it depends on the text alone, and what it refuses."""

import dataclasses
import pathlib
import shutil
import tempfile

import numpy as np
import pytest
from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.config import DataConfig, TokenizerConfig
from bert_jax.data import shards, store, tokenize, tokenizers
from tests.data import small_stores
from tests.data.small_stores import TOKENIZER, assert_holds, files, some_texts, use_small_units, write_documents
from tests.data.test_tokenizers import make_text


@pytest.fixture(autouse=True)
def _small_units(monkeypatch):
  use_small_units(monkeypatch)


@pytest.fixture(scope="module")
def prepared():
  return small_stores.prepared()


# ---- what is in it -------------------------------------------------------------------------------------


def test_a_store_of_many_shards_holds_its_text(prepared):
  corpus, texts, _ = prepared
  assert len(corpus.metadata["shards"]) > 4
  assert_holds(corpus, texts)


letters = st.text(
  st.sampled_from("aábBc1,.!?'- \n\n\u200b\0\u3000中") | st.characters(exclude_categories=["Cs"]), max_size=90
)


@settings(max_examples=40, deadline=None)
@given(
  st.lists(st.builds("a. {}".format, letters) | st.just("\u200b \u0000"), min_size=1, max_size=12), st.integers(1, 200)
)
def test_random_documents_round_trip(texts, shard):
  if all(text == "\u200b \u0000" for text in texts):
    texts = ["a", *texts]
  with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
    patch.setattr(shards, "UNIT_CHARACTERS", 1 + shard // 3)
    patch.setattr(shards, "SHARD_CHARACTERS", shard)
    folder = pathlib.Path(name)
    TOKENIZER.save(folder / "tokenizer")
    data = write_documents(folder / "text", texts)
    data = dataclasses.replace(data, tokenizer=TokenizerConfig(path=str(folder / "tokenizer")))
    assert_holds(store.prepare(data, folder / "store", num_workers=1), texts)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_other_kinds_of_tokenizer(tmp_path, kind):
  texts = some_texts(20)
  data = write_documents(tmp_path / "text", texts)
  data = dataclasses.replace(data, tokenizer=TokenizerConfig(kind=kind, vocab_size=300))
  assert_holds(store.prepare(data, tmp_path / "store", num_workers=1), texts)


def test_bytes_a_token(prepared):
  corpus, _, _ = prepared
  size = sum((corpus.folder / "shards" / s["name"] / f"{n}.npy").stat().length - 128  # numpy's header
             for s in corpus.metadata["shards"] for n in ("token_ids", "word_starts"))  # fmt: skip
  assert corpus.metadata["dtype"] == "uint16"
  assert size <= 2.2 * corpus.num_tokens


@pytest.mark.parametrize(("size", "dtype"), [(65_535, "uint16"), (65_536, "uint32"), (70_001, "uint32")])
def test_large_vocabularies_take_more_bytes(tmp_path, size, dtype):
  vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(5, size))]
  (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n")
  texts = [f"w{size - 1} w5 w{size - 2}", "w6 nothing"]
  data = write_documents(tmp_path / "text", texts)
  data = dataclasses.replace(data, tokenizer=TokenizerConfig(path=str(tmp_path / "vocab.txt")))
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  assert corpus.metadata["dtype"] == dtype
  assert corpus.gather(np.array([0]), np.array([5]))[0].tolist() == [size - 1, 5, size - 2, 6, 1]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_one_big_document(tmp_path, monkeypatch, num_workers):
  monkeypatch.setattr(tokenize, "_BATCH_CHARACTERS", 5000)
  texts = ["Small one.", " ".join(make_text(3, 9000)), "Small two.", "y" * 40_000]
  data = write_documents(tmp_path / "text", texts)
  assert_holds(store.prepare(data, tmp_path / "store", num_workers), texts)


def test_labels_are_kept_by_document(tmp_path, monkeypatch):
  texts = some_texts(40)
  labels = [None if i % 5 == 0 else f"task/{'zyx'[i % 3]}" for i in range(40)]
  data = write_documents(tmp_path / "text", texts)
  plain = store.open_source(data)
  documents = [dataclasses.replace(d, label=label) for d, label in zip(plain, labels, strict=True)]

  class Labelled(store.Source):
    description, fingerprint, size = plain.description, plain.fingerprint, plain.size

    def __iter__(self):
      return iter(documents)

  monkeypatch.setattr(store, "open_source", lambda data: Labelled())
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  assert len(corpus.metadata["shards"]) > 2
  assert corpus.document_labels == labels
  assert corpus.label_names == ["task/x", "task/y", "task/z"]


def test_metadata_says_what_it_is(prepared):
  corpus, _, data = prepared
  metadata = corpus.metadata
  assert metadata["source"]["description"] == data.source
  assert metadata["source"]["fingerprint"] == store.open_source(data).fingerprint
  expected = {"hash": corpus.tokenizer.hash, "kind": "wordpiece", "lowercase": True}
  assert metadata["tokenizer"] == {**expected, "vocab_size": corpus.tokenizer.vocab_size}
  assert metadata["format_version"] == 2


def test_the_tokenizer_is_not_trained_on_held_out_text(tmp_path, monkeypatch):
  texts = some_texts(80)
  data = dataclasses.replace(write_documents(tmp_path / "text", texts), eval_fraction=0.3)
  seen: list[str] = []
  train = tokenizers.train
  noted = lambda texts: (seen.append(text) or text for text in texts)
  monkeypatch.setattr(tokenizers, "train", lambda texts, *rest: train(noted(texts), *rest))
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  held_out = corpus.documents("eval", 0.3, 1.0)
  assert len(held_out) > 8
  assert sorted(seen) == sorted(set(texts) - {texts[i] for i in held_out})


# ---- nothing but the text decides ----------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [2, 3])
def test_the_number_of_workers_does_not_matter(prepared, tmp_path, num_workers):
  corpus, _, data = prepared
  store.prepare(data, tmp_path / "store", num_workers)
  assert files(tmp_path / "store") == files(pathlib.Path(corpus.folder))


def test_a_complete_store_is_only_opened(prepared):
  corpus, _, data = prepared
  before = {f: f.stat().st_mtime_ns for f in pathlib.Path(corpus.folder).rglob("*")}
  assert store.prepare(data, corpus.folder).hash == corpus.hash
  assert store.open_corpus(corpus.folder).hash == corpus.hash
  assert {f: f.stat().st_mtime_ns for f in pathlib.Path(corpus.folder).rglob("*")} == before


def test_the_hash_is_of_the_content(prepared, tmp_path):
  corpus, texts, data = prepared
  moved = write_documents(tmp_path / "elsewhere", texts)
  assert store.prepare(moved, tmp_path / "1", num_workers=1).hash == corpus.hash
  changed = write_documents(tmp_path / "changed", [*texts[:-1], texts[-1] + " More."])
  assert store.prepare(changed, tmp_path / "2", num_workers=1).hash != corpus.hash
  cased = dataclasses.replace(data, tokenizer=TokenizerConfig(vocab_size=300, lowercase=False))
  assert store.prepare(cased, tmp_path / "3", num_workers=1).hash != corpus.hash


# ---- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("", "holds no text"),
    ('{"text": " "}\n', "holds no text"),
    ('{"text": "good"}\n{"body": "x"}\n', r"line 2 has no field 'text', but \['body'\]"),
    ('{"text": "good"}\n{"text": \n', "line 2 is no JSON"),
    ('{"text": "\u200b"}\n', "no text|no token"),
  ],
)
def test_bad_input_leaves_nothing(tmp_path, content, message):
  (tmp_path / "a.jsonl").write_text(content)
  data = DataConfig(source=f"jsonl:{tmp_path}/a.jsonl", tokenizer=TokenizerConfig(vocab_size=64))
  for made_before in (False, True):
    if made_before:
      (tmp_path / "store").mkdir()
    with pytest.raises(ValueError, match=message):
      store.prepare(data, tmp_path / "store", num_workers=1)
    assert (tmp_path / "store").exists() == made_before
    assert not made_before or not any((tmp_path / "store").iterdir())


def test_bad_input_far_on_is_mended_and_prepared(prepared, tmp_path):
  corpus, texts, _ = prepared
  data = write_documents(tmp_path / "text", texts)
  good = (tmp_path / "text" / "a.jsonl").read_text()
  (tmp_path / "text" / "a.jsonl").write_text(good + "{\n")
  TOKENIZER.save(tmp_path / "t")
  loaded = dataclasses.replace(data, tokenizer=TokenizerConfig(path=str(tmp_path / "t")))
  for num_workers in (1, 2):
    with pytest.raises(ValueError, match="line 61 is no JSON"):
      store.prepare(loaded, tmp_path / "store", num_workers)
    assert not [name for name in files(tmp_path / "store") if ".tmp" in name]
  (tmp_path / "text" / "a.jsonl").write_text(good)
  assert store.prepare(data, tmp_path / "store", num_workers=1).hash == corpus.hash
  assert files(tmp_path / "store").keys() == files(pathlib.Path(corpus.folder)).keys()


def test_a_document_without_tokens_is_named(tmp_path, caplog):
  logging.use_python_logging(quiet=True)
  data = write_documents(tmp_path / "text", ["Some text.", "\u200b", "More text."])
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  assert corpus.num_documents == 2
  assert "a.jsonl, line 2 holds no token" in caplog.text


def test_a_store_of_something_else_is_refused_with_both_values(prepared, tmp_path):
  corpus, texts, data = prepared

  def refused(message: str, **changes):
    before = files(pathlib.Path(corpus.folder))
    with pytest.raises(ValueError, match=message):
      store.prepare(dataclasses.replace(data, **changes), corpus.folder)
    assert files(pathlib.Path(corpus.folder)) == before

  refused("data.tokenizer.vocab_size=300, but data.tokenizer.vocab_size=301 is asked for; give another data.store",
          tokenizer=TokenizerConfig(vocab_size=301))  # fmt: skip
  refused("data.tokenizer.lowercase=True, but data.tokenizer.lowercase=False",
          tokenizer=TokenizerConfig(vocab_size=300, lowercase=False))  # fmt: skip
  refused("data.eval_fraction=0.05, but data.eval_fraction=0.5", eval_fraction=0.5)
  TOKENIZER.save(tmp_path / "t")
  refused(f"data.tokenizer.path=None, but the hash of data.tokenizer.path={TOKENIZER.hash}"
          "|data.tokenizer.kind=wordpiece, but data.tokenizer.kind=None",
          tokenizer=TokenizerConfig(path=str(tmp_path / "t")))  # fmt: skip
  other = write_documents(tmp_path / "other", texts[:-1])
  refused(f"is a store of {data.source} with data.source=.*, but data.source={other.source}", source=other.source)
  (tmp_path / "a.txt").write_text("text")
  refused("data.source=jsonl:.* but data.source=text:", source=f"text:{tmp_path}")


def test_text_that_changed_is_noticed(tmp_path):
  data = write_documents(tmp_path / "text", some_texts(5))
  store.prepare(data, tmp_path / "store", num_workers=1)
  write_documents(tmp_path / "text", some_texts(6))
  with pytest.raises(ValueError, match=r"fingerprint of the text=.* but the fingerprint of the text="):
    store.prepare(data, tmp_path / "store", num_workers=1)


def test_text_that_changes_while_it_is_prepared_is_noticed(tmp_path, monkeypatch):
  data = write_documents(tmp_path / "text", some_texts(30))
  tokenize_all, file = tokenize.tokenize_all, tmp_path / "text" / "a.jsonl"
  content = file.read_bytes()

  def change(*arguments):
    for result in tokenize_all(*arguments):
      yield result
      file.write_bytes(content.replace(b"Number 29.", b"Number 92."))

  monkeypatch.setattr(tokenize, "tokenize_all", change)
  with pytest.raises(ValueError, match=r"changed while .* was made of it; run the same command again"):
    store.prepare(data, tmp_path / "store", num_workers=1)
  file.write_bytes(content)
  monkeypatch.setattr(tokenize, "tokenize_all", tokenize_all)
  assert_holds(store.prepare(data, tmp_path / "store", num_workers=1), some_texts(30))


def test_a_complete_store_needs_its_text_no_more(tmp_path, caplog):
  logging.use_python_logging(quiet=True)
  data = write_documents(tmp_path / "text", some_texts(5))
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  (tmp_path / "text").rename(tmp_path / "moved")
  assert store.prepare(data, tmp_path / "store").hash == corpus.hash
  assert "its text could not be compared" in caplog.text
  assert (
    store.prepare(dataclasses.replace(data, source=f"jsonl:{tmp_path}/moved"), tmp_path / "store").hash == corpus.hash
  )


def test_folders_that_are_no_store(tmp_path):
  data = write_documents(tmp_path / "text", some_texts(5))
  with pytest.raises(ValueError, match="holds other files and no store"):
    store.prepare(data, tmp_path / "text")
  with pytest.raises(ValueError, match="is no store"):
    store.open_corpus(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="must lie on a local disk"):
    store.prepare(data, "gs://bucket/store")


def test_an_unfinished_store_is_not_opened(prepared, tmp_path):
  shutil.copytree(prepared[0].folder, tmp_path / "store")
  (tmp_path / "store" / "metadata.json").unlink()
  with pytest.raises(ValueError, match="is unfinished"):
    store.open_corpus(tmp_path / "store")
