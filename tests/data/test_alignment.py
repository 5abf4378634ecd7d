"""Each character of a changed text comes from what the rule makes it of."""

import functools
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_jax.data import alignment, basic_tokenizer
from tests.data.test_tokenizers import DIFFICULT

RULES = {
  "lower": str.lower,
  "NFD": functools.partial(unicodedata.normalize, "NFD"),
  "NFKD": functools.partial(unicodedata.normalize, "NFKD"),
  "words": lambda text: basic_tokenizer.split_words(text, lowercase=True, strip_accents=True),
  "cased words": lambda text: basic_tokenizer.split_words(text, lowercase=False, strip_accents=False),
}
MARKS = "\u0301\u0327\u0345\u0344\u1b44\u302e\u05b0\u0f71\u0f73"
texts = st.text(st.one_of(st.sampled_from(DIFFICULT + MARKS * 3 + "ΣΣaé각"), st.characters(exclude_categories=["Cs"])))


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=300, deadline=None)
@given(texts)
@example("a\u0301\u0327\u0301\u0327b\u302e\u1b44é\u0327 ΟΔΟΣ ΣΣ Σ")
def test_characters_are_traced(name, text):
  rule = RULES[name]
  traced = alignment.Tracer(rule)(text)
  assert traced.text == rule(text)
  assert len(traced.begins) == len(traced.ends) == len(traced.text)
  assert (np.diff(traced.begins) >= 0).all()
  assert (np.diff(traced.ends) >= 0).all()
  for character, begin, end in zip(traced.text, traced.begins, traced.ends, strict=True):
    assert 0 <= begin < end <= len(text)
    assert character.replace("ς", "σ") in rule(text[begin:end]).replace("ς", "σ")
    # A span of several is of marks that changed places.
    assert end == begin + 1 or any(map(unicodedata.combining, unicodedata.normalize("NFKD", text[begin:end])))


def test_marks_that_changed_places_share_their_span():
  traced = alignment.Tracer(RULES["NFD"])("xa\u0301\u0327b")
  assert traced.text == "xa\u0327\u0301b"
  assert list(zip(traced.begins.tolist(), traced.ends.tolist(), strict=True)) == [
    (0, 1),
    (1, 2),
    (2, 4),
    (2, 4),
    (4, 5),
  ]


def test_a_dropped_accent_goes_with_the_character_before():
  spans = np.array([[0, 1], [2, 2], [4, 5]])
  assert alignment.with_marks("e\u0301 \u0301z\u0327\u0301", spans).tolist() == [[0, 2], [2, 2], [4, 7]]
