"""A model that is asked: masks, embeddings, attentions."""

import dataclasses
import itertools
import random
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax import console
from bert_jax.config import Config, TokenizerConfig
from bert_jax.data import tokenizers
from bert_jax.inference import masks, windows
from bert_jax.inference.embedding import EmbeddingSettings, Pooling
from bert_jax.inference.model import Model
from bert_jax.models.inputs import Inputs
from bert_jax.models.networks import build
from bert_jax.training.step import TrainState
from tests.inference.conftest import SENTENCES, model_of
from tests.models.networks import init_params

# ---- where the parameters are ----


def test_parameters_are_put_on_one_device_once_and_stay_as_they_came(model: Model, trained: TrainState) -> None:
  assert len(jax.tree.leaves(trained.params)[0].sharding.device_set) == 4
  for params in (model.params, trained.params):
    new = dataclasses.replace(model, params=params)
    assert "device_params" not in vars(new)
    new.embed("snow")
    leaves = jax.tree.leaves(new.device_params)
    assert all(leaf.sharding.device_set == {jax.devices()[0]} for leaf in leaves)
    new.embed("cold")
    assert all(one is other for one, other in zip(jax.tree.leaves(new.device_params), leaves, strict=True))
    assert new.params is params
  other = dataclasses.replace(new, params=jax.tree.map(lambda x: 0 * x, model.params))
  assert not any(leaf.any() for leaf in jax.tree.leaves(other.device_params))


def test_a_first_answer_inside_a_trace_leaves_nothing_of_the_trace_behind(model: Model) -> None:
  """Someone embeds texts inside a function that is compiled: constants of that program, and no tracer is kept."""
  new = dataclasses.replace(model)
  vectors = jax.jit(lambda scale: scale * new.embed("snow"))(2.0)
  assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(new.device_params))
  np.testing.assert_allclose(vectors, 2 * new.embed("snow"), rtol=1e-5)


