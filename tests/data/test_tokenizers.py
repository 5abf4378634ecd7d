"""Tokenizers against a small reference of BERT's rules, and the promises that hold for all three kinds."""

import io
import itertools
import json
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import sentencepiece
from absl import logging
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_jax.config import TokenizerConfig
from bert_jax.data import basic_tokenizer, tokenizers

KINDS = ("wordpiece", "bpe", "unigram")
SPECIAL = {
  "wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
  "bpe": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
  "unigram": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
}


def make_text(seed: int, words: int = 3000) -> list[str]:
  """Sentences of invented words, with case, accents, numbers and punctuation."""
  rng = random.Random(seed)
  stems = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(150)]
  stems += ["café", "naïve", "Zürich", "don't", "1990,", "2,000", "well-known", "(brackets)", "Straße"]
  stems += ["日本", "ΟΔΟΣ", "a;b:c/d!e"]
  chosen = [rng.choice(stems) for _ in range(words)]
  return [" ".join(chosen[i : i + 11]).capitalize() + "." for i in range(0, words, 11)]


@pytest.fixture(scope="module", params=itertools.product(KINDS, (True, False)), ids=str)
def trained(request):
  kind, lowercase = request.param
  return tokenizers.train(make_text(1), TokenizerConfig(kind=kind, vocab_size=450, lowercase=lowercase))


# ---- BERT's rules ----------------------------------------------------------------------------------------


CJK = "4E00-9FFF 3400-4DBF 20000-2A6DF 2A700-2B73F 2B740-2B81F 2B820-2CEAF F900-FAFF 2F800-2FA1F"
CJK_RANGES = [tuple(int(end, 16) for end in block.split("-")) for block in CJK.split()]


def reference_words(text: str, lowercase: bool) -> list[str]:
  """RECIPES' order of BERT's basic tokenizer, one character at a time."""
  cleaned = ""
  for c in text:
    if c in "\t\n\r":
      cleaned += " "
    elif c == "\0" or c == "\ufffd" or unicodedata.category(c) in ("Cc", "Cf"):
      continue
    elif any(a <= ord(c) <= b for a, b in CJK_RANGES):
      cleaned += " " + c + " "
    else:
      cleaned += c
  words = []
  for token in cleaned.split():
    if lowercase:
      token = "".join(c for c in unicodedata.normalize("NFD", token.lower()) if unicodedata.category(c) != "Mn")
    word = ""
    for c in token:
      o = ord(c)
      if 33 <= o <= 47 or 58 <= o <= 64 or 91 <= o <= 96 or 123 <= o <= 126 or unicodedata.category(c)[0] == "P":
        words += [word] if word else []
        words.append(c)
        word = ""
      else:
        word += c
    words += [word] if word else []
  return [w for word in words for w in word.split()]


def reference_pieces(word: str, vocab: set[str]) -> list[str]:
  """Greedy longest match from the left, with Google's limit on a word's length."""
  if len(word) > 200:
    return ["[UNK]"]
  pieces, start = [], 0
  while start < len(word):
    end = len(word)
    while end > start and ("##" if start else "") + word[start:end] not in vocab:
      end -= 1
    if end == start:
      return ["[UNK]"]
    pieces.append(("##" if start else "") + word[start:end])
    start = end
  return pieces


DIFFICULT = (
  "aZéÉßİıΣςǅﬁ½²٣\u0301\u0327\u1ab0\u200b\u200d\u00ad\ufeff\0\ufffd\u2028\u2029\x85\x0b\x1c\u3000\xa0\u1680 \t\r\n"
)
DIFFICULT += (
  "中㐀豈\U00020000\U0002b820\U0002ceb0가힣ㄱぁア़ाخً،。、！«»—…€£$+<=>^`|~_-'\"\ue000\U0001f600\u2e4f\U00010100"
)
texts = st.text(st.one_of(st.sampled_from(DIFFICULT), st.characters(exclude_categories=["Cs"])), max_size=40)


