"""The names that Hugging Face gives to the arrays of a network; arrays of a file are brought under these names."""

import dataclasses
import re
from collections.abc import Iterable

import numpy as np

from bert_jax.architectures import EncoderConfig
from bert_jax.interop.arrays import Entry
from bert_jax.interop.families import family_of
from bert_jax.interop.families.base import MODEL
from bert_jax.interop.stored import Arrays

# Buffers that older releases of transformers saved: constants that we do not need.
_BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|original_inv_freq)$")
# TF's names of LayerNorm's parameters, in files of 2018 and 2019.
_OLD = (
  (re.compile(r"(LayerNorm|layer_norm)\.gamma$"), r"\1.weight"),
  (re.compile(r"(LayerNorm|layer_norm)\.beta$"), r"\1.bias"),
)


def entries(config: EncoderConfig, network: str) -> list[Entry]:
  """All arrays of a network, under Hugging Face's names; network: one of the family's heads."""
  family = family_of(config)
  head = family.heads[network]
  prefix = "" if head.suffix == MODEL else f"{family.prefix}."
  encoder = [dataclasses.replace(entry, key=prefix + entry.key) for entry in family.encoder(config, network)]
  return [*encoder, *head.arrays]


def modern(arrays: Arrays) -> Arrays:
  """The arrays without buffers, under today's names."""
  result: Arrays = {}
  for name, array in arrays.items():
    if _BUFFERS.search(name):
      continue
    for pattern, new in _OLD:
      name = pattern.sub(new, name)
    result[name] = array
  return result


def arranged(arrays: Arrays, config: EncoderConfig, network: str, origin: str | None = None) -> Arrays:
  """`arrays` under the names of `network`: with or without the encoder's prefix, and each tied array once.

  Args:
    origin: the file; None to leave out the comparison of tied copies.

  Raises:
    ValueError: two copies of one array differ.
  """
  family = family_of(config)
  head, prefix = family.heads[network], f"{family.prefix}."
  if head.suffix == MODEL:
    result = {key.removeprefix(prefix): array for key, array in arrays.items()}
  else:
    without_prefix = "pooled_encoder" if "pooled_encoder" in family.heads else "encoder"
    bare = {entry.key for entry in entries(config, without_prefix)}
    result = {prefix + key if key in bare else key: array for key, array in arrays.items()}
  for second, first in head.tied.items():
    if second in result:
      copy = result.pop(second)
      if origin and first in result and not np.array_equal(copy.read(), result[first].read()):
        raise ValueError(
          f"{origin} holds {second} and {first} with different values; bert_jax computes them tied, as published"
        )
      result.setdefault(first, copy)
  return result


def listed(names: Iterable[str]) -> str:
  """Names, one a line; of very many only the first."""
  found = sorted(names)
  lines = [f"  {name}" for name in found[:20]]
  return "\n".join(lines if len(found) <= 20 else [*lines, f"  … and {len(found) - 20} more"])


def outside_encoder(names: Iterable[str], config: EncoderConfig) -> set[str]:
  """The names that belong to heads, a pooler included; those of the encoder have its prefix or none."""
  inside = {family_of(config).prefix, *(entry.key.split(".")[0] for entry in entries(config, "encoder"))}
  return {name for name in names if "pooler" in name or name.split(".")[0] not in inside}
