"""A `Pretrained` model as a Hugging Face folder, with a receipt of what was written and how near it is."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from bert_jax import provenance
from bert_jax.architectures import XlnetConfig
from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.interop import configs, keys, pretrained, reading, tokenizer_files, weights
from bert_jax.interop.pretrained import Pretrained
from bert_jax.models import networks

RECEIPT = "receipt.json"
_ROWS, _LENGTH = 3, 24  # of the fixed batch


def write(model: Pretrained, folder: epath.PathLike, say: Callable[[str], None] = logging.info) -> dict[str, Any]:
  """Writes config.json, model.safetensors, the tokenizer's files and receipt.json, and reads them back.

  Args:
    folder: new or empty.
    say: is told in words what the user should know.

  Returns:
    The receipt: sha256 of every file, and `max_difference`, the largest of any output between the model and what the
    folder reads back as, over a fixed batch.

  Raises:
    ValueError: the folder holds something; Hugging Face has no class for the network.
  """
  folder = pretrained.new_folder(folder)
  write_files(model, folder)
  receipt = {
    "written_by": provenance.versions(),
    "network": model.network,
    "class": configs.class_of(model.config, model.network),
    "parameters": sum(x.size for x in jax.tree.leaves(model.params)),
    "max_difference": max_difference(model, reading.read(folder, say=lambda _: None)),
    "batch": f"{_ROWS} sequences of up to {_LENGTH} random tokens, drawn with seed 0; float32",
    "sha256": {name: pretrained.sha256((folder / name).read_bytes()) for name in pretrained.files_of(folder)},
  }
  (folder / RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n")
  say(f"read back, the outputs of {folder} differ by {receipt['max_difference']:g} at most")
  return receipt


def write_files(model: Pretrained, folder: epath.Path) -> None:
  """All but the receipt.

  Raises:
    ValueError: Hugging Face has no class for the network.
  """
  values = config_of(model)
  folder.mkdir(parents=True, exist_ok=True)
  found = keys.entries(model.config, model.network)
  weights.write_safetensors(folder / weights.WEIGHTS, keys.to_theirs(model.params, found))
  if model.files:
    for name, content in model.files.items():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      (folder / name).write_bytes(content)
  elif model.tokenizer is not None:
    tokenizer_files.write(model.tokenizer, folder, pretrained.longest(model.config))
  (folder / reading.CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def config_of(model: Pretrained) -> dict[str, Any]:
  """The config.json: what it came with, if it did, and what we know of it."""
  values = dict(model.source)
  ours = configs.to_huggingface(model.config)
  # What the source says in its own words stays as it is where it means the same.
  if not values or configs.from_huggingface(values) != _without_pooler(model.config, values):
    values |= ours
  values["architectures"] = [configs.class_of(model.config, model.network)]
  if model.network in ("sequence_classification", "token_classification") and (
    len(values.get("id2label") or {}) != model.num_classes
  ):
    values["id2label"] = {str(i): f"LABEL_{i}" for i in range(model.num_classes)}
    values["label2id"] = {label: int(i) for i, label in values["id2label"].items()}
  if not model.source:
    values["torch_dtype"] = "float32"
    if model.tokenizer is not None:
      values |= _special_ids(model.tokenizer)
  return values


def _without_pooler(config: EncoderConfig, values: dict[str, Any]) -> EncoderConfig:
  """`config` as its config.json alone reads, which does not say whether there is a pooler."""
  read = configs.from_huggingface(values)
  if isinstance(config, ModelConfig) and isinstance(read, ModelConfig):
    return dataclasses.replace(config, pooler=read.pooler)
  return config


def _special_ids(tokenizer: Tokenizer) -> dict[str, int]:
  return {
    "pad_token_id": tokenizer.pad_id,
    "bos_token_id": tokenizer.cls_id,
    "cls_token_id": tokenizer.cls_id,
    "eos_token_id": tokenizer.sep_id,
    "sep_token_id": tokenizer.sep_id,
  }


def max_difference(one: Pretrained, other: Pretrained) -> float:
  """The largest absolute difference of any output over a fixed batch.

  Raises:
    ValueError: the two are not of one network.
  """
  if (one.config, one.network, one.num_classes) != (other.config, other.network, other.num_classes):
    raise ValueError(
      f"{one.network} of {one.config} was written, and reads back as {other.network} of {other.config};"
      " please report it"
    )
  network = networks.build(one.network, one.config, one.num_classes, scan_layers=True)
  run = jax.jit(lambda params: _arrays(network.apply({"params": params}, *_batch(one))))
  pairs = zip(jax.tree.leaves(run(one.params)), jax.tree.leaves(run(other.params)), strict=True)
  return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)


def _arrays(outputs: Any) -> Any:
  return {name: x.logits() if name == "mlm_scores" else x for name, x in outputs.items()}


def _batch(model: Pretrained) -> list[np.ndarray]:
  draw = np.random.default_rng(0)
  config = model.config
  length = min(_LENGTH, pretrained.longest(config) or _LENGTH)
  assert config.vocab_size is not None
  token_ids = draw.integers(0, config.vocab_size, (_ROWS, length), dtype=np.int32)
  attention_mask = np.arange(length)[None] < np.array([length, max(1, length // 2), max(1, length - 3)])[:, None]
  types = 2 if isinstance(config, XlnetConfig) else max(1, getattr(config, "type_vocab_size", 1))
  segment_ids = (np.arange(length)[None] % types * np.ones((_ROWS, 1))).astype(np.int32)
  inputs = [token_ids, segment_ids, attention_mask]
  if model.network == "multiple_choice":
    inputs = [x[None] for x in inputs]
  return [*inputs, np.zeros((_ROWS, 1), np.int32)] if model.network == "spans" else inputs
