"""The folder that `bert-jax import` and `Model.save` write: bert_jax's own format for models.

FOLDER/model.json           architecture, network, settings; the config.json that it came with; checksums of all
FOLDER/params.safetensors   our parameters, by path
FOLDER/source/              the files of the tokenizer and of sentence-transformers, byte for byte
"""

import dataclasses
import hashlib
import json
from typing import Any

import jax
from absl import logging
from etils import epath

from bert_jax import foreign, settings
from bert_jax.architectures import ARCHITECTURES
from bert_jax.inference.embedding import EmbeddingSettings
from bert_jax.inference.model import Model
from bert_jax.interop import folders, foreign_configs, stored, tokenizer_files
from bert_jax.interop.params import fingerprint, flat, nested
from bert_jax.interop.tokenizer_files import TOKENIZER_FILES, UnreadableTokenizer
from bert_jax.models import networks

FORMAT = 5
DESCRIPTION = "model.json"
PARAMS = "params.safetensors"
SOURCE = "source"


def is_imported(folder: epath.Path) -> bool:
  return foreign.is_regular(folder / DESCRIPTION)


def save(model: Model, folder: epath.PathLike) -> None:
  """Writes an imported folder, whole or not at all.

  Raises:
    ValueError: something stands there already, or nothing can be written there.
  """
  with folders.atomic(folder) as scratch:
    write(model, scratch)


def write(model: Model, folder: epath.Path) -> None:
  """Writes the files of an imported folder to one that is there."""
  files = tokenizer_files.files_of(model)
  (folder / SOURCE).mkdir()
  folders.write_files(folder / SOURCE, files)
  arrays = flat(model.params)
  stored.write_safetensors(folder / PARAMS, [(name, lambda array=array: array) for name, array in arrays.items()])
  description = {
    "format": FORMAT,
    "architecture": model.config.kind,
    "network": model.network,
    "num_classes": model.num_classes,
    "class_names": list(model.class_names),
    "classifier_pooling": model.classifier_pooling,
    "problem": model.problem,
    "null_threshold": model.null_threshold,
    "max_tokens": model.max_tokens,
    "model": settings.to_dict(model.config),
    "embedding": dataclasses.asdict(model.embedding),
    "params_sha256": fingerprint(model.params),
    "files_sha256": {name: sha256(content) for name, content in sorted(files.items())},
    "source": model.source,
    "origin": model.origin,
    "finetuned": model.finetuned,
  }
  description["digest"] = _digest(description)
  (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def sha256(content: bytes) -> str:
  """The hash in hex."""
  return hashlib.sha256(content).hexdigest()


def _digest(description: dict[str, Any]) -> str:
  return sha256(json.dumps(description, sort_keys=True).encode())


def load(folder: epath.PathLike) -> Model:
  """Opens an imported folder.

  Raises:
    ValueError: a file is damaged, or it is another version's.
  """
  folder = epath.Path(folder)
  origin = folder / DESCRIPTION
  description = foreign.read_object(folder, DESCRIPTION)
  if (stated := description.get("format")) != FORMAT:
    raise ValueError(
      f"{origin} is of format {foreign.shown(stated)}, and this version of bert_jax reads {FORMAT}; import the model"
      " again"
    )
  if description.pop("digest", None) != _digest(description):
    raise ValueError(f"{origin} is damaged: it is not as it was written; import the model again")
  try:
    config = settings.from_dict(description["model"], ARCHITECTURES[description["architecture"]])
    embedding = settings.from_dict(description["embedding"], EmbeddingSettings)
    foreign_configs.own(config, embedding, description, str(origin))
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{origin} cannot be read: {error}; import the model again") from error
  network, source, listed = (description[name] for name in ("network", "source", "files_sha256"))
  head = description["num_classes"], description["classifier_pooling"]
  arrays = stored.open_safetensors(foreign.inside(folder, PARAMS))
  # Our arrays are stacked, with a row for each layer.
  foreign_configs.encoder(config, sum(x.shape[0] for x in arrays.values() if x.size and x.shape), str(origin))
  shapes = jax.eval_shape(networks.initial(network, config, *head))
  if {name: array.shape for name, array in arrays.items()} != {
    "/".join(str(key.key) for key in path): x.shape for path, x in jax.tree.leaves_with_path(shapes)
  }:
    raise ValueError(f"{folder / PARAMS} does not hold what {DESCRIPTION} describes; import the model again")
  params = nested({name: array.load() for name, array in arrays.items()})
  if fingerprint(params) != description["params_sha256"]:
    raise ValueError(f"{folder / PARAMS} is damaged: its bits are not those that were written; import the model again")
  files = _files(folder / SOURCE, listed)
  try:
    tokenizer = tokenizer_files.read(folder / SOURCE, config, source.get("model_type"))
  except UnreadableTokenizer as error:  # its files are unchanged: it was not read when it was imported either
    logging.warning("%s is opened without its tokenizer, which cannot be read: %s", folder, error)
    tokenizer = None
  return Model(
    config=config,
    network=network,
    params=params,
    tokenizer=tokenizer,
    num_classes=description["num_classes"],
    class_names=tuple(description["class_names"]),
    classifier_pooling=description["classifier_pooling"],
    problem=description["problem"],
    null_threshold=description["null_threshold"],
    max_tokens=description["max_tokens"],
    embedding=embedding,
    source=source,
    files=files,
    origin=description["origin"],
    finetuned=description["finetuned"],
  )


def _files(folder: epath.Path, listed: dict[str, str]) -> dict[str, bytes]:
  """The files of a folder by name; listed: their checksums when they were written.

  Raises:
    ValueError: it names the first file that has changed, or that was not written.
  """
  files = {name: foreign.read_bytes(folder, name) for name in listed}
  for name, content in files.items():
    if sha256(content) != listed[name]:
      raise ValueError(f"{folder / name} is damaged: it is not as it was written; import the model again")
  for name in TOKENIZER_FILES:
    if name not in files and (folder / name).exists():
      raise ValueError(f"{folder / name} was not written with the model; take it out, or import the model with it")
  return files
