"""More tokens and more positions: new rows come of old ones, and old texts give what they gave."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.interop import extend, imported, reading, writing
from bert_jax.interop.params import flat, nested
from tests.interop import small

NEW = ["seawhite", "mat", "catmat"]


def read(kind: str, name: str, folder: Path) -> Model:
  """A model as it comes from a folder."""
  tokenizer = small.tokenizer_of(kind)
  model = small.make(name, tokenizer=tokenizer)
  writing.write_files(model, epath.Path(folder))
  return reading.read(folder, say=lambda _: None)


def hidden(model: Model, text: str) -> np.ndarray:
  return model.token_embeddings(text).vectors


def tokens_of(model: Model) -> Tokenizer:
  assert model.tokenizer is not None
  return model.tokenizer


@pytest.mark.parametrize(("kind", "name"), [("wordpiece", "bert"), ("bpe", "roberta")])
def test_a_new_token_is_the_mean_of_its_pieces(kind: str, name: str, tmp_path: Path) -> None:
  model = read(kind, name, tmp_path / "hf")
  before = tokens_of(model)
  pieces = [ids for ids, _ in before.encode(NEW)]
  known = [len(ids) == 1 and before.unk_id not in ids for ids in pieces]
  said: list[str] = []
  grown = extend.extend_vocab(model, NEW, said.append)
  after = tokens_of(grown)
  assert after.vocab_size == before.vocab_size + known.count(False) == grown.config.vocab_size
  assert any("already and stay" in text for text in said) == any(known)
  old, new = flat(model.params), flat(grown.params)
  number = before.vocab_size
  for token, ids, is_known in zip(NEW, pieces, known, strict=True):
    if is_known:
      continue
    assert after.encode([token])[0][0].tolist() == [number]
    assert after.encode([f"the {token} is"])[0][0].tolist().count(number) == 1
    for path in ("encoder/embeddings/words", "mlm_head/bias"):
      np.testing.assert_allclose(new[path][number], old[path][ids].mean(axis=0), rtol=1e-6)
    number += 1
  text = "Snow is white."
  np.testing.assert_array_equal(before.encode([text])[0][0], after.encode([text])[0][0])
  np.testing.assert_array_equal(hidden(model, text), hidden(grown, text))
  imported.save(grown, tmp_path / "ours")
  assert tokens_of(imported.load(tmp_path / "ours")).hash == after.hash
  writing.write(grown, tmp_path / "back", lambda _: None)
  assert reading.read(tmp_path / "back", say=lambda _: None).config == grown.config


@pytest.mark.parity
@pytest.mark.parametrize(("kind", "name"), [("wordpiece", "bert"), ("bpe", "roberta")])
def test_transformers_cuts_the_new_tokens_alike(kind: str, name: str, tmp_path: Path) -> None:
  import transformers

  grown = extend.extend_vocab(read(kind, name, tmp_path / "hf"), NEW, lambda _: None)
  writing.write_files(grown, epath.Path(tmp_path / "back"))
  theirs: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
  for text in ("the seawhite cat", "catmat. seawhite, mat", "Snow is catmats white"):
    assert theirs(text, add_special_tokens=False)["input_ids"] == tokens_of(grown).encode([text])[0][0].tolist(), text


def test_a_new_token_is_found_in_any_case_where_case_is_dropped() -> None:
  grown = extend.extend_vocab(small.make("bert", tokenizer=small.tokenizer_of()), ["BRCÁ1"], lambda _: None)
  assert tokens_of(grown).tokens(tokens_of(grown).encode(["Brca1 BRCA1"])[0][0]) == ["brca1", "brca1"]


def test_rows_behind_the_last_token_are_used_first() -> None:
  import dataclasses

  model = small.make("bert", tokenizer=small.tokenizer_of())
  arrays = flat(model.params)
  for path in ("encoder/embeddings/words", "mlm_head/bias"):
    arrays[path] = np.concatenate([arrays[path], arrays[path][:5]])
  rows = len(arrays["mlm_head/bias"])
  config = dataclasses.replace(model.config, vocab_size=rows)
  wide = dataclasses.replace(model, config=config, params=nested(arrays))
  grown = extend.extend_vocab(wide, ["seawhite"], lambda _: None)
  assert grown.config.vocab_size == rows
  assert tokens_of(grown).vocab_size == rows - 4


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_new_positions_repeat_the_old_ones(name: str, tmp_path: Path) -> None:
  model = read("bpe" if name == "roberta" else "wordpiece", name, tmp_path / "hf")
  grown = extend.extend_positions(model, 97, lambda _: None)
  offset = 2 if name == "roberta" else 0
  old, new = (flat(m.params)["encoder/embeddings/positions"] for m in (model, grown))
  assert new.shape == (97 + offset, 24)
  np.testing.assert_array_equal(new[: 40 + offset], old)
  np.testing.assert_array_equal(new[40 + offset : 80 + offset], old[offset:])
  text = "Snow is white."
  np.testing.assert_array_equal(hidden(model, text), hidden(grown, text))
  assert len(hidden(grown, "the sea " * 22)) > 40
  writing.write(grown, tmp_path / "back", lambda _: None)
  assert reading.read(tmp_path / "back", say=lambda _: None).config == grown.config


def test_what_cannot_grow_is_said(tmp_path: Path) -> None:
  model = small.make("bert", tokenizer=small.tokenizer_of())
  for tokens, message in (
    (["two words"], "is read as 2 words"),
    (["covid-19"], r"'covid-19' is read as 3 words \(covid - 19\)"),
    (["same", "Same"], "lists a token twice"),
  ):
    with pytest.raises(ValueError, match=message):
      extend.extend_vocab(model, tokens, lambda _: None)
  with pytest.raises(ValueError, match="needs a tokenizer"):
    extend.extend_vocab(small.make("bert"), NEW, lambda _: None)
  with pytest.raises(ValueError, match="SentencePiece model cannot take new tokens"):
    extend.extend_vocab(small.make("albert", tokenizer=small.tokenizer_of("unigram")), NEW, lambda _: None)
  with pytest.raises(ValueError, match="extend-positions=40 must be above the 40 positions"):
    extend.extend_positions(model, 40, lambda _: None)
  with pytest.raises(ValueError, match=r"extend-positions=200000: max_positions=200000 must be .* at most 131,072"):
    extend.extend_positions(model, 200_000, lambda _: None)
  for name in ("xlnet", "deberta", "modernbert"):
    with pytest.raises(ValueError, match="has no table of absolute positions"):
      extend.extend_positions(small.make(name), 97, lambda _: None)
  (tmp_path / "tokens").write_text("\n \n")
  with pytest.raises(ValueError, match="holds no token"):
    extend.read_tokens(epath.Path(tmp_path / "tokens"))
  (tmp_path / "tokens").write_bytes(b"\xff\xfe\xfa")
  with pytest.raises(ValueError, match="cannot be read as UTF-8"):
    extend.read_tokens(epath.Path(tmp_path / "tokens"))
