"""Checks the types, ranges and sizes in the JSON files of a foreign model, before anything is built from them.

`configs` knows which of these values our networks compute.
"""

import dataclasses
import re
import typing
from typing import Any

from bert_jax import architectures, settings
from bert_jax.architectures import EncoderConfig
from bert_jax.foreign import shown
from bert_jax.inference.embedding import EmbeddingSettings
from bert_jax.interop import configs, rules
from bert_jax.interop.families import BY_MODEL_TYPE
from bert_jax.interop.families.base import Family
from bert_jax.interop.rules import COUNT, MOST, OBJECT, OBJECT_OF_TEXTS, TEXT, TEXTS, Rule, or_null, whole
from bert_jax.models import networks
from bert_jax.models.family import architecture_of
from bert_jax.objective_configs import Problem

# For the config.json of every architecture.
_RULES: dict[str, Rule] = {
  "model_type": TEXT,
  "architectures": or_null(TEXTS),
  "auto_map": or_null(OBJECT),
  "id2label": or_null(OBJECT_OF_TEXTS),
  "label2id": or_null(OBJECT),
  "num_labels": COUNT,
  "_num_labels": COUNT,
  "pad_token_id": or_null(whole(-1, MOST)),
  "torch_dtype": or_null(TEXT),
  "dtype": or_null(TEXT),
}


def config(values: dict[str, Any], origin: str) -> None:
  """Checks each key of a config.json that we read.

  Raises:
    ValueError: it names the first key whose value is of another type, or out of its range.
  """
  _check(values, _RULES, origin)
  if (name := values.get("model_type")) in BY_MODEL_TYPE:
    _check(values, _rules_of(BY_MODEL_TYPE[name]), origin)


def _check(values: dict[str, Any], by_key: dict[str, Rule], origin: str) -> None:
  for key, (holds, rule) in by_key.items():
    if key in values and not holds(values[key]):
      raise ValueError(f"{origin} has {key}={shown(values[key])}, which must be {rule}")


def _rules_of(family: Family) -> dict[str, Rule]:
  """A key may be what our setting may be, unless the family says otherwise."""
  found: dict[str, Rule] = {}
  for leaf in settings.leaves(family.config_class):
    if leaf.path in family.keys:
      found[family.keys[leaf.path]] = TEXT if configs.is_activation(leaf.path) else _rule_of(leaf)
  return found | family.rules


def _rule_of(leaf: settings.Leaf) -> Rule:
  # A foreign model states the size of its vocabulary; only a run may leave it open until there is a tokenizer.
  return rules.of(dataclasses.replace(leaf, type=int) if leaf.path == "vocab_size" else leaf)


def encoder(c: EncoderConfig, num_arrays: int, origin: str) -> None:
  """Checks the settings that were read, defaults included.

  Args:
    num_arrays: in the file of the weights; every block has some of its own.

  Raises:
    ValueError: it names the file and the rule.
  """
  try:
    architectures.check(c, prefix="")
  except ValueError as error:
    raise ValueError(f"{origin} is of no model that can be built: {error}") from error
  blocks = c.num_distinct_blocks
  if blocks > num_arrays:
    raise ValueError(
      f"{origin} is of no model that can be built: it asks for {blocks} blocks, and its file holds {num_arrays} arrays"
    )


def own(c: EncoderConfig, embedding: EmbeddingSettings, description: dict[str, Any], origin: str) -> None:
  """Checks the types of what a model.json of ours says, since it may come from a stranger; `encoder` checks the rest.

  Raises:
    ValueError: it names the first setting that is of another type, or out of its range.
    KeyError: one is missing.
  """

  def require(name: str, value: Any, rule: Rule) -> None:
    if not rule[0](value):
      raise ValueError(f"{name}={shown(value)} must be {rule[1]}")

  for leaf in settings.leaves(c):
    require(leaf.path, getattr(c, leaf.path), _rule_of(leaf))
  known = set(networks.NETWORKS)
  if architecture_of(c).span_head is None:
    known.remove("spans")
  if not architecture_of(c).enhanced:
    known.remove("enhanced_masked_lm")
  own_rules = {
    "network": rules.one_of(tuple(sorted(known))),
    "num_classes": COUNT,
    "class_names": rules.NAMES,
    "classifier_pooling": rules.one_of(typing.get_args(networks.ClassifierPooling)),
    "problem": rules.one_of(typing.get_args(Problem)),
    "null_threshold": or_null((rules.is_number, "a number")),
    "max_tokens": or_null(whole(3, MOST)),
    "params_sha256": TEXT,
    "files_sha256": OBJECT_OF_TEXTS,
    "source": OBJECT,
    "origin": TEXT,
    "finetuned": TEXT,
  }
  for name, rule in own_rules.items():
    require(name, description[name], rule)
  names, count = description["class_names"], description["num_classes"]
  if names and len(names) != count:
    raise ValueError(f"class_names are {len(names)}, and num_classes={count}")
  require("embedding.pooling", embedding.pooling, or_null(rules.one_of(("cls", "mean", "max"))))
  require("embedding.normalize", embedding.normalize, rules.FLAG)
  require("embedding.max_tokens", embedding.max_tokens, or_null(whole(1, MOST)))
  config(description["source"], f"{origin}, its source,")


def weight_map(index: dict[str, Any], origin: str) -> dict[str, str]:
  """Array → shard, from model.safetensors.index.json.

  Raises:
    ValueError: it is of another form.
  """
  places = index.get("weight_map")
  sound = isinstance(places, dict) and places and all(isinstance(name, str) for name in places.values())
  if not isinstance(places, dict) or not sound:
    raise ValueError(f"{origin} has weight_map={shown(places)}, which must be an object: array → file; fetch it again")
  return places


# ---- sentence-transformers --------------------------------------------------------------------------------------


def modules(values: Any, origin: str) -> list[dict[str, Any]]:
  """The rows of a modules.json; each has a `type`, and a `path` that is "" or the name of a folder beside the file.

  Raises:
    ValueError: it is of another form.
  """
  if not isinstance(values, list) or len(values) > 100 or not all(isinstance(row, dict) for row in values):
    raise ValueError(f"{origin} must be a list of at most 100 objects. Got {shown(values)}")
  for number, row in enumerate(values):
    if not isinstance(row.get("type"), str):
      raise ValueError(f"{origin}: entry {number} has type={shown(row.get('type'))}, which must be a text")
    # Without a dot it leads nowhere else, and is the name of none of the files beside it.
    if not isinstance(row.get("path"), str) or not re.fullmatch(r"[\w-]*", row["path"]):
      raise ValueError(
        f"{origin}: entry {number} has path={shown(row.get('path'))}, which must be the name of a folder beside it,"
        " of letters, digits, _ and -"
      )
  return values


def max_seq_length(values: dict[str, Any], origin: str) -> int | None:
  """`max_seq_length` of a sentence_bert_config.json.

  Raises:
    ValueError: it is no number of tokens.
  """
  found = values.get("max_seq_length")
  holds, rule = or_null(whole(1, MOST))
  if not holds(found):
    raise ValueError(f"{origin} has max_seq_length={shown(found)}, which must be {rule}")
  return found
