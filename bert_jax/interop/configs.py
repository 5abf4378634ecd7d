"""Converts Hugging Face's config.json to our settings, and its classes to our networks, both ways."""

import typing
from typing import Any

from bert_jax import settings
from bert_jax.architectures import EncoderConfig
from bert_jax.interop.families import BY_MODEL_TYPE, family_of
from bert_jax.interop.families.base import Family

_ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_python": "gelu",
  "gelu_new": "gelu_tanh",
  "gelu_pytorch_tanh": "gelu_tanh",
  "relu": "relu",
  "tanh": "tanh",
}
_ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "tanh": "tanh"}
# Our networks compute only these values, whatever the architecture.
_REQUIRED = {"is_decoder": (False,), "add_cross_attention": (False,), "tie_word_embeddings": (True,)}


def is_activation(setting: str) -> bool:
  """Whether a setting names an activation; Hugging Face has other names for these."""
  return setting.endswith("activation")


# ---- settings ---------------------------------------------------------------------------------------------------


def from_huggingface(values: dict[str, Any], origin: str = "config.json") -> EncoderConfig:
  """The settings in a config.json; `foreign_configs.config` has checked its types and ranges.

  Raises:
    ValueError: it asks for an architecture or a setting that we do not compute, or for code of its own.
  """
  if values.get("auto_map"):
    raise ValueError(
      f"{origin} asks for code of its own to be run (auto_map: {sorted(values['auto_map'])}); bert_jax runs no code"
      " of a checkpoint. Convert it to one of transformers' own classes first"
    )
  known, name = ", ".join(BY_MODEL_TYPE), values.get("model_type")
  if "model_type" not in values:
    raise ValueError(
      f"{origin} has no model_type, so it does not say which architecture its weights are of; put it in, as in"
      f' "model_type": "bert", if you know it. bert_jax knows {known}'
    )
  if name not in BY_MODEL_TYPE:
    raise ValueError(f"{origin} has model_type={name!r}; bert_jax knows {known}")
  family = BY_MODEL_TYPE[name]
  for key, allowed in (_REQUIRED | family.required).items():
    if key in values and values[key] not in allowed:
      raise ValueError(f"{origin} has {key}={values[key]!r:.80}; bert_jax computes {key}={allowed[0]!r} only")
  found = family.defaults[name] | {ours: values[key] for ours, key in family.keys.items() if key in values}
  for leaf in settings.leaves(family.config_class):
    if is_activation(leaf.path) and leaf.path in found:
      names = [theirs for theirs, ours in _ACTIVATIONS.items() if ours in typing.get_args(leaf.type)]
      theirs = found[leaf.path]
      if theirs not in names:
        raise ValueError(f"{origin} has {family.keys[leaf.path]}={theirs!r}; bert_jax knows {', '.join(names)}")
      found[leaf.path] = _ACTIVATIONS[theirs]
  return family.config_class(**(found | family.read(values, found, origin)))


def to_huggingface(config: EncoderConfig) -> dict[str, Any]:
  """The settings in the form of a config.json, without what depends on the tokenizer or the head."""
  family = family_of(config)
  values: dict[str, Any] = {"model_type": config.kind}
  for ours, theirs in family.keys.items():
    value = getattr(config, ours)
    values[theirs] = _ACTIVATION_NAMES[value] if is_activation(ours) else value
  return family.write(config, values)


# ---- classes ----------------------------------------------------------------------------------------------------


def _networks(family: Family) -> dict[str, str]:
  """What the name of a class ends in → our network; the first one, where one class stands for two."""
  found: dict[str, str] = {}
  for network, head in family.heads.items():
    if head.suffix is not None:
      found.setdefault(head.suffix, network)
  return found


def network_of(values: dict[str, Any]) -> str | None:
  """The network that the `architectures` of a config.json name; None where they name none that we know.

  The names of TensorFlow's and Flax's classes are PyTorch's with a word in front.
  """
  family = BY_MODEL_TYPE[values["model_type"]]
  known = {stem + suffix: network for stem in family.stems.values() for suffix, network in _networks(family).items()}
  for stated in values.get("architectures") or []:
    network = known.get(stated.removeprefix("TF").removeprefix("Flax")) if isinstance(stated, str) else None
    if network is not None:
      return network
  return None


def class_of(config: EncoderConfig, network: str, model_type: str | None = None) -> str:
  """Hugging Face's class for a network.

  Args:
    model_type: that the model came with, where it is not the architecture's first name.

  Raises:
    ValueError: there is none.
  """
  family = family_of(config)
  head = family.heads.get(network)
  if head is None or head.suffix is None:
    known = ", ".join(_networks(family))
    raise ValueError(f"Hugging Face has no class for {config.kind} with the head {network}; it has {known}")
  return family.stems.get(model_type or "", family.stems[config.kind]) + head.suffix
