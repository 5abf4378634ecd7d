"""Folders as sentence-transformers lays them out, old and new; and tokenizers that cannot be read."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax.inference.embedding import EmbeddingSettings
from bert_jax.interop import imported, reading, writing
from bert_jax.interop.params import fingerprint
from tests.interop import small


def silent(_: str) -> None:
  pass


def put(path: Path, content: Any) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
  model = small.make("bert", "encoder", small.tokenizer_of())
  writing.write_files(model, epath.Path(tmp_path / "hf"))
  return tmp_path / "hf"


def modules(folder: Path, transformer: str = "", package: str = "sentence_transformers.models") -> None:
  kinds = ((transformer, "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
  rows = [{"idx": i, "name": str(i), "path": path, "type": f"{package}.{kind}"} for i, (path, kind) in enumerate(kinds)]
  put(folder / "modules.json", rows)


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
def test_version_6(mode: str, folder: Path, tmp_path: Path) -> None:
  modules(folder, package="sentence_transformers.sentence_transformer.modules")
  put(folder / "1_Pooling" / "config.json", {"embedding_dimension": 24, "pooling_mode": mode, "include_prompt": True})
  put(folder / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
  stated = json.loads((folder / "tokenizer_config.json").read_text())
  put(folder / "tokenizer_config.json", stated | {"model_max_length": 17})
  read = reading.read(folder, say=silent)
  assert read.embedding == EmbeddingSettings(mode, True, 17)  # pyright: ignore[reportArgumentType]
  put(folder / "tokenizer_config.json", stated | {"model_max_length": 10**30})
  assert reading.read(folder, say=silent).embedding.max_tokens is None
  for other in ("weightedmean", ["cls", "mean"], None):
    put(folder / "1_Pooling" / "config.json", {"embedding_dimension": 24, "pooling_mode": other})
    with pytest.raises(ValueError, match="bert_jax embeds by one of cls, mean, max"):
      reading.read(folder, say=silent)


def test_without_modules_a_tokenizers_length_is_not_the_models(folder: Path) -> None:
  stated = json.loads((folder / "tokenizer_config.json").read_text())
  put(folder / "tokenizer_config.json", stated | {"model_max_length": 17})
  assert reading.read(folder, say=silent).embedding == EmbeddingSettings()


def test_more_tokens_than_positions_are_brought_down_in_words(folder: Path) -> None:
  put(folder / "sentence_bert_config.json", {"max_seq_length": 42})
  said: list[str] = []
  assert reading.read(folder, say=said.append).embedding.max_tokens == 40
  assert "ask for texts of up to 42 tokens, and the model has 40 positions" in said[-1]
  assert bert_jax.load(folder).embed("the cat " * 60).shape == (24,)


def test_a_model_in_a_folder_of_its_own(folder: Path, tmp_path: Path) -> None:
  """0_Transformer, of sentence-transformers before 2; config.json above it is no model's."""
  flat = bert_jax.load(folder)
  root = tmp_path / "old"
  shutil.copytree(folder, root / "0_Transformer")
  put(root / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 24})
  modules(root, "0_Transformer")
  put(root / "1_Pooling" / "config.json", {"word_embedding_dimension": 24, "pooling_mode_max_tokens": True})
  for config in (None, {"__version__": "1.0.0"}):
    if config:
      put(root / "config.json", config)
    model = bert_jax.load(root)
    assert model.embedding == EmbeddingSettings("max", True, 24)
    vector = flat.embed("the cat sat", "max", True)
    np.testing.assert_array_equal(model.embed("the cat sat"), vector)
  # What is written has one layout, and embeds alike.
  model.export(tmp_path / "back")
  assert not (tmp_path / "back" / "0_Transformer").exists()
  assert json.loads((tmp_path / "back" / "modules.json").read_text())[0]["path"] == ""
  np.testing.assert_array_equal(bert_jax.load(tmp_path / "back").embed("the cat sat"), vector)
  model.save(tmp_path / "ours")
  np.testing.assert_array_equal(bert_jax.load(tmp_path / "ours").embed("the cat sat"), vector)


@pytest.mark.parametrize("name", ["tokenizer.json", "sentencepiece.bpe.model"])
def test_a_tokenizer_that_cannot_be_read_does_not_stop_the_weights(name: str, folder: Path, tmp_path: Path) -> None:
  wanted = fingerprint(reading.read(folder, say=silent).params)
  for file in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
    (folder / file).unlink()
  (folder / name).write_bytes(b'{"model": {"type": "Odd"}}')
  said: list[str] = []
  read = reading.read(folder, say=said.append)
  assert read.tokenizer is None
  assert fingerprint(read.params) == wanted
  assert "the tokenizer cannot be read, so what is made of" in said[0]
  imported.save(read, tmp_path / "ours")
  model = bert_jax.load(tmp_path / "ours")
  with pytest.raises(ValueError, match="came without a tokenizer that can be read"):
    model.embed("a")
  model.export(tmp_path / "back")  # where others may read it
  assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parity
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_sentence_transformers_embeds_as_a_model_was_made_to(pooling: Any, normalize: bool, tmp_path: Path) -> None:
  """One that came without its files, or came with others, as a fine-tuned one does."""
  sentence_transformers = pytest.importorskip("sentence_transformers", reason="the peer")
  made = small.make("bert", "encoder", small.tokenizer_of())
  model = dataclasses.replace(made, embedding=EmbeddingSettings(pooling, normalize, 17))
  model.export(tmp_path / "one")
  assert bert_jax.load(tmp_path / "one").embedding == model.embedding
  other = dataclasses.replace(bert_jax.load(tmp_path / "one"), embedding=EmbeddingSettings("mean", True, 9))
  other.export(tmp_path / "other")
  assert bert_jax.load(tmp_path / "other").embedding == other.embedding
  texts = ["Paris is the capital of France.", "snow"]
  for ours, folder in ((model, "one"), (other, "other")):
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / folder), device="cpu")
    wanted = ours.embed(texts, long="cut")
    np.testing.assert_allclose(peer.encode(texts), wanted, rtol=1e-4, atol=1e-5)
