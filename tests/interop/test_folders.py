"""Hugging Face folders, written and read without transformers: nothing is lost, and nothing passes that should not."""

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.serialization
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import bert_jax
from bert_jax.inference.embedding import EmbeddingSettings
from bert_jax.inference.model import Model
from bert_jax.interop import imported, reading, weights, writing
from bert_jax.interop.array_names import entries
from bert_jax.interop.arrays import to_theirs
from bert_jax.interop.params import fingerprint, flat, nested
from tests.interop import small


def silent(_: str) -> None:
  pass


@pytest.fixture
def model() -> Model:
  return small.make("bert", tokenizer=small.tokenizer_of())


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
  writing.write(model, tmp_path / "hf", silent)
  return tmp_path / "hf"


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
  return safetensors.numpy.load_file(folder / "model.safetensors")


def put(folder: Path, arrays: dict[str, np.ndarray]) -> None:
  safetensors.numpy.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})


def same(one: Model, other: Model) -> bool:
  alike = (one.config, one.network, one.num_classes) == (other.config, other.network, other.num_classes)
  return alike and fingerprint(one.params) == fingerprint(other.params)


# ---- there and back ----


@pytest.mark.parametrize(
  ("name", "network"),
  [
    *((name, None) for name in small.CONFIGS),
    ("bert", "encoder"),
    ("bert", "pooled_encoder"),
    ("albert", "pooled_encoder"),
    ("roberta", "sequence_classification"),
    ("deberta-v2", "token_classification"),
    ("xlnet", "spans"),
    ("modernbert", "question_answering"),
  ],
)
def test_out_and_in_again_is_the_identity(name: str, network: str | None, tmp_path: Path) -> None:
  model = small.make(name, network)
  receipt = writing.write(model, tmp_path / "hf", silent)
  assert receipt["max_difference"] == 0
  read = reading.read(tmp_path / "hf", say=silent)
  assert same(read, model)
  imported.save(read, tmp_path / "ours")
  again = imported.load(tmp_path / "ours")
  assert same(again, model)
  writing.write(again, tmp_path / "back", silent)
  for file in ("model.safetensors", "config.json"):
    assert (tmp_path / "back" / file).read_bytes() == (tmp_path / "hf" / file).read_bytes()
  assert same(bert_jax.load(tmp_path / "ours"), model)
  assert same(bert_jax.load(tmp_path / "back"), model)


@pytest.mark.parametrize("name", small.OWN_CONFIGS)
def test_without_a_class_of_theirs_a_model_keeps_to_our_format(name: str, tmp_path: Path) -> None:
  model = small.make(name, tokenizer=small.tokenizer_of())
  model.save(tmp_path / "ours")
  again = bert_jax.load(tmp_path / "ours")
  assert same(again, model)
  assert again.tokenizer is not None
  assert again.tokenizer.hash == small.tokenizer_of().hash
  assert len(again.fill_mask("the cat [MASK] white", top_k=3)) == 3
  for one in (model, again, small.make(name, "sequence_classification")):
    with pytest.raises(ValueError, match=f"^model={name} cannot be a Hugging Face folder: .*; keep bert_jax's own"):
      one.export(tmp_path / "hf")
  assert not (tmp_path / "hf").exists()


def test_what_config_json_says_beside_stays(folder: Path, tmp_path: Path) -> None:
  small.edit_config(folder, my_own_key=[1, 2], gradient_checkpointing=False, hidden_act="gelu_python")
  read = reading.read(folder, say=silent)
  assert read.config.activation == "gelu"
  writing.write(read, tmp_path / "back", silent)
  assert json.loads((tmp_path / "back" / "config.json").read_text()) == json.loads((folder / "config.json").read_text())


def test_the_receipt_has_the_hash_of_each_file_and_the_difference(folder: Path, model: Model) -> None:
  receipt = json.loads((folder / "receipt.json").read_text())
  files = {path.name for path in folder.iterdir()} - {"receipt.json"}
  assert set(receipt["sha256"]) == files
  for name, digest in receipt["sha256"].items():
    assert imported.sha256((folder / name).read_bytes()) == digest
  other = dataclasses.replace(model, params=nested({k: 2 * v for k, v in flat(model.params).items()}))
  assert writing.max_difference(model, other) > 1e-3


def test_a_tokenizer_comes_along_byte_for_byte(folder: Path, model: Model, tmp_path: Path) -> None:
  read = reading.read(folder, say=silent)
  assert read.tokenizer is not None
  assert model.tokenizer is not None
  assert read.tokenizer.hash == model.tokenizer.hash
  imported.save(read, tmp_path / "ours")
  writing.write(imported.load(tmp_path / "ours"), tmp_path / "back", silent)
  for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
    assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()