@settings(max_examples=400, deadline=None)
@given(texts, st.booleans())
@example(DIFFICULT, True)
@example(DIFFICULT, False)
@example("ΟΔΟΣ ΟΔΟΣ. İstanbul", True)
@example("a" * 200 + " " + "a" * 201, True)
def test_wordpiece_is_berts_own(text, lowercase):
  vocab = [
    *SPECIAL["wordpiece"],
    *"aez中οδσςi.",
    *("##" + c for c in "aez1οδσςi"),
    "aa",
    "##aa",
    "οδ",
    "##ος",
    "##stan",
  ]
  tokenizer = WORDPIECE[lowercase]
  assert set(vocab) == set(tokenizer.tokens(range(tokenizer.vocab_size)))
  words = [reference_pieces(word, set(vocab)) for word in reference_words(text, lowercase)]
  ((ids, starts),) = tokenizer.encode([text])
  assert tokenizer.tokens(ids) == [piece for word in words for piece in word]
  assert starts.tolist() == [i == 0 for word in words for i in range(len(word))]


def wordpiece_of(lowercase: bool) -> tokenizers.Tokenizer:
  vocab = [
    *SPECIAL["wordpiece"],
    *"aez中οδσςi.",
    *("##" + c for c in "aez1οδσςi"),
    "aa",
    "##aa",
    "οδ",
    "##ος",
    "##stan",
  ]
  return tokenizers.WordPiece({token: i for i, token in enumerate(vocab)}, lowercase, lowercase)


WORDPIECE = {lowercase: wordpiece_of(lowercase) for lowercase in (True, False)}


def test_cased_text_keeps_case_and_accents():
  assert basic_tokenizer.split_words("Éa", lowercase=False, strip_accents=False) == "Éa"
  assert basic_tokenizer.split_words("Éa", lowercase=True, strip_accents=True) == "ea"


# ---- all kinds -------------------------------------------------------------------------------------------


def test_special_tokens_come_first(trained):
  assert trained.tokens(range(5)) == SPECIAL[trained.kind]
  roles = [trained.cls_id, trained.pad_id, trained.sep_id, trained.unk_id, trained.mask_id]
  assert sorted(roles) == list(range(5))
  assert trained.tokens([trained.mask_id]) == [trained.mask_token]
  assert trained.mask_token in ("[MASK]", "<mask>")
  np.testing.assert_array_equal(trained.special_ids, np.arange(5, dtype=np.int32))


def test_vocabulary_is_not_larger_than_asked(trained):
  assert 200 < trained.vocab_size <= 450


def test_lowercase_drops_case_and_accents_and_cased_keeps_them(trained):
  (lower, _), (upper, _) = trained.encode(["cafe zurich", "CAFÉ Zürich"])
  assert (lower.tolist() == upper.tolist()) == trained.lowercase
  if not trained.lowercase:
    assert trained.decode(trained.encode(["café Zürich"])[0][0]).strip() == "café Zürich"


def reference_word_count(text: str, kind: str) -> int:
  """Runs of letters and digits, and each mark of punctuation; GPT-2's pre-tokenizer parts letters from digits."""
  words = 0
  for chunk in text.split():
    classes = ["p" if not c.isalnum() else "d" if c.isdigit() and kind == "bpe" else "l" for c in chunk]
    words += sum(c == "p" or i == 0 or c != classes[i - 1] for i, c in enumerate(classes))
  return words


