"""Writes a model as a Hugging Face folder, with a receipt of what was written and how near it is to the model."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from bert_jax import provenance
from bert_jax.data import checksums
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.interop import (
  array_names,
  cards,
  configs,
  folders,
  reading,
  sentence_folders,
  stored,
  tokenizer_files,
  weights,
)
from bert_jax.interop.arrays import one_of_theirs
from bert_jax.interop.families import family_of
from bert_jax.interop.params import flat, nested
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs

RECEIPT = "receipt.json"
_PROBLEMS = {
  "single_label": "single_label_classification",
  "multi_label": "multi_label_classification",
  "regression": "regression",
}
_ROWS, _LENGTH = 3, 24  # of the fixed batch


def write(model: Model, folder: epath.PathLike, say: Callable[[str], None] = logging.info) -> dict[str, Any]:
  """Writes config.json, model.safetensors, the tokenizer's files, README.md and receipt.json, and reads them back.

  Args:
    folder: new or empty.
    say: is told in words what the user should know.

  Returns:
    The receipt: sha256 of every file, and `max_difference`, the largest difference of any output over a fixed batch
    between the model and the folder, read back.

  Raises:
    ValueError: the folder is not empty, or Hugging Face has no class for the network.
  """
  with folders.atomic(folder) as scratch:
    write_files(model, scratch)
    receipt = {
      "written_by": provenance.versions(),
      "network": model.network,
      "class": _class_of(model),
      "parameters": sum(x.size for x in jax.tree.leaves(model.params)),
      "max_difference": _difference(model, scratch),
      "batch": f"{_ROWS} sequences of up to {_LENGTH} random tokens, drawn with seed 0; float32",
      "sha256": {name: checksums.hash_file(scratch / name) for name in folders.files_in(scratch)},
    }
    (scratch / RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n")
  say(f"read back, the outputs of {folder} differ by {receipt['max_difference']:g} at most")
  return receipt


def write_files(model: Model, folder: epath.Path) -> None:
  """Writes all but the receipt.

  Raises:
    ValueError: Hugging Face has no class for the network.
  """
  model = _fitted(model)
  values = config_of(model)
  folder.mkdir(parents=True, exist_ok=True)
  arrays = [
    (entry.key, functools.partial(one_of_theirs, model.params, entry))
    for entry in array_names.entries(model.config, model.network)
  ]
  stored.write_safetensors(folder / weights.WEIGHTS, arrays)
  folders.write_files(folder, tokenizer_files.files_of(model))
  if model.embedding.pooling is not None and sentence_folders.embedding_of(folder, folder) != model.embedding:
    # It embeds otherwise than the files say that it came with, or came without any.
    folders.write_files(folder, sentence_folders.written(model.embedding, model.config.hidden_size))
  (folder / cards.CARD).write_text(cards.write(model, _class_of(model)))
  (folder / reading.CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def config_of(model: Model) -> dict[str, Any]:
  """The config.json: the one that the model came with, if any, and what we know of the model."""
  values = dict(model.source)
  ours = configs.to_huggingface(model.config)
  # What the source says in its own way stays where it means the same.
  if not values or configs.from_huggingface(values) != model.config:
    values |= ours | {"model_type": values.get("model_type", ours["model_type"])}
  values["architectures"] = [_class_of(model)]
  if model.network in networks.CLASSIFIERS:
    names = model.class_names or [f"LABEL_{i}" for i in range(model.num_classes)]
    values["id2label"] = {str(i): name for i, name in enumerate(names)}
    values["label2id"] = {name: i for i, name in enumerate(names)}
  if model.network == "sequence_classification":
    values["problem_type"] = _PROBLEMS[model.problem]
  # What is written is float32, whatever it came as. transformers 4 and 5 have a name each.
  stated = [key for key in ("torch_dtype", "dtype") if key in values] if model.source else ["torch_dtype"]
  values |= dict.fromkeys(stated, "float32")
  if not model.source and model.tokenizer is not None:
    values |= _special_ids(model.tokenizer)
  return values


def _class_of(model: Model) -> str:
  if model.network == "sequence_classification" and model.classifier_pooling != "cls":
    raise ValueError(
      f"this classifier reads the {model.classifier_pooling} of a text, and Hugging Face's class for"
      f" {model.config.kind} the pooler's vector; fine-tune with --pooling=cls, or keep bert_jax's own format"
    )
  return configs.class_of(model.config, model.network, model.source.get("model_type"))


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
  return {
    "pad_token_id": tokenizer.pad_id,
    "bos_token_id": tokenizer.cls_id,
    "cls_token_id": tokenizer.cls_id,
    "eos_token_id": tokenizer.sep_id,
    "sep_token_id": tokenizer.sep_id,
  }


def _fitted(model: Model) -> Model:
  """A model of our own with the settings and arrays with which Hugging Face's class computes the same.

  A model that came from Hugging Face has these already.
  """
  if model.tokenizer is None or model.source:
    return model
  arrays = flat(model.params)
  config, arrays = family_of(model.config).fit(model.config, arrays, model.tokenizer.pad_id)
  return model if config == model.config else dataclasses.replace(model, config=config, params=nested(arrays))


def _difference(model: Model, folder: epath.Path) -> float:
  """The largest difference of any output between the model and a folder that was just written.

  Where settings and arrays are equal it is 0 and no network runs, so that a large model is not in memory twice.

  Raises:
    ValueError: the folder does not read back as it was written.
  """
  wanted, found = _fitted(model), reading.open_unread(folder, say=lambda _: None)
  # How weights are initialized is the one setting that config.json does not have.
  config = dataclasses.replace(found.config, initializer=wanted.config.initializer)
  alike = (wanted.config, wanted.network, wanted.num_classes) == (config, found.network, found.num_classes)
  assert alike, (wanted, found)
  for entry in found.entries:
    if not np.array_equal(found.arrays[entry.key].read(), one_of_theirs(wanted.params, entry)):
      raise ValueError(f"{folder}: {entry.key} does not read back as it was written; is the disk sound? Try another")
  return 0.0 if wanted is model else max_difference(model, wanted)


def max_difference(one: Model, other: Model) -> float:
  """The largest absolute difference of any output over a fixed batch; both are of one network."""
  inputs = _inputs(one)
  more: dict[str, Any] = {"starts": np.zeros((_ROWS, 1), np.int32)} if one.network == "spans" else {}

  def run(model: Model) -> Any:
    network = networks.build(model.network, model.config, model.num_classes, model.classifier_pooling, scan_layers=True)
    return jax.jit(lambda params: _arrays(network.apply({"params": params}, inputs, **more)))(model.params)

  pairs = zip(jax.tree.leaves(run(one)), jax.tree.leaves(run(other)), strict=True)
  return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def _arrays(outputs: Any) -> Any:
  return {name: x.logits() if name == "mlm_scores" else x for name, x in outputs.items()}


def _inputs(model: Model) -> Inputs:
  draw = np.random.default_rng(0)
  config = model.config
  length = config.length_within(_LENGTH)
  assert config.vocab_size is not None
  token_ids = draw.integers(0, config.vocab_size, (_ROWS, length), dtype=np.int32)
  attention_mask = np.arange(length)[None] < np.array([length, max(1, length // 2), max(1, length - 3)])[:, None]
  segment_ids = (np.arange(length)[None] % max(1, config.num_segments) * np.ones((_ROWS, 1))).astype(np.int32)
  inputs: Any = Inputs(token_ids, segment_ids, attention_mask)  # pyright: ignore[reportArgumentType]
  return jax.tree.map(lambda x: x[None], inputs) if model.network == "multiple_choice" else inputs