def test_roberta_finds_its_positions_behind_any_padding_id(tmp_path: Path) -> None:
  """Hugging Face's counts them from the padding's id, which is 1 in its vocabulary and 0 in this one."""
  model = small.make("roberta", tokenizer=small.tokenizer_of())
  assert writing.write(model, tmp_path / "hf", silent)["max_difference"] == 0
  read = reading.read(tmp_path / "hf", say=silent)
  assert read.config == dataclasses.replace(model.config, position_offset=1)
  old, new = (flat(m.params)["encoder/embeddings/positions"] for m in (model, read))
  np.testing.assert_array_equal(new[1:], old[2:])


def test_nothing_is_written_over(folder: Path, model: Model) -> None:
  with pytest.raises(ValueError, match="is there already; choose a new folder"):
    writing.write(model, folder, silent)


# ---- every weight is accounted for ----


def test_a_missing_and_an_unexpected_weight_are_named(folder: Path) -> None:
  arrays = arrays_of(folder)
  gone = "bert.encoder.layer.1.attention.self.key.bias"
  kept = arrays.pop(gone)
  put(folder, arrays)
  with pytest.raises(ValueError, match=rf"1 missing:\n  {gone}"):
    reading.read(folder, say=silent)
  put(folder, arrays | {gone: kept, "bert.encoder.layer.7.output.dense.bias": kept})
  with pytest.raises(ValueError, match=r"1 unexpected:\n  bert\.encoder\.layer\.7\.output\.dense\.bias"):
    reading.read(folder, say=silent)


def test_a_shape_that_disagrees_is_named_with_both(folder: Path) -> None:
  small.edit_config(folder, intermediate_size=36)
  with pytest.raises(ValueError, match=r"intermediate\.dense\.bias has shape \[37\], and config.json asks for \[36\]"):
    reading.read(folder, say=silent)


def test_another_head_is_said_in_words(folder: Path) -> None:
  said: list[str] = []
  read = reading.read(folder, "token_classification", said.append)
  assert read.network == "token_classification"
  assert "that token_classification does not use are left out" in said[1]
  assert "cls.seq_relationship.bias" in said[1]
  assert "lacks the weights of this head; they are new" in said[0]
  assert "classifier.weight" in said[0]
  arrays = arrays_of(folder)
  put(folder, arrays | {"bert.encoder.layer.7.output.dense.bias": arrays["bert.embeddings.LayerNorm.bias"]})
  with pytest.raises(ValueError, match="1 unexpected"):
    reading.read(folder, "token_classification", silent)
  put(folder, {name: array for name, array in arrays.items() if name != "cls.predictions.bias"})
  with pytest.raises(ValueError, match="1 missing"):  # a head is whole, or new
    reading.read(folder, "masked_lm", silent)
  del arrays["bert.embeddings.word_embeddings.weight"]
  put(folder, arrays)
  with pytest.raises(ValueError, match="1 missing"):  # an encoder's weight is no head's
    reading.read(folder, "token_classification", silent)


def test_deberta_with_the_decoder_of_its_authors(tmp_path: Path) -> None:
  """As the published DeBERTa V3: no `architectures`, heads that transformers has no class for, a table of positions."""
  model = small.make("deberta-v2", "enhanced_masked_lm")
  arrays = to_theirs(model.params, entries(model.config, model.network))
  (tmp_path / "hf").mkdir()
  put(tmp_path / "hf", arrays | {"mask_predictions.dense.weight": np.zeros((24, 24), np.float32)})
  content = writing.config_of(dataclasses.replace(model, network="encoder")) | {"architectures": None}
  (tmp_path / "hf" / "config.json").write_text(json.dumps(content))
  said: list[str] = []
  # With a second head, which of the two the encoder was trained for is not known.
  assert reading.read(tmp_path / "hf", say=said.append).network == "encoder"
  assert "bert_jax knows no network; read as encoder (--head=encoder|" in said[0]
  assert "lm_predictions.lm_head.bias" in said[1]
  said.clear()
  assert same(reading.read(tmp_path / "hf", "enhanced_masked_lm", said.append), model)
  assert "mask_predictions.dense.weight" in said[0]
  encoder = reading.read(tmp_path / "hf", "encoder", said.append)
  assert "embeddings.position_embeddings.weight" in said[-2]
  assert "positions" not in encoder.params["encoder"]