word = st.text("abcxyzqé", min_size=1, max_size=12)
chunk = st.one_of(
  word,
  st.integers(0, 99999).map(str),
  st.builds(lambda a, m: m + a, word, st.sampled_from(",;:(-/!")),
  st.builds(lambda a, b, m: a + m + b, word, word, st.sampled_from(",;:(-/!")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(chunk, min_size=1, max_size=9))
def test_word_starts_are_where_words_start(words):
  text = " ".join(words)
  for kind in KINDS:
    tokenizer = TRAINED[kind]
    ((ids, starts),) = tokenizer.encode([text])
    assert starts.shape == ids.shape
    assert starts[0]
    pieces = tokenizer.tokens(ids)
    assert starts.sum() == reference_word_count(text, kind), (kind, list(zip(pieces, starts.tolist(), strict=True)))
    # No piece of one word holds a space inside, so words can be masked whole and nothing else is.
    groups = np.split(ids, np.flatnonzero(starts)[1:])
    decoded = [tokenizer.decode(group).strip() for group in groups]
    if tokenizer.unk_id not in ids:
      joined = "".join(d.replace("##", "").replace(" ", "") for d in decoded)
      assert joined == text.replace(" ", "").replace("é", "e")
      assert all(d == d.strip() and d for d in decoded)


TRAINED = {kind: tokenizers.train(make_text(2), TokenizerConfig(kind=kind, vocab_size=400)) for kind in KINDS}


def test_names_of_special_tokens_in_text_are_text(trained):
  text = " ".join(SPECIAL[trained.kind])
  ((ids, _),) = trained.encode([text])
  assert not np.isin(ids, trained.special_ids[trained.special_ids != trained.unk_id]).any()


def test_encoding_does_not_depend_on_company(trained):
  texts = make_text(3, 200)
  together = trained.encode(texts)
  for text, (ids, starts) in zip(texts, together, strict=True):
    ((alone, starts_alone),) = trained.encode([text])
    np.testing.assert_array_equal(ids, alone)
    np.testing.assert_array_equal(starts, starts_alone)
  assert len(trained.encode(["", "abc"])[0][0]) == 0


def test_decode_leaves_out_special_tokens(trained):
  ((ids, _),) = trained.encode(["abc def"])
  framed = [trained.cls_id, *ids, trained.sep_id, trained.pad_id]
  assert trained.decode(framed) == trained.decode(ids)
  assert trained.decode(np.array(framed)).replace(" ", "") == "abcdef"


def test_saved_is_loaded_equal(trained, tmp_path):
  trained.save(tmp_path / "t")
  loaded = tokenizers.load(tmp_path / "t", None)
  assert loaded.hash == trained.hash
  assert (loaded.kind, loaded.lowercase, loaded.vocab_size) == (trained.kind, trained.lowercase, trained.vocab_size)
  for (a, b), (c, d) in zip(trained.encode(make_text(4, 99)), loaded.encode(make_text(4, 99)), strict=True):
    np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(b, d)


def test_saved_wordpiece_loads_from_each_of_its_files(tmp_path):
  tokenizer = TRAINED["wordpiece"]
  tokenizer.save(tmp_path)
  config = TokenizerConfig()
  assert tokenizers.load(tmp_path / "vocab.txt", config).hash == tokenizer.hash
  (tmp_path / "tokenizer.json").unlink()
  assert tokenizers.load(tmp_path, None).hash == tokenizer.hash


def test_other_programs_cut_as_the_saved_file_says(tmp_path):
  import tokenizers as hf

  TRAINED["wordpiece"].save(tmp_path)
  whole = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  text = "Abc, the well-known café."
  assert whole.encode(text, add_special_tokens=False).ids == TRAINED["wordpiece"].encode([text])[0][0].tolist()
  assert whole.encode(text).tokens[0] == "[CLS]"
  assert whole.encode("[MASK]").ids[1:-1] == [TRAINED["wordpiece"].mask_id]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic_across_processes(kind):
  program = (
    "from bert_jax.config import TokenizerConfig\nfrom bert_jax.data import tokenizers\n"
    "from tests.data.test_tokenizers import make_text\n"
    f"print(tokenizers.train(make_text(5), TokenizerConfig(kind={kind!r}, vocab_size=700)).hash)"
  )
  run = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(2)]
  assert len({process.stdout for process in run}) == 1


def test_a_small_text_gives_a_smaller_vocabulary_and_says_so(caplog):
  logging.use_python_logging(quiet=True)
  for kind in KINDS:
    caplog.clear()
    tokenizer = tokenizers.train(["one two three, one two."] * 3, TokenizerConfig(kind=kind, vocab_size=5000))
    assert tokenizer.vocab_size < 400
    assert "too small for data.tokenizer.vocab_size=5000" in caplog.text


def test_training_reads_no_more_than_asked():
  def endless():
    for i in itertools.count():
      yield f"text number {i} of very many, all alike."
      assert i < 100

  assert tokenizers.train(endless(), TokenizerConfig(vocab_size=64, train_characters=1000)).vocab_size <= 64


