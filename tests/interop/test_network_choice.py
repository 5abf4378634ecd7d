"""What a folder is read as: what its config.json names, whatever else its file holds."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from bert_jax.inference.model import Model
from bert_jax.interop import reading, writing
from bert_jax.interop.array_names import entries
from bert_jax.interop.arrays import to_theirs
from bert_jax.interop.families import FAMILIES
from bert_jax.interop.params import fingerprint, flat
from tests.interop import small

MANY = [pytest.mark.slow, pytest.mark.exhaustive]
PAIRS = [
  pytest.param(name, network, marks=[] if name == "bert" else MANY)
  for name in small.CONFIGS
  for network, head in FAMILIES[name].heads.items()
  if head.suffix is not None  # Hugging Face has a class for it, which a config.json names
]


def write(folder: Path, model: Model, more: dict[str, np.ndarray] | None = None, **values: Any) -> Path:
  """A folder of a model, with `more` arrays in its file and `values` in its config.json (None: taken out)."""
  writing.write_files(model, epath.Path(folder))
  arrays = safetensors.numpy.load_file(folder / "model.safetensors")
  safetensors.numpy.save_file(arrays | (more or {}), folder / "model.safetensors", metadata={"format": "pt"})
  if values:
    small.edit_config(folder, **values)
  return folder


def pooler(name: str) -> dict[str, np.ndarray]:
  """As files have it that were saved when every class had one."""
  stem = f"{FAMILIES[name].prefix}.pooler" + ("" if name == "albert" else ".dense")
  return {f"{stem}.weight": np.ones((24, 24), np.float32), f"{stem}.bias": np.ones(24, np.float32)}


def equal(one: Model, other: Model) -> bool:
  return one.network == other.network and fingerprint(one.params) == fingerprint(other.params)


@pytest.mark.parametrize(("name", "network"), PAIRS)
def test_a_class_is_read_as_itself_whatever_heads_are_beside_it(name: str, network: str, tmp_path: Path) -> None:
  model = small.make(name, network)
  found, heads = entries(model.config, network), FAMILIES[name].heads
  own = {entry.key for entry in found} | set(heads[network].tied)
  encoders = ("encoder", "pooled_encoder")  # which have other names
  more = pooler(name) if network not in encoders else {}
  for other in heads:
    # Pretraining's is read with all that it can use.
    if (network, other) != ("masked_lm", "pretraining") and other not in encoders:
      more |= {
        entry.key: np.ones(3, np.float32) for entry in entries(model.config, other) if entry.path[0] != "encoder"
      }
  more = {key: array for key, array in more.items() if key not in own}
  # An encoder takes its pooler; masked tokens' head with the pairs' is all of pretraining's.
  leave = {**dict.fromkeys(encoders, "pooler"), "masked_lm": "seq_relationship"}.get(network, "-")
  more = {key: array for key, array in more.items() if leave not in key}
  said: list[str] = []
  read = reading.read(write(tmp_path / "hf", model, more), say=said.append)
  assert equal(read, model)
  assert read.num_classes == model.num_classes
  for key in sorted(more)[:20]:
    assert key in "".join(said)


@pytest.mark.parametrize("name", ["bert", "albert"])
def test_a_tagger_with_a_pooler_in_its_file_stays_one(name: str, tmp_path: Path) -> None:
  """As dslim/bert-base-NER and dbmdz/bert-large-cased-finetuned-conll03-english were published."""
  model = small.make(name, "token_classification")
  said: list[str] = []
  read = reading.read(write(tmp_path / "hf", model, pooler(name)), say=said.append)
  assert equal(read, model)
  assert "that token_classification does not use are left out" in said[0]
  assert "pooler" in said[0]
  # Nor is its last layer taken for another task's.
  other = reading.read(tmp_path / "hf", "sequence_classification", said.append)
  assert "its last layer is none of sequence_classification" in "".join(said)
  assert not np.array_equal(other.params["classifier"]["kernel"], model.params["classifier"]["kernel"])
  np.testing.assert_array_equal(other.params["pooler"]["dense"]["kernel"], np.ones((24, 24)))


@pytest.mark.parametrize(
  ("name", "network", "stated", "found"),
  [
    ("roberta", "masked_lm", None, "masked_lm"),
    ("roberta", "masked_lm", [], "masked_lm"),
    ("bert", "masked_lm", ["TFBertModel"], "encoder"),
    ("bert", "pretraining", ["BertEmbedder"], "pretraining"),
    ("bert", "encoder", ["FlaxBertModel"], "encoder"),
    ("bert", "token_classification", ["FlaxBertForTokenClassification"], "token_classification"),
    ("bert", "token_classification", ["TFBertForTokenClassification"], "token_classification"),
    ("bert", "sequence_classification", ["BertTagger"], "pooled_encoder"),
    ("bert", "pooled_encoder", ["FlaxBertModel"], "pooled_encoder"),
    ("albert", "token_classification", None, "encoder"),
    ("electra", "replaced_tokens", None, "replaced_tokens"),
    ("electra", "masked_lm", None, "masked_lm"),
    ("xlnet", "permutation_lm", None, "permutation_lm"),
    ("deberta", "enhanced_masked_lm", None, "enhanced_masked_lm"),
    ("modernbert", "masked_lm", None, "masked_lm"),
    ("distilbert", "question_answering", [], "encoder"),
  ],
)
def test_odd_architectures(name: str, network: str, stated: Any, found: str, tmp_path: Path) -> None:
  model = small.make(name, network)
  named = dataclasses.replace(model, network="encoder") if network == "enhanced_masked_lm" else model
  folder = write(tmp_path / "hf", model if named is model else _headless(model))
  if named is not model:
    _put(folder, model)
  content = json.loads((folder / "config.json").read_text()) | {"architectures": stated}
  (folder / "config.json").write_text(json.dumps(content))
  said: list[str] = []
  read = reading.read(folder, say=said.append)
  assert read.network == found
  words = _WORDS[name]
  np.testing.assert_array_equal(flat(read.params)[words], flat(model.params)[words])
  known = stated and "Embedder" not in stated[0] and "Tagger" not in stated[0]
  assert (f"read as {found}" in said[0]) == (not known)
  if found in ("encoder", "pooled_encoder") and network != found:
    assert "does not use are left out" in "".join(said)


_WORDS: dict[str, str] = dict.fromkeys(
  ("bert", "roberta", "distilbert", "albert", "electra"), "encoder/embeddings/words"
)
_WORDS.update(dict.fromkeys(("xlnet", "deberta", "deberta-v2", "modernbert"), "encoder/words"))


def _headless(model: Model) -> Model:
  encoder = {key: value for key, value in model.params["encoder"].items() if key != "positions"}
  return dataclasses.replace(model, network="encoder", params={"encoder": encoder})


def _put(folder: Path, model: Model) -> None:
  arrays = to_theirs(model.params, entries(model.config, model.network))
  safetensors.numpy.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})


def test_no_task_is_made_of_another(tmp_path: Path) -> None:
  folder = write(tmp_path / "hf", small.make("bert", "masked_lm"), architectures=["BertForTokenClassification"])
  with pytest.raises(ValueError, match=r"2 missing:\n  classifier\.bias"):
    reading.read(folder, say=lambda _: None)
  folder = write(tmp_path / "qa", small.make("bert", "question_answering"), architectures=["BertForMaskedLM"])
  with pytest.raises(ValueError, match="5 missing"):
    reading.read(folder, say=lambda _: None)
  # Less than is named: the encoder by itself, and a pretraining network without its sentence pairs.
  for network in ("encoder", "pooled_encoder", "masked_lm"):
    model = small.make("bert", network)
    said: list[str] = []
    folder = write(tmp_path / network, model, architectures=["BertForPreTraining"])
    assert equal(reading.read(folder, say=said.append), model)
    assert f"has just the weights of {network}" in said[0]


def test_without_a_model_type_nothing_is_guessed(tmp_path: Path) -> None:
  folder = write(tmp_path / "hf", small.make("bert"), model_type=None)
  with pytest.raises(ValueError, match=r'has no model_type, .*put it in, as in "model_type": "bert"'):
    reading.read(folder, say=lambda _: None)


@pytest.mark.parametrize(("kind", "stem"), [("xlm-roberta", "XLMRoberta"), ("camembert", "Camembert")])
@pytest.mark.parametrize("network", ["masked_lm", "token_classification"])
def test_other_names_of_roberta_stay(kind: str, stem: str, network: str, tmp_path: Path) -> None:
  model = small.make("roberta", network)
  suffix = {"masked_lm": "ForMaskedLM", "token_classification": "ForTokenClassification"}[network]
  folder = write(tmp_path / "hf", model, model_type=kind, architectures=[stem + suffix])
  said: list[str] = []
  read = reading.read(folder, say=said.append)
  assert equal(read, model)
  assert "named" not in "".join(said)
  # And when it has grown, so that its settings are written again.
  grown = dataclasses.replace(read, config=dataclasses.replace(read.config, hidden_dropout=0.25))
  for number, back in enumerate((read, grown)):
    receipt = writing.write(back, tmp_path / str(number), lambda _: None)
    written = json.loads((tmp_path / str(number) / "config.json").read_text())
    assert written["model_type"] == kind
    assert [receipt["class"]] == written["architectures"] == [stem + suffix]


@pytest.mark.parametrize(
  "values",
  [
    {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 160_000.0}}},
    {"rope_parameters": {"sliding_attention": {"rope_type": "yarn", "factor": 4.0}}},
    {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
  ],
)
def test_rotary_angles_of_another_kind_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
  folder = write(tmp_path / "hf", small.make("modernbert"), **values)
  with pytest.raises(ValueError, match=r"rope_type='.*'; bert_jax computes rope_type='default' only"):
    reading.read(folder, say=lambda _: None)


@pytest.mark.parametrize(("name", "network"), PAIRS)
def test_every_head_of_an_architecture_can_be_made_and_exported(name: str, network: str, tmp_path: Path) -> None:
  folder = write(tmp_path / "hf", small.make(name, "encoder"))
  read = reading.read(folder, network, lambda _: None)
  assert writing.write(read, tmp_path / "back", lambda _: None)["max_difference"] == 0
  assert reading.read(tmp_path / "back", say=lambda _: None).network == network


@pytest.mark.parametrize(
  ("name", "head"),
  [
    ("distilbert", "pretraining"),
    ("xlnet", "pretraining"),
    ("xlnet", "masked_lm"),
    ("roberta", "pretraining"),
    ("deberta", "multiple_choice"),
    ("modernbert", "sentence_pairs"),
    ("albert", "sentence_pairs"),
    ("bert", "spans"),
    ("bert", "nonsense"),
  ],
)
def test_a_head_that_an_architecture_has_not_is_refused_by_name(name: str, head: str, tmp_path: Path) -> None:
  folder = write(tmp_path / "hf", small.make(name, "encoder"))
  with pytest.raises(ValueError, match=f"head='{head}' is none of this architecture's: encoder, "):
    reading.read(folder, head, lambda _: None)
