"""The space between sentences, which byte-level BPE sees; and the languages whose rules part sentences."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from bert_jax.config import DataConfig, TokenizerConfig
from bert_jax.data import sentences, sources, store, tokenize, tokenizers
from bert_jax.data.batches import TrainBatches
from tests.data.small_stores import some_texts, use_small_units, write_documents

TEXTS = [text.replace(". ", ". Then ") for text in some_texts(40)]


@pytest.fixture(autouse=True)
def _small_units(monkeypatch):
  use_small_units(monkeypatch)


@pytest.fixture(scope="module")
def roberta_like(tmp_path_factory) -> str:
  """A tokenizer.json that puts no space before a text, as RoBERTa's own does not."""
  folder = tmp_path_factory.mktemp("bpe")
  tokenizers.train(TEXTS, TokenizerConfig(kind="bpe", vocab_size=400, lowercase=False)).save(folder)
  content = json.loads((folder / "tokenizer.json").read_text())
  content["pre_tokenizer"]["add_prefix_space"] = False
  (folder / "tokenizer.json").write_text(json.dumps(content))
  return str(folder / "tokenizer.json")


def documents_of(corpus: store.Corpus) -> list[list[list[int]]]:
  """Token ids of each sentence of each document."""
  ids = corpus.gather(np.array([0]), np.array([corpus.num_tokens]))[0].tolist()
  starts = corpus.sentence_offsets.tolist()
  return [
    [ids[starts[i] : starts[i + 1]] for i in range(first, last)]
    for first, last in itertools.pairwise(corpus.document_offsets.tolist())
  ]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_sentences_that_are_joined_read_as_the_text_does(tmp_path, roberta_like, num_workers):
  tokenizer = TokenizerConfig(kind="bpe", path=roberta_like, lowercase=False)
  data = dataclasses.replace(write_documents(tmp_path / "text", TEXTS), tokenizer=tokenizer)
  joined = store.prepare(data, tmp_path / "joined", num_workers)
  apart = dataclasses.replace(data, sentence_separators=True)
  separated = store.prepare(apart, tmp_path / "separated", num_workers)
  assert max(map(len, documents_of(joined))) > 3
  for text, together, alone in zip(TEXTS, documents_of(joined), documents_of(separated), strict=True):
    parts = list(sentences.split_sentences(text))
    whole = joined.tokenizer.encode([" ".join(parts)])[0][0].tolist()
    assert list(itertools.chain(*together)) == whole
    assert alone == [joined.tokenizer.encode([part])[0][0].tolist() for part in parts]
  with pytest.raises(
    ValueError, match=r"data.sentence_separators=False, but data.sentence_separators=True is asked for"
  ):
    store.prepare(apart, tmp_path / "joined")


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_tokenizers_that_put_a_space_themselves_see_none(kind):
  tokenizer = tokenizers.train(TEXTS, TokenizerConfig(kind=kind, vocab_size=400))
  assert not tokenize.sees_spaces(tokenizer)
  joined, apart = (tokenize.tokenize(TEXTS, tokenizer, tokenize.Rules(spaces=spaces)) for spaces in (True, False))
  np.testing.assert_array_equal(joined.token_ids, apart.token_ids)


def test_a_batch_has_a_separator_after_every_sentence(tmp_path):
  data = write_documents(tmp_path / "text", TEXTS)
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  data = dataclasses.replace(data, format="full_sentences", sentence_separators=True, max_seq_len=64, segmentations=1)
  batch = TrainBatches(corpus, data, seed=0, batch_size=9)(0)
  ids = batch["token_ids"].copy()
  rows, slots = np.nonzero(batch["mlm_weights"])
  ids[rows, batch["mlm_positions"][rows, slots]] = batch["mlm_labels"][rows, slots]
  known = {tuple(sentence) for document in documents_of(corpus) for sentence in document} | {()}
  for row, mask in zip(ids, batch["attention_mask"], strict=True):
    row = row[mask].tolist()
    assert row[0] == corpus.tokenizer.cls_id
    assert row[-1] == corpus.tokenizer.sep_id
    parts = "".join(map(chr, row[1:-1])).split(chr(corpus.tokenizer.sep_id))
    assert {tuple(map(ord, part)) for part in parts} <= known


# ---- languages -----------------------------------------------------------------------------------------


def test_a_language_has_its_own_abbreviations(tmp_path):
  german = "Das kostet z.B. Geld, d.h. bzw. Dr. Meyer zahlt ca. 5 Euro. Und dann?"
  tokenizer = tokenizers.train(TEXTS, TokenizerConfig(vocab_size=400))
  for language in ("de", "en"):
    expected = len(list(sentences.split_sentences(german, language)))
    for num_workers in (1, 2):
      tokenizer.save(tmp_path / "t")
      units = [[sources.Document(german, "a")]]
      ((_, part),) = tokenize.tokenize_all(units, str(tmp_path / "t"), tokenize.Rules(language), num_workers)
      assert part.document_lengths.tolist() == [expected]
  assert list(sentences.split_sentences(german, "de")) != list(sentences.split_sentences(german, "en"))


@pytest.mark.parametrize(
  ("language", "message"), [("EN-us", "did you mean en"), ("dee", "did you mean de"), ("xx", "en")]
)
def test_unknown_languages_are_refused(tmp_path, language, message):
  data = dataclasses.replace(write_documents(tmp_path / "text", TEXTS), language=language)
  for attempt in (lambda: sources.check(data), lambda: store.prepare(data, tmp_path / "store")):
    with pytest.raises(ValueError, match=rf"data.language={language}: there are rules for .* am, ar, bg.*{message}"):
      attempt()
  assert not (tmp_path / "store").exists()


def test_the_language_is_part_of_what_a_store_is(tmp_path):
  data = write_documents(tmp_path / "text", TEXTS)
  store.prepare(data, tmp_path / "store", num_workers=1)
  with pytest.raises(ValueError, match=r"data.language=en, but data.language=de is asked for"):
    store.prepare(dataclasses.replace(data, language="de"), tmp_path / "store")


def test_each_language_is_known_to_the_library():
  for language in sentences.LANGUAGES:
    assert isinstance(DataConfig(language=language).language, str)
    assert list(sentences.split_sentences("One. Two.", language))
