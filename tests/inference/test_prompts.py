"""Named prompts and texts beyond a model's length, by sentence-transformers' rules.

Its `encode` puts a prompt's words right before the text, without a space; takes the prompt called
`default_prompt_name` where none is asked for; keeps the first `max_seq_length` tokens, special ones counted; and with
`include_prompt: false` does not pool [CLS] and the prompt's tokens.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import console
from bert_jax.cli import main
from bert_jax.inference import prompts
from bert_jax.inference.embedding import EmbeddingSettings
from bert_jax.inference.model import Model
from bert_jax.interop import reading, writing
from tests.interop import small

TEXTS = ["Snow is white.", "The cat sat on the mat, and the sea is cold; snow is white, and Paris is white."]
STATED = {"prompts": {"query": "the sea: ", "passage": "", "document": None}, "default_prompt_name": "query"}


def model_of(stated: Any, pooled: bool = True, **embedding: Any) -> Model:
  made = small.make("bert", tokenizer=small.tokenizer_of())
  files = {
    "config_sentence_transformers.json": json.dumps(stated).encode(),
    "1_Pooling/config.json": json.dumps({"include_prompt": pooled}).encode(),
  }
  return dataclasses.replace(made, files=files, embedding=EmbeddingSettings(**embedding))


def test_the_default_prompt_goes_before_a_text() -> None:
  model, plain = model_of(STATED), model_of({})
  expected = plain.embed([f"the sea: {text}" for text in TEXTS])
  np.testing.assert_array_equal(model.embed(TEXTS), expected)
  np.testing.assert_array_equal(model.embed(TEXTS, prompt="query"), expected)
  np.testing.assert_array_equal(model.embed(TEXTS[0], prompt="query"), model.embed(TEXTS[:1])[0])
  for name in ("", "passage", "document"):
    np.testing.assert_array_equal(model.embed(TEXTS, prompt=name), plain.embed(TEXTS))
  assert np.abs(expected - plain.embed(TEXTS)).max() > 0.01


def test_a_prompt_that_is_none_is_refused() -> None:
  with pytest.raises(ValueError, match=r"prompt='nose' is no prompt of the model, which has 'query', 'passage'"):
    model_of(STATED).embed(TEXTS, prompt="nose")
  with pytest.raises(ValueError, match=r"prompt='query' is no prompt of the model, which has none"):
    model_of({}).embed(TEXTS, prompt="query")
  with pytest.raises(ValueError, match=r"default_prompt_name='nose', and has the prompts 'query'"):
    prompts.read(model_of(STATED | {"default_prompt_name": "nose"}).files, "M")
  with pytest.raises(ValueError, match=r"prompts=\["):
    prompts.read(model_of({"prompts": ["query"]}).files, "M")


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_a_prompt_can_be_read_and_not_pooled(pooling: Any) -> None:
  model = model_of(STATED, pooled=False, pooling=pooling)
  text = f"the sea: {TEXTS[0]}"
  hidden = model.token_embeddings(text)
  first = 1 + len(model.tokenizer.encode(["the sea: "])[0][0])  # [CLS], and the prompt
  behind = hidden.vectors[first:]
  expected = {"mean": behind.mean(0), "max": behind.max(0), "cls": behind[0]}[pooling]
  np.testing.assert_allclose(model.embed(TEXTS[0], long="cut"), expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="say long='cut'"):
    model.embed(TEXTS)
  model.embed(TEXTS, prompt="")


def test_texts_are_lower_cased_where_the_files_say_so() -> None:
  plain = small.make("bert", tokenizer=small.tokenizer_of(lowercase=False))
  model = dataclasses.replace(plain, files={"sentence_bert_config.json": b'{"do_lower_case": true}'})
  np.testing.assert_array_equal(model.embed("Snow is White"), plain.embed("snow is white"))
  assert np.abs(plain.embed("Snow is White") - plain.embed("snow is white")).max() > 0.01


def test_long_texts_can_be_cut() -> None:
  model = model_of({}, max_tokens=12)
  ids = model.encode(TEXTS[1]).token_ids
  assert len(ids) > 12
  kept = model.tokenizer.decode(ids[1:11])
  assert model.encode(kept).token_ids.tolist()[1:-1] == ids[1:11].tolist()
  np.testing.assert_allclose(model.embed(TEXTS[1], long="cut"), model.embed(kept), rtol=1e-4, atol=1e-5)
  assert np.abs(model.embed(TEXTS[1], long="cut") - model.embed(TEXTS[1])).max() > 0.01
  np.testing.assert_array_equal(model.embed(TEXTS[0], long="cut"), model.embed(TEXTS[0]))
  with pytest.raises(ValueError, match="long='fold' must be windows or cut"):
    model.embed(TEXTS, long="fold")  # pyright: ignore[reportArgumentType]


def test_prompts_go_through_import_and_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(console, "log_own_lines_only", lambda: None)
  model = small.make("bert", tokenizer=small.tokenizer_of())
  writing.write_files(model, epath.Path(tmp_path / "hf"))
  file = tmp_path / "hf" / "config_sentence_transformers.json"
  file.write_text(json.dumps(STATED))
  expected = model.embed([f"the sea: {text}" for text in TEXTS], max_tokens=12, stride=10)
  cut = model.embed([f"the sea: {text}" for text in TEXTS], max_tokens=12, long="cut")
  assert main.main(["import", str(tmp_path / "hf"), str(tmp_path / "M")]) == 0
  np.testing.assert_array_equal(bert_jax.load(tmp_path / "M").embed(TEXTS, max_tokens=12, stride=10), expected)
  (tmp_path / "texts").write_text("\n".join(TEXTS))
  options = ["--prompt=query", "--long=cut", "--max-tokens=12", "-o", str(tmp_path / "v.npy")]
  assert main.main(["embed", str(tmp_path / "M"), str(tmp_path / "texts"), *options]) == 0
  np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), cut)
  file.write_text(json.dumps(STATED | {"default_prompt_name": "nose"}))
  with pytest.raises(ValueError, match="default_prompt_name='nose'"):
    reading.read(tmp_path / "hf")