def test_a_file_that_holds_another_head_than_config_json_names(folder: Path) -> None:
  """As bert-base-uncased: BertForMaskedLM by its config.json, with the weights of BertForPreTraining."""
  small.edit_config(folder, architectures=["BertForMaskedLM"])
  said: list[str] = []
  assert reading.read(folder, say=said.append).network == "pretraining"
  assert "names masked_lm, and the file has the sentence pairs' head too: read as pretraining" in said[0]


# ---- old names, copies, other files ----


def renamed(change: Callable[[str], str]) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
  return lambda arrays: {change(name): array for name, array in arrays.items()}


@pytest.mark.parametrize(
  "change",
  [
    renamed(
      lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    ),
    lambda a: a | {"cls.predictions.decoder.weight": a["bert.embeddings.word_embeddings.weight"]},
    lambda a: a | {"cls.predictions.decoder.bias": a["cls.predictions.bias"]},
    renamed(lambda name: name.replace("cls.predictions.bias", "cls.predictions.decoder.bias")),
    lambda a: a | {"bert.embeddings.position_ids": np.arange(40)[None]},
  ],
  ids=["gamma and beta", "decoder", "two biases", "the other bias", "position_ids"],
)
def test_what_older_files_hold_is_understood(change: Any, folder: Path, model: Model) -> None:
  put(folder, change(arrays_of(folder)))
  assert same(reading.read(folder, say=silent), model)


def test_two_copies_that_differ_are_refused(folder: Path) -> None:
  arrays = arrays_of(folder)
  put(folder, arrays | {"cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"] + 1})
  with pytest.raises(
    ValueError, match=r"holds cls\.predictions\.decoder\.weight and bert\.emb.* with different values"
  ):
    reading.read(folder, say=silent)


def test_an_encoder_is_found_in_a_model_with_a_head_and_the_other_way_round(folder: Path, model: Model) -> None:
  encoder = reading.read(folder, "encoder", silent)
  assert fingerprint(encoder.params["encoder"]) == fingerprint(model.params["encoder"])
  put(folder, renamed(lambda name: name.removeprefix("bert."))(arrays_of(folder)))
  assert same(reading.read(folder, say=silent), model)


def test_shards_are_one_model(folder: Path, model: Model) -> None:
  arrays = sorted(arrays_of(folder).items())
  (folder / "model.safetensors").unlink()
  places = {}
  for number in range(3):
    file = f"model-{number + 1:05}-of-00003.safetensors"
    some = dict(arrays[number::3])
    safetensors.numpy.save_file(some, folder / file)
    places |= dict.fromkeys(some, file)
  (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
  assert same(reading.read(folder, say=silent), model)
  (folder / "model-00002-of-00003.safetensors").unlink()
  with pytest.raises(ValueError, match=r"model-00002-of-00003\.safetensors is missing"):
    reading.read(folder, say=silent)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_read_as_what_it_is(dtype: Any, folder: Path) -> None:
  arrays = {name: array.astype(dtype) for name, array in arrays_of(folder).items()}
  put(folder, arrays)
  read = reading.read(folder, say=silent)
  found = to_theirs(read.params, entries(read.config, read.network))
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array.astype(np.float32))


def to_flax(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
  """As transformers 4's Flax classes name and lay them out."""
  tree: dict[str, Any] = {}
  for name, array in arrays.items():
    *places, last = name.split(".")
    if last == "weight":
      last = "embedding" if "embeddings" in places[-1] else "scale" if "norm" in places[-1].lower() else "kernel"
      array = array.T if last == "kernel" else array
    node = tree
    for place in places:
      node = node.setdefault(place, {})
    node[last] = np.ascontiguousarray(array)
  return tree


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "distilbert", "electra"])
def test_a_flax_msgpack_is_read(name: str, tmp_path: Path) -> None:
  model = small.make(name)
  writing.write(model, tmp_path / "hf", silent)
  tree = to_flax(arrays_of(tmp_path / "hf"))
  (tmp_path / "hf" / "model.safetensors").unlink()
  content = flax.serialization.msgpack_serialize(tree)
  (tmp_path / "hf" / "flax_model.msgpack").write_bytes(content)
  assert same(reading.read(tmp_path / "hf", say=silent), model)
  (tmp_path / "hf" / "flax_model.msgpack").write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match="is damaged or was cut short"):
    reading.read(tmp_path / "hf", say=silent)