def test_saving_and_exporting_need_no_device(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  new = dataclasses.replace(model)
  monkeypatch.setattr(jax, "device_put", lambda *_: pytest.fail("parameters were put on a device"))
  new.save(tmp_path / "ours")
  assert bert_jax.load(tmp_path / "ours").network == "masked_lm"
  new.export(tmp_path / "theirs")
  assert repr(bert_jax.load(tmp_path / "theirs")).startswith("<bert_jax.Model: bert, masked_lm")


def test_what_is_saved_and_exported_answers_as_before(model: Model, tmp_path: Path) -> None:
  """A model of our own has no files that it came with; its tokenizer goes along all the same."""
  model.save(tmp_path / "ours")
  model.export(tmp_path / "theirs")
  for folder in ("ours", "theirs"):
    again = bert_jax.load(tmp_path / folder)
    assert again.fill_masks("Snow is [MASK].") == model.fill_masks("Snow is [MASK].")
  with pytest.raises(ValueError, match="imported with the network masked_lm, and head='encoder' was asked for"):
    bert_jax.load(tmp_path / "ours", head="encoder")


# ---- masks ----


def test_sentences_known_by_heart_are_completed(model: Model) -> None:
  for sentence in SENTENCES:
    for word in set(re.findall(r"\w+", sentence)):
      text = re.sub(rf"\b{word}\b", "[MASK]", sentence, count=1)
      best = model.fill_mask(text)[0]
      assert (best.token, best.sequence) == (word, sentence), text


def test_candidates_are_sorted_ordinary_tokens(model: Model) -> None:
  everything = model.tokenizer.vocab_size - len(model.tokenizer.special_ids)
  found = model.fill_mask("the cat [MASK] on the mat.", top_k=everything)
  assert len(found) == everything
  assert len({candidate.token for candidate in found}) == everything
  assert not {candidate.token for candidate in found} & set(model.tokenizer.tokens(model.tokenizer.special_ids))
  probabilities = [candidate.probability for candidate in found]
  assert probabilities == sorted(probabilities, reverse=True)
  assert 0.9 < sum(probabilities) < 1 + 1e-5  # the special tokens have the rest; float32 sums
  assert model.fill_mask("the cat [MASK] on the mat.", top_k=3) == found[:3]


def test_several_masks_have_a_list_each(model: Model) -> None:
  found = model.fill_mask("the [MASK] sat on the [MASK].", top_k=2)
  assert [[len(candidates), candidates[0].token] for candidates in found] == [[2, "cat"], [2, "mat"]]
  assert found[0][0].sequence == "the cat sat on the [MASK]."
  assert found[1][0].sequence == "the [MASK] sat on the mat."
  many = model.fill_mask("[MASK] " * 19)
  assert len(many) == 19
  assert len({candidates[0].probability for candidates in many}) > 9, "each mask has its own place"


def test_padding_does_not_count(model: Model) -> None:
  """The same text alone in its bucket and in one of 40 tokens; sums are rounded in another order."""
  text = "snow is [MASK] and cold."
  short = model.fill_mask(text)
  monkeypatch = pytest.MonkeyPatch()
  with monkeypatch.context() as patch:
    patch.setattr(windows, "bucket", lambda length, longest: 40)
    long = model.fill_mask(text)
  assert [c.token for c in short] == [c.token for c in long]
  np.testing.assert_allclose([c.probability for c in short], [c.probability for c in long], rtol=1e-4)


def test_a_length_bucket_is_compiled_once(model: Model) -> None:
  masks._score.cache_clear()
  for text in ("[MASK] is white.", "snow [MASK] white.", "the [MASK] is."):
    model.fill_mask(text)
  score = masks._score(model.config, "masked_lm", False)
  assert score._cache_size() == 1
  model.fill_mask("the [MASK] " * 17)
  assert score._cache_size() == 2


def test_bad_texts_are_refused(model: Model) -> None:
  with pytest.raises(ValueError, match=r"has no mask: put \[MASK\] where"):
    model.fill_mask("the cat sat on the mask.")
  with pytest.raises(ValueError, match=r"the text has 43 tokens.*model.max_positions=40"):
    model.fill_mask("the " * 40 + "[MASK]")
  model.fill_mask("the " * 37 + "[MASK]")
  for top_k in (0, model.tokenizer.vocab_size):
    with pytest.raises(ValueError, match=rf"top_k={top_k} must be at least 1 and at most the"):
      model.fill_mask("the [MASK]", top_k=top_k)


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram"])
def any_model(request: pytest.FixtureRequest, config: Config) -> Model:
  """A model of each kind of tokenizer, with random numbers for parameters."""
  draw = random.Random(3)
  words = sorted({word + end for word in re.findall(r"\w+", " ".join(SENTENCES)) for end in ("", "s", "ing", "er")})
  texts = [" ".join(draw.choices(words, k=draw.randint(4, 9))) + "." for _ in range(2000)]
  size = {"wordpiece": 150, "bpe": 350, "unigram": 80}[request.param]
  tokenizer = tokenizers.train(texts, TokenizerConfig(kind=request.param, vocab_size=size))
  shape = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: init_params(shape, 0, "none"))
  params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(leaf.dtype), shapes)
  return model_of(dataclasses.replace(config, model=shape), tokenizer, params)


def test_text_around_a_mask_is_cut_as_in_the_whole_text(any_model: Model) -> None:
  tokenizer = any_model.tokenizer
  whole = tokenizer.encode(["the cat sat on the mat."])[0][0]
  for word in ("cat", "mat"):
    single = tokenizer.encode([f"the {word}"])[0][0][1:]
    assert len(single) == 1, "the test needs a word of one token"
    text = "the cat sat on the mat.".replace(word, "[MASK]")
    expected = np.where(whole == single[0], tokenizer.mask_id, whole)
    located = masks.locate(text, masks.find(text, tokenizer), tokenizer)
    assert located.ids.tolist() == expected.tolist()
    assert [text[begin:end] for begin, end in located.offsets.tolist()].count("[MASK]") == 1


