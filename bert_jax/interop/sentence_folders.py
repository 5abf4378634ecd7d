"""Folders of sentence-transformers: where the model is in them, which files to keep, and how it embeds texts.

A folder may have no file of sentence-transformers; then all of this is about the model alone.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from etils import epath

from bert_jax import foreign
from bert_jax.architectures import EncoderConfig
from bert_jax.inference.embedding import EmbeddingSettings
from bert_jax.interop import cards, foreign_configs
from bert_jax.interop.rules import MOST
from bert_jax.interop.tokenizer_files import TOKENIZER_FILES

CONFIG = "config.json"
MODULES, SENTENCES = "modules.json", "sentence_bert_config.json"


def inner_folder(folder: epath.Path) -> epath.Path:
  """The folder with config.json, weights and tokenizer: `folder` itself, or, with sentence-transformers before 2, the
  one in it that modules.json names, 0_Transformer."""
  for module in _modules(folder):
    path = module["path"]
    if _kind(module) == "Transformer" and path and foreign.is_file(folder, f"{path}/{CONFIG}"):
      return foreign.inside(folder, path)
  return folder


def _kind(module: dict[str, Any]) -> str:
  return module["type"].rpartition(".")[2]


def files_of(folder: epath.Path, inner: epath.Path) -> dict[str, bytes]:
  """The files of the tokenizer and of sentence-transformers, and the card; 0_Transformer is left out of their names."""
  modules = _modules(folder)
  found = [cards.CARD, MODULES, "config_sentence_transformers.json"]
  found += [f"{module['path']}/{CONFIG}" for module in modules if module["path"] and _kind(module) != "Transformer"]
  files = {name: foreign.read_bytes(folder, name) for name in found if foreign.is_file(folder, name)}
  beside = [*TOKENIZER_FILES, SENTENCES]
  files |= {name: foreign.read_bytes(inner, name) for name in beside if foreign.is_file(inner, name)}
  if inner != folder:
    flat = [module | ({"path": ""} if _kind(module) == "Transformer" else {}) for module in modules]
    files[MODULES] = (json.dumps(flat, indent=2) + "\n").encode()
  return files


def _modules(folder: epath.Path) -> list[dict[str, Any]]:
  if not foreign.is_file(folder, MODULES):
    return []
  return foreign_configs.modules(foreign.read_json(folder, MODULES), str(folder / MODULES))


def embedding_of(folder: epath.Path, inner: epath.Path) -> EmbeddingSettings:
  """How the files of sentence-transformers, in the forms of its versions up to 6, say that texts are embedded.

  Raises:
    ValueError: they ask for a module or a pooling that we do not compute.
  """
  result = EmbeddingSettings()
  for module in _modules(folder):
    kind = _kind(module)
    if kind == "Pooling":
      place = f"{module['path']}/{CONFIG}".lstrip("/")
      values = foreign.read_object(folder, place)
      asked = [name for name, value in values.items() if name.startswith("pooling_mode_") and value is True]
      modes = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
      if "pooling_mode" in values:
        asked, modes = [values["pooling_mode"]], {mode: mode for mode in ("cls", "mean", "max")}
      if len(asked) != 1 or not isinstance(asked[0], str) or asked[0] not in modes:
        raise ValueError(
          f"{folder / place} asks for {foreign.shown(asked)}; bert_jax embeds by one of {', '.join(modes)}"
        )
      result = dataclasses.replace(result, pooling=modes[asked[0]])
    elif kind == "Normalize":
      result = dataclasses.replace(result, normalize=True)
    elif kind != "Transformer":
      raise ValueError(
        f"{folder / MODULES} asks for a module {kind}; bert_jax embeds by Transformer, Pooling and"
        " Normalize only. Take that line out to go without it"
      )
  stated = foreign.read_object(inner, SENTENCES) if foreign.is_file(inner, SENTENCES) else {}
  most = foreign_configs.max_seq_length(stated, str(inner / SENTENCES))
  if most is None and _modules(folder) and foreign.is_file(inner, "tokenizer_config.json"):
    # Where transformers knows no limit, it writes a number of 30 digits.
    said = foreign.read_object(inner, "tokenizer_config.json").get("model_max_length")
    most = said if type(said) is int and 0 < said <= MOST else None
  return dataclasses.replace(result, max_tokens=most)


def written(embedding: EmbeddingSettings, hidden_size: int) -> dict[str, bytes]:
  """The files by which sentence-transformers 2 to 6 embed texts so."""
  kinds = ["Transformer", "Pooling", *(["Normalize"] if embedding.normalize else [])]
  modules = [
    {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
    for i, kind in enumerate(kinds)
  ]
  modes = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
  pooling: dict[str, Any] = {"word_embedding_dimension": hidden_size}
  pooling |= {f"pooling_mode_{name}": mode == embedding.pooling for mode, name in modes.items()}
  sentences: dict[str, Any] = {"do_lower_case": False}
  if embedding.max_tokens is not None:
    sentences["max_seq_length"] = embedding.max_tokens
  values = {MODULES: modules, f"1_Pooling/{CONFIG}": pooling, SENTENCES: sentences}
  return {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in values.items()}


def within_positions(
  embedding: EmbeddingSettings, config: EncoderConfig, say: Callable[[str], None]
) -> EmbeddingSettings:
  """`embedding`, with at most as many tokens as the model has positions."""
  stated, most = embedding.max_tokens, config.longest_input
  if stated is None or most is None or stated <= most:
    return embedding
  say(
    f"its files ask for texts of up to {stated} tokens, and the model has {most} positions: so many are read at a time"
  )
  return dataclasses.replace(embedding, max_tokens=most)
