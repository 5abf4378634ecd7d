"""Hugging Face's name and shape of every parameter of a network."""

import dataclasses

from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.interop.encoders import PREFIX, encoder
from bert_jax.interop.entries import Entry
from bert_jax.interop.heads import head, pretrained_pooler
from bert_jax.models.family import architecture_of


def entries(config: EncoderConfig, network: str) -> list[Entry]:
  """All arrays of a network, under Hugging Face's names.

  Args:
    config: the encoder's settings.
    network: one of `networks.NETWORKS`.
  """
  name = architecture_of(config).name
  prefix = "" if network == "encoder" else PREFIX[name] + "."
  inside = encoder(config, network == "enhanced_masked_lm")
  found = [dataclasses.replace(entry, key=prefix + entry.key) for entry in inside]
  if network == "encoder" and isinstance(config, ModelConfig) and config.pooler:
    found += pretrained_pooler(config, prefix)
  return found + list(head(config, network))


def tied(config: EncoderConfig, network: str) -> dict[str, str]:
  """Their second names of one array → the name that `entries` has. Files hold the one, the other, or both."""
  name = architecture_of(config).name
  words = {entry.path[-1]: entry.key for entry in entries(config, network)}["words"]
  if network == "permutation_lm":
    return {"lm_loss.weight": words}
  if network not in ("pretraining", "masked_lm"):
    return {}
  return {
    "roberta": {"lm_head.decoder.weight": words, "lm_head.decoder.bias": "lm_head.bias"},
    "distilbert": {"vocab_projector.weight": words},
    "albert": {"predictions.decoder.weight": words, "predictions.decoder.bias": "predictions.bias"},
    "electra": {"generator_lm_head.weight": words},
    "modernbert": {"decoder.weight": words},
  }.get(name, {"cls.predictions.decoder.weight": words, "cls.predictions.decoder.bias": "cls.predictions.bias"})