def test_tokens_are_readable_and_both_mask_names_understood(any_model: Model) -> None:
  tokenizer = any_model.tokenizer
  everything = tokenizer.vocab_size - len(tokenizer.special_ids)
  found = any_model.fill_mask("the [MASK] sat.", top_k=everything)
  assert any_model.fill_mask(f"the {tokenizer.mask_token} sat.", top_k=everything) == found
  by_token = {candidate.token: candidate.sequence for candidate in found}
  assert by_token["cat"] == "the cat sat."
  assert by_token["."] == "the . sat."
  continuing = {token: text for token, text in by_token.items() if token.startswith("##")}
  assert all(text == f"the{token[2:]} sat." for token, text in continuing.items())
  assert continuing
  assert not any(mark in token for token, mark in itertools.product(by_token, "Ġ▁"))


# ---- what a text becomes ----

LONG = " ".join(SENTENCES) * 3  # more than the 40 positions


def hidden(model: Model, token_ids: np.ndarray) -> np.ndarray:
  """The last layer of one row, without padding: [T, D]."""
  row = np.asarray(token_ids, np.int32)[None]
  outputs: Any = build("masked_lm", model.config).apply({"params": model.params}, Inputs(row, row * 0, row >= 0))
  return np.asarray(outputs["hidden"][0])


def test_encode_is_what_the_model_reads(model: Model) -> None:
  encoding = model.encode("the cat sat")
  assert encoding.tokens == ["[CLS]", "the", "cat", "sat", "[SEP]"]
  assert encoding.token_ids.tolist()[0] == model.tokenizer.cls_id
  assert not encoding.segment_ids.any()
  assert [e.tokens for e in model.encode(["the cat sat", ""])] == [encoding.tokens, ["[CLS]", "[SEP]"]]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_an_embedding_pools_the_last_layer(model: Model, pooling: Pooling) -> None:
  """Of texts of many lengths together, so that each is padded; what is padded has no part in it."""
  texts = ["", "snow", *SENTENCES, "the sea is cold and white"]
  found = model.embed(texts, pooling, normalize=False, batch_size=3)
  pool = {"cls": lambda x: x[0], "mean": lambda x: x.mean(axis=0), "max": lambda x: x.max(axis=0)}[pooling]
  for text, vector in zip(texts, found, strict=True):
    expected = pool(hidden(model, model.encode(text).token_ids))
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order
  np.testing.assert_allclose(model.embed(texts[2], pooling), found[2], rtol=1e-4, atol=1e-5)


