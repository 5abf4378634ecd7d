"""A `Pretrained` model as a Hugging Face folder, with a receipt of what was written and how near it is."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from bert_jax import foreign, provenance
from bert_jax.architectures import XlnetConfig
from bert_jax.config import Config, EncoderConfig, ModelConfig
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.interop import cards, configs, folders, keys, pretrained, reading, stored, tokenizer_files, weights
from bert_jax.interop.entries import one_of_theirs
from bert_jax.interop.pretrained import Pretrained
from bert_jax.models import networks
from bert_jax.models.family import architecture_of

RECEIPT = "receipt.json"
_ROWS, _LENGTH = 3, 24  # of the fixed batch


def write(
  model: Pretrained,
  folder: epath.PathLike,
  say: Callable[[str], None] = logging.info,
  run: Config | None = None,
  step: int | None = None,
) -> dict[str, Any]:
  """Writes config.json, model.safetensors, the tokenizer's files, README.md and receipt.json, and reads them back.

  Args:
    folder: new or empty.
    say: is told in words what the user should know.
    run: that trained the model, and its step, for README.md; None for a model from elsewhere.

  Returns:
    The receipt: sha256 of every file, and `max_difference`, the largest of any output between the model and what the
    folder reads back as, over a fixed batch.

  Raises:
    ValueError: the folder holds something; Hugging Face has no class for the network.
  """
  with folders.whole(folder) as scratch:
    write_files(model, scratch, run, step)
    receipt = {
      "written_by": provenance.versions(),
      "network": model.network,
      "class": _class_of(model),
      "parameters": sum(x.size for x in jax.tree.leaves(model.params)),
      "max_difference": _difference(model, scratch),
      "batch": f"{_ROWS} sequences of up to {_LENGTH} random tokens, drawn with seed 0; float32",
      "sha256": {name: pretrained.sha256_of_file(scratch / name) for name in pretrained.files_of(scratch)},
    }
    (scratch / RECEIPT).write_text(json.dumps(receipt, indent=2) + "\n")
  say(f"read back, the outputs of {folder} differ by {receipt['max_difference']:g} at most")
  return receipt


def write_files(model: Pretrained, folder: epath.Path, run: Config | None = None, step: int | None = None) -> None:
  """All but the receipt.

  Raises:
    ValueError: Hugging Face has no class for the network.
  """
  model = _fitted(model)
  values = config_of(model)
  folder.mkdir(parents=True, exist_ok=True)
  arrays = [
    (entry.key, functools.partial(one_of_theirs, model.params, entry))
    for entry in keys.entries(model.config, model.network)
  ]
  stored.write_safetensors(folder / weights.WEIGHTS, arrays)
  if model.files:
    for name, content in model.files.items():
      path = foreign.inside(folder, name)
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(content)
  elif model.tokenizer is not None:
    # RoBERTa parts a pair by two </s> and has one segment.
    segments = getattr(model.config, "type_vocab_size", 0) > 1
    separators = 2 if architecture_of(model.config).name == "roberta" else 1
    tokenizer_files.write(model.tokenizer, folder, pretrained.longest(model.config), segments, separators)
  (folder / cards.CARD).write_text(cards.write(model, _class_of(model), run, step))
  (folder / reading.CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def config_of(model: Pretrained) -> dict[str, Any]:
  """The config.json: what it came with, if it did, and what we know of it."""
  values = dict(model.source)
  ours = configs.to_huggingface(model.config)
  # What the source says in its own words stays as it is where it means the same.
  if not values or configs.from_huggingface(values) != _without_pooler(model.config, values):
    values |= ours | {"model_type": values.get("model_type", ours["model_type"])}
  values["architectures"] = [_class_of(model)]
  if model.network in ("sequence_classification", "token_classification") and (
    len(values.get("id2label") or {}) != model.num_classes
  ):
    values["id2label"] = {str(i): f"LABEL_{i}" for i in range(model.num_classes)}
    values["label2id"] = {label: int(i) for i, label in values["id2label"].items()}
  # What is written is float32, whatever it came as. transformers 4 and 5 have a name each.
  stated = [key for key in ("torch_dtype", "dtype") if key in values] if model.source else ["torch_dtype"]
  values |= dict.fromkeys(stated, "float32")
  if not model.source and model.tokenizer is not None:
    values |= _special_ids(model.tokenizer)
  return values


def _class_of(model: Pretrained) -> str:
  return configs.class_of(model.config, model.network, model.source.get("model_type"))


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


def _fitted(model: Pretrained) -> Pretrained:
  """The model with its positions where Hugging Face's RoBERTa looks for them: from the row after the padding's id."""
  config, tokenizer = model.config, model.tokenizer
  if architecture_of(config).name != "roberta" or tokenizer is None or model.source:
    return model
  assert isinstance(config, ModelConfig)
  offset = tokenizer.pad_id + 1
  if offset == config.position_offset:
    return model
  arrays = pretrained.flat(model.params)
  learned = arrays["encoder/embeddings/positions"][config.position_offset :]
  arrays["encoder/embeddings/positions"] = np.concatenate([np.zeros((offset, config.hidden_size), np.float32), learned])
  config = dataclasses.replace(config, position_offset=offset)
  return dataclasses.replace(model, config=config, params=pretrained.nested(arrays))


def _difference(model: Pretrained, folder: epath.Path) -> float:
  """The largest of any output between the model and what a folder that was just written reads as.

  With equal settings and equal arrays it is 0, and nothing is run: so large models need no second place in memory.

  Raises:
    ValueError: the folder reads back otherwise than it was written.
  """
  wanted, found = _fitted(model), reading.open_folder(folder, say=lambda _: None)
  alike = (wanted.config, wanted.network, wanted.num_classes) == (found.config, found.network, found.num_classes)
  assert alike, (wanted, found)
  for entry in found.entries:
    if not np.array_equal(found.arrays[entry.key].read(), one_of_theirs(wanted.params, entry)):
      raise ValueError(f"{folder}: {entry.key} does not read back as it was written; is the disk sound? Try another")
  return 0.0 if wanted is model else max_difference(model, wanted)


def max_difference(one: Pretrained, other: Pretrained) -> float:
  """The largest absolute difference of any output over a fixed batch; both are of one network."""
  batch = _batch(one)

  def run(model: Pretrained) -> Any:
    network = networks.build(model.network, model.config, model.num_classes, scan_layers=True)
    return jax.jit(lambda params: _arrays(network.apply({"params": params}, *batch)))(model.params)

  pairs = zip(jax.tree.leaves(run(one)), jax.tree.leaves(run(other)), strict=True)
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
