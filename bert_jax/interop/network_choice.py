"""Chooses the network for a folder's config.json and weights.

The class that config.json names decides, as in transformers; where it stands for two networks, the weights decide.
"""

from collections.abc import Callable
from typing import Any

from bert_jax.architectures import EncoderConfig
from bert_jax.foreign import shown
from bert_jax.interop import configs
from bert_jax.interop.array_names import arranged, entries, outside_encoder
from bert_jax.interop.arrays import Entry
from bert_jax.interop.families import family_of
from bert_jax.interop.stored import Arrays

# The names of their arrays identify these, even where config.json names no class.
_PRETRAINED = ("pretraining", "masked_lm", "enhanced_masked_lm", "replaced_tokens", "permutation_lm")
_LESS = {"pretraining": ("masked_lm", "encoder")}  # network → what it is without one of its heads


def choose(
  source: dict[str, Any], config: EncoderConfig, arrays: Arrays, origin: str, say: Callable[[str], None]
) -> str:
  """The network that a config.json names.

  There are exceptions:

  - It names masked_lm, and the file has all of BERT's pretraining network, of which that is a part: the latter.
  - The file has nothing of a head that is named: the encoder (for the pretraining network, masked_lm).
  - It names no class that we know: the pretraining network, if the file has all of it and no other head; else the
    encoder, as transformers' AutoModel. A task's head is not guessed, since equal arrays can be of several tasks.

  An encoder comes with its pooler where the file has one.

  Args:
    source: config.json.
    origin: its path.
    say: is told of every exception.
  """
  stated = configs.network_of(source)
  if stated is None:
    found = next((name for name in _PRETRAINED if _is_whole(name, config, arrays, alone=True)), "encoder")
    found = _with_pooler(found, config, arrays)
    classes = shown(source.get("architectures"))
    say(
      f"{origin} has architectures={classes}, in which bert_jax knows no network; read as {found}"
      f" (--head={'|'.join(family_of(config).heads)} says another)"
    )
    return found
  if stated == "masked_lm" and _is_whole("pretraining", config, arrays):
    say(f"{origin} names masked_lm, and the file has the sentence pairs' head too: read as pretraining")
    return "pretraining"
  if _lacks_a_head(stated, config, arrays):
    for less in _LESS.get(stated, ("encoder",)):
      if less != stated and _is_whole(less, config, arrays, alone=True):
        less = _with_pooler(less, config, arrays)
        say(f"{origin} names {stated}, and the file has just the weights of {less}: read as {less}")
        return less
  return _with_pooler(stated, config, arrays)


def _with_pooler(name: str, config: EncoderConfig, arrays: Arrays) -> str:
  """`name`, but the encoder with its pooler if the file has anything of a pooler."""
  pooled = "pooled_encoder"
  has_pooler = pooled in family_of(config).heads and not _lacks_a_head(pooled, config, arrays)
  return pooled if name == "encoder" and has_pooler else name


def _is_whole(name: str, config: EncoderConfig, arrays: Arrays, alone: bool = False) -> bool:
  """Whether the file has all of a network; with `alone`, also whether it has no other head but a pooler."""
  if name not in family_of(config).heads:
    return False
  wanted, there = _names(name, config, arrays)
  heads = outside_encoder(there - set(wanted), config)
  return set(wanted) <= there and not (alone and any("pooler" not in key for key in heads))


def _lacks_a_head(name: str, config: EncoderConfig, arrays: Arrays) -> bool:
  """Whether the file has nothing of some head of a network."""
  wanted, there = _names(name, config, arrays)
  heads = {entry.path[0] for entry in wanted.values()} - {"encoder"}
  return bool(heads - {wanted[key].path[0] for key in there & set(wanted)})


def _names(name: str, config: EncoderConfig, arrays: Arrays) -> tuple[dict[str, Entry], set[str]]:
  """The arrays of a network by name, and the names in the file, brought to the form of that network's."""
  return {entry.key: entry for entry in entries(config, name)}, set(arranged(arrays, config, name))
