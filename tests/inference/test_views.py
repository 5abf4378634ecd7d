"""What a model reads, expects and looks at, as data and as it is shown."""

import base64
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bert_jax.inference import guesses, readings
from bert_jax.inference.model import Model
from tests.inference.test_family import model_of as model_of_kind
from tests.interop import small

TEXT = "the cat sat on the mat."


def test_words_and_their_tokens(model: Model) -> None:
  read = readings.read(model, TEXT)
  assert [word.text for word in read.words] == ["the", "cat", "sat", "on", "the", "mat", "."]
  assert read.tokens[0] == "[CLS]"
  assert read.word_of == [None, *np.repeat(range(7), [w.stop - w.first for w in read.words]).tolist(), None]
  np.testing.assert_array_equal(read.token_ids, model.encode(TEXT).token_ids)


@pytest.mark.parametrize("kind", ["bert", "xlnet", "roberta"])
def test_a_pair_stands_where_the_architecture_puts_it(kind: str) -> None:
  model = model_of_kind(kind)
  read = readings.read(model, "the cat", "on the mat.")
  tokenizer = model.require_tokenizer()
  by_words = [tokenizer.decode(read.token_ids[word.first : word.stop]).strip() for word in read.words]
  assert by_words == ["the", "cat", "on", "the", "mat", "."] == [word.text for word in read.words]
  special = [token for token, word in zip(read.tokens, read.word_of, strict=True) if word is None]
  assert len(special) == {"bert": 3, "xlnet": 3, "roberta": 4}[kind]
  assert read.has_segments == (kind != "roberta")
  looked = model.attentions("the cat", "on the mat.")
  assert looked.tokens == read.tokens
  np.testing.assert_allclose(looked.probabilities.sum(axis=-1), 1, rtol=1e-5)  # float32 sums


def test_a_written_mask_is_a_word_without_a_truth(model: Model) -> None:
  read = readings.read(model, "the [MASK] sat on the mat.")
  assert [word.is_mask for word in read.words] == [False, True, *[False] * 5]
  (found,) = guesses.together(model, read, [1], 3)
  (piece,) = found.pieces
  assert (found.text, piece.token) == ("[MASK]", None)
  assert piece.expected["both"].true_rank is None
  filled = model.fill_masks("the [MASK] sat on the mat.", 3)[0]
  assert [guess.token for guess in piece.expected["both"].guesses] == [candidate.token for candidate in filled]
  np.testing.assert_allclose(
    [guess.probability for guess in piece.expected["both"].guesses],
    [candidate.probability for candidate in filled],
    rtol=1e-4,  # rows of one batch and of three are summed in another order
  )


def test_a_hidden_side_does_not_count(model: Model) -> None:
  """What stands on the hidden side changes nothing, what stands on the other does."""

  def expected(text: str, side: guesses.Side) -> float:
    read = readings.read(model, text)
    (found,) = guesses.together(model, read, [2], 3)
    return found.pieces[0].expected[side].guesses[0].probability

  other_right, other_left = "the cat sat on the sea.", "the ship sat on the mat."
  assert expected(TEXT, "left") == pytest.approx(expected(other_right, "left"), rel=1e-5)
  assert expected(TEXT, "right") == pytest.approx(expected(other_left, "right"), rel=1e-5)
  assert abs(expected(TEXT, "left") - expected(other_left, "left")) > 1e-4
  assert abs(expected(TEXT, "right") - expected(other_right, "right")) > 1e-4
  assert abs(expected(TEXT, "both") - expected(TEXT, "left")) > 1e-4


def test_words_masked_together_do_not_see_each_other(model: Model) -> None:
  read = readings.read(model, TEXT)
  cat, mat = guesses.together(model, read, [1, 5], 3)
  filled = model.fill_masks("the [MASK] sat on the [MASK].", 3)
  for word, candidates in ((cat, filled[0]), (mat, filled[1])):
    assert word.pieces[0].expected["both"].guesses[0].token == candidates[0].token == word.text
    assert word.pieces[0].expected["both"].true_rank == 1
  # What is masked beside it does not count: another word there changes nothing.
  other, _ = guesses.together(model, readings.read(model, "the cat sat on the sea."), [1, 5], 3)
  chances = [one.pieces[0].expected["both"].true_probability for one in (cat, other)]
  assert chances[0] == pytest.approx(chances[1], rel=1e-5)
  alone = {word.word: word for word in guesses.one_by_one(model, read, 3)}
  assert sorted(alone) == list(range(7))
  (only,) = guesses.together(model, read, [1], 3)
  assert only.pieces[0].expected["both"].true_probability == pytest.approx(
    alone[1].pieces[0].expected["both"].true_probability, rel=1e-4
  )


def test_what_cannot_be_shown_is_said(model: Model) -> None:
  read = readings.read(model, TEXT)
  with pytest.raises(ValueError, match="word 7 is none of the text's, which has words 0 to 6"):
    guesses.together(model, read, [7], 3)
  with pytest.raises(ValueError, match="no word"):
    model.show_masks("")
  with pytest.raises(ValueError, match="the text has 42 tokens"):
    model.show_attention("the " * 40)


def test_views_are_drawn_and_printed(model: Model, tmp_path: Path) -> None:
  hostile = "cat </script><script>x() &amp; \u2028"
  # WordPiece takes marks for words of their own; to SentencePiece what stands between two spaces is a word.
  whole = small.make("albert", tokenizer=small.tokenizer_of("unigram"))
  views = [view for one in (model, whole) for view in (one.show_tokens(hostile, "mat"), one.show_masks(hostile))]
  for view in (*views, model.show_attention(hostile)):
    assert "\n" not in repr(view)
    assert "ca" in str(view)
    frame = view._repr_html_()
    (inside,) = re.findall(r'srcdoc="([^"]*)"', frame)
    page = html.unescape(inside)
    assert page.count("<script") == page.count("</script") == 2, "the text is no markup"
    (data,) = re.findall(r"<script type=\"application/json\" id=data>(.*?)</script>", page, re.DOTALL)
    assert json.loads(data) == json.loads(json.dumps(view.data()))
    view.save(tmp_path / "view.html")
    assert (tmp_path / "view.html").read_text(encoding="utf-8") == page
  shown = model.show_attention(TEXT).data()
  weights = np.frombuffer(base64.b64decode(shown["weights"]), np.uint8)
  probabilities = model.attentions(TEXT).probabilities
  assert weights.size == probabilities.size
  np.testing.assert_allclose(weights.reshape(probabilities.shape) / 255, probabilities, atol=0.5 / 255 + 1e-6)
