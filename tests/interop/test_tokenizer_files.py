"""Tokenizers both ways: transformers opens what we write and gives our ids, and we read the files that it has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_jax.data import tokenizers
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.interop import reading, tokenizer_files, writing
from tests.interop import small

TEXTS = [
  *small.SENTENCES,
  "Snow,  snow; and\tmore snow (cold)!",
  "the cat is white. the sea is cold.",
  "Café naïve ﬁn in 1990, and 2019, too",
  "",
]


def written(tokenizer: Tokenizer, folder: Path, name: str = "bert") -> Path:
  writing.write_files(small.make(name, tokenizer=tokenizer), reading.epath.Path(folder))
  return folder


@pytest.mark.parity
@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize(("kind", "name"), [("wordpiece", "bert"), ("bpe", "roberta"), ("unigram", "albert")])
def test_autotokenizer_gives_our_ids(kind: str, name: str, lowercase: bool, tmp_path: Path) -> None:
  import transformers

  tokenizer = small.tokenizer_of(kind, lowercase)
  theirs: Any = transformers.AutoTokenizer.from_pretrained(written(tokenizer, tmp_path / "hf", name))
  for text, (ids, _) in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
    assert theirs(text)["input_ids"] == [tokenizer.cls_id, *ids, tokenizer.sep_id], text
  assert theirs.mask_token_id == tokenizer.mask_id
  assert theirs.pad_token_id == tokenizer.pad_id
  assert len(theirs) == tokenizer.vocab_size
  first, second = (ids.tolist() for ids, _ in tokenizer.encode(TEXTS[:2]))
  cls, sep = tokenizer.cls_id, tokenizer.sep_id
  middle = [sep, sep] if kind == "bpe" else [sep]
  assert theirs(*TEXTS[:2])["input_ids"] == [cls, *first, *middle, *second, sep]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_what_is_written_reads_back_as_the_same_ids(kind: str, tmp_path: Path) -> None:
  tokenizer = small.tokenizer_of(kind)
  again = reading.read(written(tokenizer, tmp_path / "hf"), say=lambda _: None).tokenizer
  assert again is not None
  assert again.mask_id == tokenizer.mask_id
  for (ids, starts), (other_ids, other_starts) in zip(tokenizer.encode(TEXTS), again.encode(TEXTS), strict=True):
    np.testing.assert_array_equal(ids, other_ids)
    np.testing.assert_array_equal(starts, other_starts)


def test_vocab_json_and_merges_are_roberta_s_two_files(tmp_path: Path) -> None:
  tokenizer = small.tokenizer_of("bpe", lowercase=False)
  tokenizer.save(tmp_path)
  content = json.loads((tmp_path / "tokenizer.json").read_text())
  (tmp_path / "two").mkdir()
  vocab = content["model"]["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
  (tmp_path / "two" / "vocab.json").write_text(json.dumps(vocab))
  merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
  (tmp_path / "two" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
  stated = {"add_prefix_space": content["pre_tokenizer"].get("add_prefix_space", True)}
  (tmp_path / "two" / "tokenizer_config.json").write_text(json.dumps(stated))
  again = tokenizers.load(tmp_path / "two", None)
  assert [ids.tolist() for ids, _ in again.encode(TEXTS)] == [ids.tolist() for ids, _ in tokenizer.encode(TEXTS)]
  (tmp_path / "two" / "merges.txt").unlink()
  with pytest.raises(ValueError, match=r"vocab\.json needs .*merges\.txt beside it"):
    tokenizers.load(tmp_path / "two", None)


def test_the_mask_of_deberta_stands_behind_its_pieces(tmp_path: Path) -> None:
  """Its spm.model has no [MASK]; transformers gives it the first id behind."""
  import sentencepiece

  options = {"pad_id": 0, "unk_id": 3, "bos_id": 1, "eos_id": 2, "pad_piece": "[PAD]", "unk_piece": "[UNK]"}
  (tmp_path / "text").write_text("\n".join(small.SENTENCES * 20))
  sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
    input=str(tmp_path / "text"),
    model_prefix=str(tmp_path / "spm"),
    vocab_size=50,
    hard_vocab_limit=False,
    bos_piece="[CLS]",
    eos_piece="[SEP]",
    minloglevel=2,
    **options,
  )
  (tmp_path / "text").unlink()
  pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
  config = small.CONFIGS["deberta-v2"]
  tokenizer = tokenizer_files.read(reading.epath.Path(tmp_path), config)
  assert tokenizer is not None
  assert tokenizer.mask_id == pieces.get_piece_size()
  assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.unk_id) == (0, 1, 2, 3)
  assert not tokenizer.lowercase
  assert tokenizer.encode(["Snow is"])[0][0].tolist() == pieces.encode("Snow is")
  tokenizer.save(tmp_path / "again")
  assert tokenizers.load(tmp_path / "again", None).hash == tokenizer.hash


def test_a_fast_tokenizer_goes_before_a_sentencepiece_model(tmp_path: Path) -> None:
  small.tokenizer_of("unigram").save(tmp_path)
  small.tokenizer_of("bpe").save(tmp_path)
  assert tokenizers.load(tmp_path, None).kind == "bpe"