def test_a_length_of_one_and_what_the_model_was_made_for(model: Model) -> None:
  unit = model.embed(list(SENTENCES), "max", normalize=True)
  np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)
  other = dataclasses.replace(model, embedding=EmbeddingSettings("max", True, 24))
  np.testing.assert_allclose(other.embed(list(SENTENCES)), unit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_long_texts_are_pooled_over_windows(model: Model, pooling: Pooling, caplog: pytest.LogCaptureFixture) -> None:
  ids = model.tokenizer.encode([LONG])[0][0]
  cut = windows.windows(ids, 18, 7)
  assert len(cut) > 3
  assert {int(i) for window in cut for i in window} == set(ids.tolist())
  with caplog.at_level("INFO", logger="absl"):
    found = model.embed([LONG, "snow"], pooling, False, max_tokens=20, stride=7)[0]
  assert "1 of 2 texts have more than 20 tokens" in caplog.text
  vectors = model.embed([model.tokenizer.decode(window) for window in cut], pooling, False)
  expected = vectors.max(axis=0) if pooling == "max" else vectors.mean(axis=0)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_windows_cover_a_text_and_the_last_ends_with_it() -> None:
  ids = np.arange(23)
  cut = windows.windows(ids, 7, 5)
  assert [list(window[[0, -1]]) for window in cut] == [[0, 6], [5, 11], [10, 16], [15, 21], [16, 22]]
  assert len(windows.windows(ids, 23, 5)) == 1
  assert [list(window) for window in windows.windows(np.arange(4), 2, 2)] == [[0, 1], [2, 3]]


def test_token_embeddings_and_attentions_are_of_the_text_alone(model: Model) -> None:
  both = model.token_embeddings([SENTENCES[0], "snow"])
  for text, one in zip((SENTENCES[0], "snow"), both, strict=True):
    assert one.tokens == model.encode(text).tokens
    np.testing.assert_allclose(one.vectors, hidden(model, model.encode(text).token_ids), rtol=1e-4, atol=1e-5)
  found = model.attentions("the cat sat")
  assert found.probabilities.shape == (2, 3, 5, 5)
  np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_what_cannot_be_embedded_is_said(model: Model) -> None:
  assert model.embed([]).shape == (0, 48)
  for settings, message in (
    ({"pooling": "sum"}, "pooling='sum' must be cls, mean or max"),
    ({"max_tokens": 41}, "max_tokens=41 must be at least 3, and at most the model's positions, 40"),
    ({"max_tokens": 0}, "max_tokens=0 must be"),
    ({"stride": 39}, "stride=39 must be at least 1"),
    ({"batch_size": 0}, "batch_size=0 must be"),
  ):
    with pytest.raises(ValueError, match=message):
      model.embed(["snow"], **settings)
  with pytest.raises(ValueError, match="text 1 is float and must be str"):
    model.embed(["snow", float("nan")])  # pyright: ignore[reportArgumentType]
  with pytest.raises(ValueError, match="positions end at"):
    model.attentions(LONG)
  encoder = dataclasses.replace(model, network="encoder")
  with pytest.raises(ValueError, match="the head encoder, which fills no masks"):
    encoder.fill_mask("[MASK]")
  mute = dataclasses.replace(model, tokenizer=None)
  with pytest.raises(ValueError, match="came without a tokenizer"):
    mute.embed(["snow"])


def test_a_batch_has_texts_of_about_one_length() -> None:
  draw = np.random.default_rng(0)
  lengths = draw.integers(2, 300, 1000)
  found = list(windows.batches(lengths, 32, 512))
  assert sorted(index for _, _, some in found for index in some) == list(range(1000))
  assert all(len(some) <= rows and lengths[some].max() <= length for rows, length, some in found)
  padded = sum(rows * length for rows, length, _ in found)
  assert padded < 1.2 * lengths.sum()
  assert len({(rows, length) for rows, length, _ in found}) < 40
  some = list(windows.batches(lengths, 32, 512, most_tokens=500))
  assert sorted(index for _, _, indices in some for index in indices) == list(range(1000))
  assert all(rows == 1 or rows * length <= 500 for rows, length, _ in some)
  assert windows.bucket(39, 40) == 40
  assert windows.bucket(41, None) == 48


def test_a_model_is_shown_in_a_line(model: Model) -> None:
  shown = repr(dataclasses.replace(model, step=1200))
  parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params))
  vocabulary = model.tokenizer.vocab_size
  assert shown == f"<bert_jax.Model: bert, masked_lm, {parameters:,} parameters, {vocabulary} tokens, step 1,200>"


def test_fill_masks_has_a_list_for_each_mask(model: Model) -> None:
  one, two = "the cat [MASK] on the mat.", "the [MASK] sat on the [MASK]."
  assert model.fill_masks(one) == [model.fill_mask(one)]
  assert model.fill_masks(two) == model.fill_mask(two)


def test_a_bar_is_shown_on_a_terminal_and_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
  import tqdm.auto
  import tqdm.notebook

  class Notebook(tqdm.notebook.tqdm_notebook):
    def __init__(self, **settings: Any):
      self.settings = settings

    def __del__(self) -> None: ...

  assert console.progress_bar(3, "text").disable  # stderr is captured here
  with console.progress_bar(3, "text", True) as bar:
    assert not bar.disable
  monkeypatch.setattr(tqdm.auto, "tqdm", Notebook)
  assert not console.progress_bar(3, "text").settings["disable"]  # pyright: ignore[reportAttributeAccessIssue]
