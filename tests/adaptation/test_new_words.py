"""Which words become tokens, and what they start as."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bert_jax import settings
from bert_jax.adaptation import new_words
from bert_jax.config import DataConfig
from bert_jax.data import store
from bert_jax.data.corpus import Corpus
from bert_jax.interop.params import flat
from tests import tiny
from tests.interop import small

FRACTION = 0.3


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
  folder = tmp_path_factory.mktemp("words") / "text"
  tiny.write_text(folder, 70)
  for number in range(0, 70, 2):
    with (folder / f"{number:03}.txt").open("a") as file:
      file.write(" Seacat seamat, unseen\u4e2d 2019 mat" + ("cold matcold, matcold." if number < 6 else "."))
  return folder


@pytest.fixture(scope="module")
def corpus(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
  folder = tmp_path_factory.mktemp("store")
  small.tokenizer_of().save(folder / "tokenizer")
  data = settings.assign(
    DataConfig(source=f"text:{texts}", eval_fraction=FRACTION), {"tokenizer.path": str(folder / "tokenizer")}
  )
  return store.prepare(data, folder / "store", num_workers=1)


def test_the_words_that_save_most_tokens_of_the_training_text(texts: Path, corpus: Corpus) -> None:
  tokenizer = corpus.tokenizer
  files = [file.read_text() for file in sorted(texts.iterdir())]
  counts: Counter[str] = Counter()
  within: Counter[str] = Counter()
  for number in corpus.documents("train", FRACTION, 1.0):
    text = files[number].lower()
    words = "".join(c if c.isalnum() and c != "\u4e2d" else f" {c} " for c in text).split()
    counts.update(words)
    within.update(set(words))
  assert len(corpus.documents("train", FRACTION, 1.0)) < len(files)
  worth = {}
  for word, count in counts.items():
    ids, _ = tokenizer.encode([word])[0]
    if within[word] >= 5 and tokenizer.unk_id not in ids and len(ids) > 1:
      worth[word] = count * (len(ids) - 1)
  wanted = sorted(worth, key=lambda word: (-worth[word], word))
  assert new_words.chosen(corpus, FRACTION, 4) == wanted[:4]
  assert new_words.chosen(corpus, FRACTION, 10_000) == wanted
  assert "seacat" in wanted
  assert counts["matcold"] >= 5, "and still it is not wanted, for it is in three documents"
  assert "matcold" not in wanted


def test_old_text_is_cut_as_before_and_a_new_token_is_the_mean_of_its_pieces(corpus: Corpus) -> None:
  model = small.make("bert", tokenizer=corpus.tokenizer)
  words = new_words.chosen(corpus, FRACTION, 6)
  grown = new_words.extended(model, words)
  before, after = model.require_tokenizer(), grown.require_tokenizer()
  arrays, wider = flat(model.params), flat(grown.params)
  for number, word in enumerate(words):
    pieces, _ = before.encode([word])[0]
    assert after.encode([word])[0][0].tolist() == [before.vocab_size + number]
    for name in ("encoder/embeddings/words", "mlm_head/bias"):
      np.testing.assert_allclose(wider[name][before.vocab_size + number], arrays[name][pieces].mean(axis=0), rtol=1e-6)
  for name in ("encoder/embeddings/words", "mlm_head/bias"):
    np.testing.assert_array_equal(wider[name][: before.vocab_size], arrays[name])
  for text in small.SENTENCES:
    np.testing.assert_array_equal(before.encode([text])[0][0], after.encode([text])[0][0])
  longer = [f"{word}s" for word in words]
  assert all(after.unk_id not in after.encode([word])[0][0] for word in longer)


def test_text_without_such_words_is_refused(tmp_path: Path) -> None:
  (tmp_path / "text").mkdir()
  for number in range(9):
    (tmp_path / "text" / f"{number}.txt").write_text(f"the cat {number}")
  small.tokenizer_of().save(tmp_path / "tokenizer")
  data = settings.assign(
    DataConfig(source=f"text:{tmp_path / 'text'}"), {"tokenizer.path": str(tmp_path / "tokenizer")}
  )
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  with pytest.raises(ValueError, match=r"--add-tokens=5: no word of text:\S+ is cut into pieces and stands in 5 or"):
    new_words.chosen(corpus, 0.05, 5)


def test_tokens_per_word(texts: Path, corpus: Corpus) -> None:
  held_out = corpus.documents("eval", FRACTION, 1.0)
  files = [file.read_text() for file in sorted(texts.iterdir())]
  encoded = [corpus.tokenizer.encode([files[number]])[0] for number in held_out]
  wanted = sum(len(ids) for ids, _ in encoded) / sum(int(starts.sum()) for _, starts in encoded)
  assert new_words.tokens_per_word(corpus, FRACTION) == pytest.approx(wanted)
