"""Texts with masks: what stands around a mask is read as it would be with a word in its place."""

import functools

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bert_jax.config import TokenizerConfig
from bert_jax.data import tokenizers
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import masks

SIGNS = "€°™≤😀½中,.;!?()'\"-–…%$#@&*+=<>/\\|~^_`§¶£©®×÷→∞¿¡«»“”\u0301\ufe0f\u200b\u00a0"
KINDS = ("wordpiece", "bpe", "unigram")


@functools.cache
def tokenizer_of(kind: str, lowercase: bool) -> Tokenizer:
  words = ["the", "price", "of", "a", "cat", "is", "so", "high", "today", "that", "it", "costs"]
  texts = [" ".join(words[i:] + words[:i]) for i in range(len(words))] * 20 + [f"a 1{sign} {sign} b" for sign in SIGNS]
  size = {"wordpiece": 300, "bpe": 420, "unigram": 160}[kind]
  return tokenizers.train(texts, TokenizerConfig(kind=kind, vocab_size=size, lowercase=lowercase))  # type: ignore[arg-type]


def around(text: str, tokenizer: Tokenizer) -> list[np.ndarray]:
  """The tokens before, between and after the masks of a text."""
  ids = masks.locate(text, masks.find(text, tokenizer), tokenizer).ids
  places = np.flatnonzero(ids == tokenizer.mask_id)
  return [part[part != tokenizer.mask_id] for part in np.split(ids, places)]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", SIGNS)
def test_a_sign_next_to_a_mask_is_read(kind: str, lowercase: bool, sign: str) -> None:
  tokenizer = tokenizer_of(kind, lowercase)
  ((alone, _),) = tokenizer.encode([sign])
  for text in (f"it costs 5 [MASK]{sign} today", f"[MASK]{sign}", f"[MASK]{sign}[MASK]", f"{sign}[MASK]"):
    parts = around(text, tokenizer)
    beside = tokenizer.decode(parts[0 if text.startswith(sign) else 1]).replace("today", "").strip()
    assert beside == tokenizer.decode(alone).strip(), (text, [tokenizer.tokens(part) for part in parts])
    if alone.size and not sign.isspace() and kind != "unigram":
      assert any(part.size for part in parts)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(st.text(st.one_of(st.sampled_from(SIGNS + "a 1\n"), st.characters(exclude_categories=["Cs"])), max_size=6))
@example("😀")
@example("€ today.")
@example("\u0301")
@example(" \n")
def test_nothing_behind_a_mask_is_lost(kind: str, text: str) -> None:
  """A word in the mask's place and the text behind it give the same tokens, but where the two grow together."""
  tokenizer = tokenizer_of(kind, False)
  assume(tokenizer.mask_token not in text and masks.MASK not in text)
  parts = around(f"a [MASK]{text}", tokenizer)
  if tokenizer.unk_id not in (behind := parts[1]):
    ((whole, _),) = tokenizer.encode([text])
    known = tokenizer.decode(whole) if tokenizer.unk_id not in whole else None
    assert known is None or tokenizer.decode(behind).split() == known.split()
  elif kind != "bpe":
    assert tokenizer.unk_id in tokenizer.encode([text])[0][0]
  assert np.concatenate(parts).min(initial=0) >= 0


def test_a_mark_right_after_a_mask_has_no_space_before_it() -> None:
  for kind, dot in (("wordpiece", "."), ("bpe", "."), ("unigram", ".")):
    tokenizer = tokenizer_of(kind, True)
    assert tokenizer.tokens(around("so [MASK].", tokenizer)[1]) == [dot], kind


def test_a_sign_that_continues_a_word_is_shown_so() -> None:
  vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "5", "##€", "€"])}
  tokenizer = tokenizers.WordPiece(vocab, True, True)
  text = "5 [MASK]"
  (mark,) = masks.find(text, tokenizer)
  assert masks.candidate(6, 0.5, text, mark, tokenizer) == ("##€", 0.5, "5€")
  assert masks.candidate(7, 0.5, text, mark, tokenizer) == ("€", 0.5, "5 €")