def test_variables_of_google_research_bert_have_their_pytorch_names() -> None:
  """Names and layouts of modeling.py; the reader of the files themselves is TensorFlow's."""
  kernel = np.arange(6).reshape(2, 3)
  name, array = weights._from_tf1("bert/encoder/layer_11/attention/self/query/kernel", kernel)
  assert name == "bert.encoder.layer.11.attention.self.query.weight"
  np.testing.assert_array_equal(array, kernel.T)
  for ours, theirs in (
    ("bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight"),
    ("bert/embeddings/LayerNorm/gamma", "bert.embeddings.LayerNorm.gamma"),
    ("cls/predictions/output_bias", "cls.predictions.bias"),
    ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
    ("cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
  ):
    name, array = weights._from_tf1(ours, kernel)
    assert name == theirs
    np.testing.assert_array_equal(array, kernel)


# ---- sentence-transformers ----


def test_how_a_model_embeds_is_read_and_kept(folder: Path, tmp_path: Path) -> None:
  modules = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
  ]
  (folder / "modules.json").write_text(json.dumps(modules))
  (folder / "1_Pooling").mkdir()
  (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
  (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
  read = reading.read(folder, say=silent)
  assert read.embedding == EmbeddingSettings("max", True, 24)
  imported.save(read, tmp_path / "ours")
  assert imported.load(tmp_path / "ours").embedding == read.embedding
  writing.write(imported.load(tmp_path / "ours"), tmp_path / "back", silent)
  assert reading.read(tmp_path / "back", say=silent).embedding == read.embedding
  modules[2]["type"] = "sentence_transformers.models.Dense"
  (folder / "modules.json").write_text(json.dumps(modules))
  with pytest.raises(ValueError, match="asks for a module Dense"):
    reading.read(folder, say=silent)


# ---- what is refused ----


def test_what_is_no_model_is_said(folder: Path, tmp_path: Path) -> None:
  def refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
      reading.read(folder, say=silent)

  with pytest.raises(ValueError, match="nowhere is no folder"):
    reading.read(tmp_path / "nowhere")
  config = (folder / "config.json").read_text()
  small.edit_config(folder, model_type="gpt2")
  refused(r"model_type='gpt2'; bert_jax knows bert, roberta, distilbert, albert, .*modernbert")
  small.edit_config(folder, model_type="bert", auto_map={"AutoModel": "modeling.Mine"})
  refused(r"asks for code of its own to be run .*AutoModel")
  small.edit_config(folder, auto_map=None, position_embedding_type="relative_key")
  refused("position_embedding_type='relative_key'; bert_jax computes position_embedding_type='absolute' only")
  small.edit_config(folder, position_embedding_type=None, hidden_act="swish")
  refused("hidden_act='swish'; bert_jax knows gelu")
  (folder / "config.json").write_text(config[:50])
  refused("config.json is damaged")
  (folder / "config.json").unlink()
  refused("has no config.json")
  (folder / "config.json").write_text(config)
  (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
  refused("model.safetensors is damaged or was cut short")
  (folder / "model.safetensors").unlink()
  refused("holds no weights: no model.safetensors")
  (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
  refused(r"as a pickle \(pytorch_model\.bin\).*\n.*weights_only=True.*model\.safetensors")


def test_a_head_whose_activation_is_fixed_there_is_not_taken_with_another(tmp_path: Path) -> None:
  writing.write(small.make("roberta"), tmp_path / "hf", silent)
  small.edit_config(tmp_path / "hf", hidden_act="relu")
  with pytest.raises(ValueError, match="hidden_act='relu'; bert_jax computes hidden_act='gelu' only"):
    reading.read(tmp_path / "hf", say=silent)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(folder: Path) -> None:
  vocab = (folder / "vocab.txt").read_text()
  (folder / "tokenizer.json").unlink()
  (folder / "vocab.txt").write_text(vocab + "onemore\n")
  with pytest.raises(ValueError, match=r"has 85 tokens, and the model's vocab_size is 84"):
    reading.read(folder, say=silent)


def test_an_imported_folder_is_checked(model: Model, tmp_path: Path) -> None:
  imported.save(model, tmp_path / "ours")
  file = tmp_path / "ours" / "params.safetensors"
  content = bytearray(file.read_bytes())
  content[-5] ^= 1
  file.write_bytes(bytes(content))
  with pytest.raises(ValueError, match="is damaged: its bits are not those that were written"):
    imported.load(tmp_path / "ours")
  with pytest.raises(ValueError, match="is no run and has no steps"):
    bert_jax.load(tmp_path / "ours", step=3)
  (tmp_path / "ours" / "model.json").write_text('{"format": 9}')
  with pytest.raises(ValueError, match="is of format 9"):
    imported.load(tmp_path / "ours")
