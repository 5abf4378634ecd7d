"""Names and copies in a file, made those of `keys.entries`; what is then missing or too much is an error."""

import re
from collections.abc import Iterable

import numpy as np

from bert_jax.config import EncoderConfig
from bert_jax.interop import keys
from bert_jax.interop.encoders import PREFIX
from bert_jax.interop.weights import Arrays
from bert_jax.models.family import architecture_of

# Buffers that older releases of transformers saved: constants, which we make ourselves.
_BUFFERS = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|original_inv_freq)$")
# TF's names of LayerNorm's parameters, in files of 2018 and 2019.
_OLD = (
  (re.compile(r"(LayerNorm|layer_norm)\.gamma$"), r"\1.weight"),
  (re.compile(r"(LayerNorm|layer_norm)\.beta$"), r"\1.bias"),
)


def modern(arrays: Arrays) -> Arrays:
  """Without buffers, and with today's names."""
  result: Arrays = {}
  for name, array in arrays.items():
    if _BUFFERS.search(name):
      continue
    for pattern, new in _OLD:
      name = pattern.sub(new, name)
    result[name] = array
  return result


def legacy(arrays: Arrays) -> Arrays:
  """DeBERTa's masked tokens' head under the names of its class with `legacy`: the same layers, by other names."""
  head, old = "lm_predictions.lm_head.", "cls.predictions."
  return {
    (old + ("" if name == head + "bias" else "transform.") + name.removeprefix(head))
    if name.startswith(head)
    else name: array
    for name, array in arrays.items()
  }


def arranged(arrays: Arrays, config: EncoderConfig, network: str, origin: str | None = None) -> Arrays:
  """`arrays` under the names of `network`: the encoder's prefix as there, each tied array once.

  Args:
    origin: the file, where two copies of one array are to be compared.

  Raises:
    ValueError: two copies of one array differ.
  """
  name = architecture_of(config).name
  prefix = PREFIX[name] + "."
  if network == "encoder":
    result = {key.removeprefix(prefix): array for key, array in arrays.items()}
  else:
    bare = {entry.key for entry in keys.entries(config, "encoder")}
    result = {prefix + key if key in bare else key: array for key, array in arrays.items()}
  for second, first in keys.tied(config, network).items():
    if second in result:
      copy = result.pop(second)
      if origin and first in result and not np.array_equal(copy.read(), result[first].read()):
        raise ValueError(
          f"{origin} holds {second} and {first} with different values; bert_jax computes them tied, as published"
        )
      result.setdefault(first, copy)
  return result


def listed(names: Iterable[str]) -> str:
  """Names, each on a line of its own; only the first of very many."""
  found = sorted(names)
  lines = [f"  {name}" for name in found[:20]]
  return "\n".join(lines if len(found) <= 20 else [*lines, f"  … and {len(found) - 20} more"])