@pytest.mark.parametrize(("kind", "size"), [("wordpiece", 20), ("bpe", 260), ("unigram", 20)])
def test_too_small_a_vocabulary_is_refused_with_the_least_size(kind, size):
  with pytest.raises(ValueError, match=f"data.tokenizer.vocab_size={size} is too small.*at least") as error:
    tokenizers.train(make_text(6), TokenizerConfig(kind=kind, vocab_size=size))
  least = int(str(error.value).rsplit(" ", 1)[1])
  assert tokenizers.train(make_text(6), TokenizerConfig(kind=kind, vocab_size=least)).vocab_size <= least


def test_no_text_is_refused():
  for kind in KINDS:
    with pytest.raises(ValueError, match="no text"):
      tokenizers.train([" \n"], TokenizerConfig(kind=kind, vocab_size=300))


def test_unigram_parts_a_comma_from_a_number():
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["in 1990, and 2000, or 1990, they"] * 50),
    model_writer=model,
    model_type="bpe",
    vocab_size=60,
    split_by_number=False,
    split_by_unicode_script=False,
    control_symbols=["<pad>", "[CLS]", "[SEP]", "[MASK]"],
    minloglevel=2,
  )
  pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).encode("in 1990, they", out_type=str)
  assert any(piece[-2:] == "0," for piece in pieces)  # or there is nothing to part
  tokenizer = tokenizers.SentencePiece(model.getvalue(), lowercase=True)
  ((ids, starts),) = tokenizer.encode(["in 1990, they"])
  cut = tokenizer.tokens(ids)
  assert "".join(cut) == "".join(pieces)
  assert "," in cut
  assert not any(len(piece) > 1 and piece.endswith(",") for piece in cut)
  assert starts.sum() == 4
  assert tokenizer.decode(ids) == "in 1990, they"


# ---- bad input -------------------------------------------------------------------------------------------


def test_a_tokenizer_of_another_kind_or_casing_is_refused(tmp_path):
  TRAINED["bpe"].save(tmp_path / "bpe")
  with pytest.raises(ValueError, match=r"data.tokenizer.kind=wordpiece, but .*kind=bpe"):
    tokenizers.load(tmp_path / "bpe", TokenizerConfig())
  with pytest.raises(ValueError, match=r"data.tokenizer.lowercase=False, but .*lowercase=True"):
    tokenizers.load(tmp_path / "bpe", TokenizerConfig(kind="bpe", lowercase=False))
  tokenizers.load(tmp_path / "bpe", TokenizerConfig(kind="bpe"))


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", r"no \[MASK\]"),
    ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", "lists 'a' 2 times"),
    ("vocab.txt", b"[PAD]\n\xff\n", "damaged"),
    ("tokenizer.json", "{", "damaged"),
    ("tokenizer.json", "{}", "damaged"),
    ("spiece.model", b"nonsense", "is no SentencePiece model"),
    ("vocab.bin", b"x", "must end in"),
    ("readme.md", "x", "must end in"),
  ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
  with pytest.raises(ValueError, match=message) as error:
    tokenizers.load(tmp_path / name, TokenizerConfig())
  assert str(tmp_path / name) in str(error.value)


def test_missing_paths_are_named(tmp_path):
  with pytest.raises(ValueError, match="neither a file nor a folder"):
    tokenizers.load(tmp_path / "nowhere", None)
  with pytest.raises(ValueError, match=r"holds no vocab.txt"):
    tokenizers.load(tmp_path, None)


def test_tokenizers_whose_words_are_unknown_are_refused(tmp_path):
  import tokenizers as hf

  (tmp_path / "tokenizer.json").write_text(hf.Tokenizer(hf.models.BPE({"a": 0}, [])).to_str())
  with pytest.raises(ValueError, match="where words start"):
    tokenizers.load(tmp_path, None)


def test_casing_must_be_stated_somewhere(tmp_path):
  (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
  with pytest.raises(ValueError, match="whether it is cased"):
    tokenizers.load(tmp_path, None)
  assert tokenizers.load(tmp_path, TokenizerConfig(lowercase=False)).lowercase is False
  (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
  assert tokenizers.load(tmp_path, None).lowercase is True
