"""What published tokenizers say of themselves is followed, or refused by name; and whose rules a model's text has."""

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from absl import logging

from bert_jax.config import TokenizerConfig
from bert_jax.data import tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIAL, "the", "cat", "##s", "中", "##国", "中国", "e", "##1", "[", "]", "e1", "Cat", "cafe", "café", "##."]
LINES = [
  "``Café'' in 1990, and 'so' it''s 2,000, naïve — ½ ﬁn",
  "Zürich\u0301 ❤\ufe0f हिन्दी ``quotes``",
  "the cat  sat in 1990, they said",
]


def sentencepiece_model(**options: Any) -> bytes:
  """A small SentencePiece model that knows the lines as they are, with pieces such as `0,`."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
    sentence_iterator=iter([*LINES, *(unicodedata.normalize("NFKD", line) for line in LINES), '1990, 2000, 0, "'] * 9),
    model_writer=model,
    vocab_size=150,
    hard_vocab_limit=False,
    split_by_number=False,
    split_by_unicode_script=False,
    character_coverage=1.0,
    minloglevel=2,
    num_threads=1,
    **options,
  )
  return model.getvalue()


def xlnet() -> bytes:
  names = ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
  return sentencepiece_model(unk_id=0, bos_id=1, eos_id=2, control_symbols=names)


def deberta(model_type: str = "bpe") -> bytes:
  ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
  return sentencepiece_model(
    **ids, model_type=model_type, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]"
  )


def write(folder: Path, files: dict[str, Any]) -> Path:
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.items():
    content = json.dumps(content) if isinstance(content, dict) else content
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
  return folder


def cut(folder: Path, text: str) -> list[str]:
  tokenizer = tokenizers.load(folder, None, True)
  return tokenizer.tokens(tokenizer.encode([text])[0][0])


def wordpiece_json(folder: Path, lowercase: bool = True, **options: Any) -> dict[str, Any]:
  """The content of a tokenizer.json as transformers writes it."""
  tokenizer = tokenizers.WordPiece({token: i for i, token in enumerate(VOCAB)}, lowercase, lowercase, **options)
  tokenizer.save(folder / "scratch")
  return json.loads((folder / "scratch" / "tokenizer.json").read_text())


# ---- SentencePiece ----


def test_a_cased_xlnet_reads_no_accents_and_one_kind_of_quotes(tmp_path: Path) -> None:
  model = xlnet()
  write(tmp_path, {"spiece.model": model, "tokenizer_config.json": {"do_lower_case": False}})
  tokenizer = tokenizers.load(tmp_path, None)
  pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
  for line in LINES:
    # prepro_utils.preprocess_text of zihangdai/xlnet
    text = " ".join(line.strip().split()).replace("``", '"').replace("''", '"')
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    found = tokenizer.tokens(tokenizer.encode([line])[0][0])
    assert "".join(found) == "".join(pieces.encode(text, out_type=str))
    assert not any(len(p) > 1 and p[-1] == "," and p[-2].isdigit() for p in found)
  assert tokenizer.tokens(tokenizer.encode(["Café"])[0][0]) == tokenizer.tokens(tokenizer.encode(["Cafe"])[0][0])
  assert "\u0301" not in tokenizer.decode(tokenizer.encode(["Café"])[0][0])
  tokenizer.save(tmp_path / "again")
  assert tokenizers.load(tmp_path / "again", None).hash == tokenizer.hash


def test_accents_stay_where_the_file_says_so(tmp_path: Path) -> None:
  stated = {"do_lower_case": False, "keep_accents": True}
  write(tmp_path, {"spiece.model": xlnet(), "tokenizer_config.json": stated})
  assert cut(tmp_path, "Café") != cut(tmp_path, "Cafe")


def test_deberta_does_nothing_to_a_text_and_cuts_no_comma(tmp_path: Path) -> None:
  model = deberta()
  write(tmp_path, {"spm.model": model, "tokenizer_config.json": {"do_lower_case": False}})
  tokenizer = tokenizers.load(tmp_path, None)
  pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
  for line in LINES:
    assert tokenizer.encode([line])[0][0].tolist() == pieces.encode(line)
  assert any(p[-1] == "," and p[-2:-1].isdigit() for line in LINES for p in pieces.encode(line, out_type=str))
  tokenizer.save(tmp_path / "again")
  again = tokenizers.load(tmp_path / "again", None)
  assert again.hash == tokenizer.hash
  assert again.mask_id == tokenizer.mask_id == pieces.get_piece_size()


def test_xlm_robertas_ids_are_fairseqs(tmp_path: Path) -> None:
  model = sentencepiece_model(unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
  write(tmp_path, {"sentencepiece.bpe.model": model})
  with pytest.raises(ValueError, match=r"sentencepiece\.bpe\.model is read as XLM-RoBERTa's, and nothing says"):
    tokenizers.load(tmp_path, None)
  with pytest.raises(ValueError, match=r"model_type is camembert.*writes a tokenizer\.json"):
    tokenizers.load(tmp_path, None, model_type="camembert")
  tokenizer = tokenizers.load(tmp_path, None, model_type="xlm-roberta")
  size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
  roles = (tokenizer.cls_id, tokenizer.pad_id, tokenizer.sep_id, tokenizer.unk_id, tokenizer.mask_id)
  assert roles == (0, 1, 2, 3, size + 1)
  assert tokenizer.vocab_size == size + 2
  pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
  ids = tokenizer.encode(["the cat 漢"])[0][0].tolist()
  assert ids == [i + 1 if i else 3 for i in pieces.encode("the cat 漢")]
  assert tokenizer.decode(tokenizer.encode(["the cat"])[0][0]) == "the cat"
  tokenizer.save(tmp_path / "again")
  assert tokenizers.load(tmp_path / "again", None).hash == tokenizer.hash


# ---- what is stated ----


@pytest.mark.parametrize(
  ("stated", "named"),
  [
    ({"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}, "word_tokenizer_type='mecab'"),
    ({"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer"),
    ({"tokenizer_class": "BertJapaneseTokenizer", "subword_tokenizer_type": "character"}, "subword_tokenizer_type"),
    ({"tokenizer_class": "BertweetTokenizer"}, "BertweetTokenizer"),
    ({"tokenizer_class": "PhobertTokenizer"}, "PhobertTokenizer"),
    ({"do_basic_tokenize": False}, "do_basic_tokenize=False"),
    ({"never_split": ["[E1]"]}, "never_split="),
    ({"cls_token": "[START]"}, r"cls_token='\[START\]', and bert_jax would take '\[CLS\]'"),
    ({"mask_token": {"content": "<m>", "lstrip": True}}, "mask_token='<m>'"),
    ({"added_tokens_decoder": {"7": "[E1]", "8": "[E1]"}}, r"'\[E1\]' has the ids 7"),
    ({"added_tokens_decoder": {"-3": {"content": "[E1]"}}}, r"'\[E1\]' has the id '-3'"),
  ],
)
def test_what_is_not_followed_is_refused_by_name(tmp_path: Path, stated: dict[str, Any], named: str) -> None:
  write(tmp_path, {"vocab.txt": "\n".join(VOCAB), "tokenizer_config.json": {"do_lower_case": True} | stated})
  with pytest.raises(ValueError, match=named) as error:
    tokenizers.load(tmp_path, None)
  assert str(tmp_path) in str(error.value)


def test_special_tokens_of_the_map_are_looked_at(tmp_path: Path) -> None:
  stated = {"vocab.txt": "\n".join(VOCAB), "special_tokens_map.json": {"sep_token": "[END]"}}
  with pytest.raises(ValueError, match=r"special_tokens_map\.json says sep_token='\[END\]'"):
    tokenizers.load(write(tmp_path, stated), None, True)


def test_split_by_punct_and_accents_of_a_sentencepiece_model(tmp_path: Path) -> None:
  write(tmp_path, {"spm.model": deberta(), "tokenizer_config.json": {"do_lower_case": False, "split_by_punct": True}})
  with pytest.raises(ValueError, match="split_by_punct=True"):
    tokenizers.load(tmp_path, None)


@pytest.mark.parametrize("where", ["vocab.txt", "tokenizer.json", "normalizer"])
def test_chinese_characters_stay_together_where_asked(tmp_path: Path, where: str) -> None:
  assert cut(write(tmp_path / "apart", {"vocab.txt": "\n".join(VOCAB)}), "中国") == ["中", "[UNK]"]
  content = wordpiece_json(tmp_path, split_cjk=where != "normalizer")
  stated = {} if where == "normalizer" else {"tokenize_chinese_chars": False}
  file = {"vocab.txt": "\n".join(VOCAB)} if where == "vocab.txt" else {"tokenizer.json": content}
  folder = write(tmp_path / "together", {**file, "tokenizer_config.json": stated})
  assert cut(folder, "中国") == ["中国"]
  tokenizer = tokenizers.load(folder, None, True)
  tokenizer.save(tmp_path / "again")
  assert tokenizers.load(tmp_path / "again", None).hash == tokenizer.hash
  (tmp_path / "again" / "tokenizer.json").unlink()
  assert tokenizers.load(tmp_path / "again", None).encode(["中国"])[0][0].tolist() == [VOCAB.index("中国")]


def test_a_casing_that_disagrees_is_read_as_transformers_reads_it(
  tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
  logging.use_python_logging(quiet=True)
  files = {"tokenizer.json": wordpiece_json(tmp_path), "tokenizer_config.json": {"do_lower_case": False}}
  folder = write(tmp_path / "m", files)
  assert not tokenizers.load(folder, None).lowercase
  assert "lowercase=True; tokenizer_config.json's do_lower_case=False takes precedence" in caplog.text
  generic = {"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"}  # which takes the file as it is
  write(folder, {"tokenizer_config.json": generic})
  assert tokenizers.load(folder, None).lowercase


def test_a_cased_vocabulary_that_does_not_say_so_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
  logging.use_python_logging(quiet=True)
  folder = write(tmp_path, {"vocab.txt": "\n".join([*VOCAB, *(f"Name{i}" for i in range(20))])})
  with pytest.raises(ValueError, match=r"21 of the 40 tokens in .* have capitals \(Cat, Name0, Name1, …\).*do_lower_"):
    tokenizers.load(folder, None, True)
  assert not tokenizers.load(folder, TokenizerConfig(lowercase=False)).lowercase
  write(folder, {"tokenizer_config.json": {"do_lower_case": True}})
  assert tokenizers.load(folder, None).lowercase
  assert "they are never read" in caplog.text


# ---- added tokens ----


def test_an_unused_id_can_have_a_new_name(tmp_path: Path) -> None:
  stated = {"do_lower_case": True, "added_tokens_decoder": {"7": {"content": "[E1]"}}}
  write(tmp_path, {"vocab.txt": "\n".join(VOCAB), "tokenizer_config.json": stated})
  tokenizer = tokenizers.load(tmp_path, None)
  assert tokenizer.encode(["the [E1] [e1]"])[0][0].tolist()[:2] == [VOCAB.index("the"), 7]
  assert tokenizer.vocab_size == len(VOCAB)


def test_added_tokens_of_a_vocab_txt_are_found(tmp_path: Path) -> None:
  folder = write(
    tmp_path, {"vocab.txt": "\n".join(VOCAB), "added_tokens.json": {"[E1]": len(VOCAB), "newword": len(VOCAB)}}
  )
  with pytest.raises(ValueError, match="two added tokens have one id"):
    tokenizers.load(folder, None, True)
  write(folder, {"added_tokens.json": {"[E1]": len(VOCAB), "newword": len(VOCAB) + 1}})
  tokenizer = tokenizers.load(folder, None, True)
  assert tokenizer.vocab_size == len(VOCAB) + 2
  text = "The cat[E1]cats Newword [MASK]"
  assert cut(folder, text)[:6] == ["the", "cat", "[E1]", "cat", "##s", "newword"]
  ((ids, starts),) = tokenizer.encode([text])
  assert starts[:6].tolist() == [True, True, True, True, False, True]
  assert tokenizer.mask_id not in ids
  tokenizer.save(tmp_path / "again")
  for name in ("tokenizer.json", "vocab.txt"):
    again = tokenizers.load(tmp_path / "again", None)
    assert [row.tolist() for row, _ in again.encode([text, ""])] == [ids.tolist(), []], name
    (tmp_path / "again" / "tokenizer.json").unlink(missing_ok=True)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_added_tokens_of_a_tokenizer_json_are_found(tmp_path: Path, kind: Any, special: bool) -> None:
  import tokenizers as hf

  trained = tokenizers.train(["the cats sat e1 here"] * 9, TokenizerConfig(kind=kind, vocab_size=300))
  if kind == "unigram":
    from bert_jax.interop import tokenizer_files

    tokenizer_files.write(trained, tokenizers.epath.Path(tmp_path), None, True, 1)
  else:
    trained.save(tmp_path)
  whole = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  whole.add_tokens([hf.AddedToken("[E1]", special=special)])
  whole.save(str(tmp_path / "tokenizer.json"))
  tokenizer = tokenizers.load(tmp_path, None)
  ((ids, _),) = tokenizer.encode(["the cat [E1] sat"])
  assert ids.tolist() == whole.encode("the cat [E1] sat", add_special_tokens=False).ids
  assert trained.vocab_size in ids
  assert not np.isin(tokenizer.encode([trained.mask_token])[0][0], [trained.mask_id]).any()


def test_added_tokens_of_a_sentencepiece_model_are_found(tmp_path: Path) -> None:
  model = deberta()
  size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
  stated = {"added_tokens.json": {"[MASK]": size, "[E1]": size + 1}}
  folder = write(tmp_path, {"spm.model": model, "tokenizer_config.json": {"do_lower_case": False}, **stated})
  tokenizer = tokenizers.load(folder, None)
  ((ids, _),) = tokenizer.encode(["the cat[E1] sat [MASK]"])
  assert np.count_nonzero(ids == size + 1) == 1
  assert tokenizer.mask_id == size
  assert size not in ids
  assert tokenizer.decode(tokenizer.encode(["the cat [E1] sat"])[0][0]) == "the cat [E1] sat"


def test_tokens_that_a_tokenizer_json_lacks_are_refused(tmp_path: Path) -> None:
  files = {"tokenizer.json": wordpiece_json(tmp_path), "added_tokens.json": {"[E1]": len(VOCAB)}}
  with pytest.raises(ValueError, match=r"added token '\[E1\]' with the id 20, and the tokenizer lacks it"):
    tokenizers.load(write(tmp_path / "m", files), None)


def test_the_space_before_a_byte_level_text_is_as_stated(tmp_path: Path) -> None:
  trained = tokenizers.train(["the cats sat"] * 9, TokenizerConfig(kind="bpe", vocab_size=270))
  trained.save(tmp_path)
  write(tmp_path, {"tokenizer_config.json": {"add_prefix_space": False}})
  assert cut(tmp_path, "the")[0][0] == "t"
  write(tmp_path, {"tokenizer_config.json": {"add_prefix_space": True}})
  assert cut(tmp_path, "the")[0][0] == "Ġ"
