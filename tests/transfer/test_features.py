"""Fixed features, and linear models over them."""

from pathlib import Path

import numpy as np
import pytest

from bert_jax.data.frames import CLS_FIRST
from bert_jax.transfer import features, linear
from tests.interop import small

pytest.importorskip("sklearn", reason="needs the extra demo")


def vectors_of(path: Path, header: bool) -> Path:
  rows = ["paris 1 0 0", "the 0 1 0", "Cat 0 0 1", "unwanted 9 9 9", "of two words 9 9 9"]
  path.write_text("\n".join([*(["5 3"] if header else []), *rows]) + "\n")
  return path


@pytest.mark.parametrize("header", [True, False])
def test_word_vectors_of_a_file_are_averaged(header: bool, tmp_path: Path) -> None:
  of = features.of_word2vec(vectors_of(tmp_path / "v.txt", header))
  train, dev = of.of_texts(["Paris, the cat", ("the", "Cat")], ["nothing known"])
  np.testing.assert_allclose(train[0], np.array([1, 1, 0]) / 2, err_msg="Paris in lower case; cat is not Cat")
  np.testing.assert_allclose(train[1], np.array([0, 1, 1]) / 2)
  np.testing.assert_allclose(dev[0], 0)
  assert of.of_words is not None
  words, _ = of.of_words([("the", "x")], [("Cat",)])
  np.testing.assert_allclose(words, [[0, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("the 1 2\ncat 1\n", "line 2: 1 numbers, where the first vector has 2"),
    ("the 1 2\ncat x 1 2\ncat 1 x\n", "line 3: the vector of 'cat'|the vector of 'cat' is not of numbers"),
    ("the 1 x\n", "the vector of 'the' is not of numbers"),
    ("dog 1 2\n", "has none of the words"),
  ],
)
def test_a_file_of_another_kind_is_said(content: str, message: str, tmp_path: Path) -> None:
  (tmp_path / "v.txt").write_text(content)
  with pytest.raises(ValueError, match=message):
    features.read_word2vec(tmp_path / "v.txt", {"the", "cat"})


def test_a_table_s_features_have_no_context_and_an_encoder_s_have() -> None:
  model = small.make("bert", "encoder", small.tokenizer_of())
  for of, has_context in ((features.of_table(model, 24), False), (features.of_encoder(model, 24), True)):
    assert of.of_words is not None
    one, other = of.of_words([("the", "cat", "sat")], [("the", "sea", "is", "cold")])
    assert one.shape == (3, 24)
    assert np.allclose(one[0], other[0], atol=1e-5) != has_context
    texts, _ = of.of_texts(["the cat", ("the cat", "the sea")], ["snow"])
    assert texts.shape == (2, 24)


def test_a_word_s_vector_is_that_of_its_first_token() -> None:
  model = small.make("bert", "encoder", small.tokenizer_of())
  words = ("Paris", "capitals", "\u200b", "mat")
  found = features.word_vectors(model, [words], 24, 32)
  tokens = model.token_embeddings("Paris capitals mat")
  places = [i for i, token in enumerate(tokens.tokens) if not token.startswith("##")][1:-1]
  np.testing.assert_allclose(found[[0, 1, 3]], tokens.vectors[places], rtol=1e-4, atol=1e-5)
  assert not found[2].any()


# ---- linear models ----


def test_tfidf_reads_what_the_model_reads_where_it_is_asked_to() -> None:
  tokenizer = small.tokenizer_of()
  texts = ["snow snow snow snow paris", "snow snow snow snow sea"]
  whole, _ = features.of_tfidf().of_texts(texts, texts)
  short, _ = features.of_tfidf((CLS_FIRST, tokenizer, 6)).of_texts(texts, texts)
  assert whole.shape[1] > short.shape[1], "the last word is not read"


@pytest.mark.parametrize("classes", [2, 5])
def test_a_fitted_layer_says_what_scikit_learn_says(classes: int) -> None:
  from sklearn.linear_model import LogisticRegression

  draw = np.random.default_rng(0)
  x, y = draw.normal(3, [1, 5, 0.1, 2], (200, 4)), draw.integers(0, classes, 200)
  layer = linear.fit("single_label", x, y)
  scaled = (x - x.mean(axis=0)) / x.std(axis=0)
  found = [LogisticRegression(C=c, max_iter=1000).fit(scaled, y).predict(scaled) for c in linear.STRENGTHS]
  assert any((layer(x).argmax(axis=1) == one).all() for one in found)


def test_a_class_that_the_part_to_pick_on_lacks_does_not_shift_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(linear, "_MOST_TO_PICK", 100)
  targets, seen = np.random.default_rng(1).integers(1, 4, 400), []
  targets[np.random.default_rng(0).permutation(400)[100:]] = 0
  x, fitness = 5 * np.eye(4)[targets], linear._fitness
  monkeypatch.setattr(linear, "_fitness", lambda *found: seen.append(fitness(*found)) or seen[-1])
  linear.fit("single_label", x, targets)
  assert seen == [1.0] * len(linear.STRENGTHS)


def test_labels_that_all_have_or_none_has_are_said_of_all_or_none() -> None:
  x = np.random.default_rng(0).normal(size=(30, 3))
  targets = np.stack([np.ones(30), np.zeros(30), x[:, 0] > 0], axis=1).astype(np.float32)
  outputs = linear.fit("multi_label", x, targets)(x)
  assert (outputs[:, 0] > 0).all()
  assert (outputs[:, 1] < 0).all()
  assert np.mean((outputs[:, 2] > 0) == (targets[:, 2] > 0)) > 0.9


def test_numbers_are_followed() -> None:
  x = np.random.default_rng(0).normal(size=(300, 3))
  y = 2 * x[:, 0] - x[:, 2] + 7
  outputs = linear.fit("regression", x, y)(x)
  assert outputs.shape == (300, 1)
  assert np.corrcoef(outputs[:, 0], y)[0, 1] > 0.99
