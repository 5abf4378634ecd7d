"""The model that a run starts from where `train.start_from` names one, in any folder that `bert_jax.load` opens."""

import dataclasses
import os
from typing import Any

from etils import epath

from bert_jax.architectures import EncoderConfig
from bert_jax.config import Config
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.interop import imported, reading, sentence_folders, tokenizer_files
from bert_jax.interop import load as loading
from bert_jax.interop.params import fingerprint
from bert_jax.training.pretraining import corpus_folder, read_config


@dataclasses.dataclass(frozen=True)
class Start:
  """A model to start from.

  Attributes:
    model: if it has a tokenizer, the corpus must be tokenized with that.
    about: what a checkpoint notes of it: path, network, step if it is a run's, and sha256 of the parameters.
  """

  model: Model
  about: dict[str, Any]


def settings_of(path: str, setting: str = "train.start_from") -> tuple[EncoderConfig, dict[str, Any]]:
  """The settings that a run takes over: the encoder's, and by their paths those of the tokenizer.

  Args:
    path: the folder of a model.
    setting: that names it, for messages.

  Raises:
    ValueError: there is no model there.
  """
  folder = epath.Path(path)
  if not folder.is_dir():
    raise ValueError(f"{setting}={path} is no folder; give that of a run, an imported or a Hugging Face model")
  if imported.is_imported(folder):
    model = imported.load(folder)
    return model.config, _tokenizer_settings(folder / imported.SOURCE, model.tokenizer)
  if loading.is_huggingface(folder):
    inner = sentence_folders.inner_folder(folder)
    config, model_type = reading.read_settings(inner)
    return config, _tokenizer_settings(inner, tokenizer_files.read(inner, config, model_type))
  run = loading.find_run(folder)
  config = read_config(run)
  if config is None:
    raise ValueError(f"{setting}={path}: {run} has no config.json, and no checkpoint that knows it")
  return config.model, _of_run(config, run)


def _tokenizer_settings(folder: epath.Path, tokenizer: Tokenizer | None) -> dict[str, Any]:
  if tokenizer is None:
    return {}
  return {
    "data.tokenizer.path": os.fspath(folder),
    "data.tokenizer.kind": tokenizer.kind,
    "data.tokenizer.lowercase": tokenizer.lowercase,
  }


def _of_run(config: Config, run: epath.Path) -> dict[str, Any]:
  """The tokenizer of a run is that of its corpus, which is in its workdir, three folders up."""
  folder = corpus_folder(config, run.parent.parent.parent) / "tokenizer"
  kept = {f"data.tokenizer.{name}": getattr(config.data.tokenizer, name) for name in ("kind", "lowercase")}
  return kept | {"data.tokenizer.path": os.fspath(folder)} if folder.is_dir() else {}


def load(path: str) -> Start:
  """Reads the model.

  Raises:
    ValueError: see `bert_jax.load`.
  """
  model = loading.load(path)
  about = {"path": path, "network": model.network, "params_sha256": fingerprint(model.params)}
  return Start(model, about if model.step is None else about | {"step": model.step})
