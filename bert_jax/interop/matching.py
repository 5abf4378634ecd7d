"""Which network a folder's config.json and weights are, and which of its weights that network has.

The class that config.json names decides, as in transformers. Weights beside the encoder that it does not use are left
out, in words; every other one is accounted for.
"""

from collections.abc import Callable, Set
from typing import Any

from bert_jax.config import EncoderConfig
from bert_jax.interop import configs, keys, names
from bert_jax.interop.encoders import PREFIX
from bert_jax.interop.entries import Entry
from bert_jax.interop.weights import Arrays
from bert_jax.models.family import architecture_of

# By the names of their arrays these can be nothing else, so they are known where no class is named.
_PRETRAINED = ("pretraining", "masked_lm", "enhanced_masked_lm", "replaced_tokens", "permutation_lm")
_TASKS = ("sequence_classification", "token_classification", "multiple_choice", "question_answering", "spans")
_LESS = {"pretraining": ("masked_lm", "encoder")}  # what is left of a network where a head of it is not there


def network(
  source: dict[str, Any], encoder: EncoderConfig, arrays: Arrays, origin: str, say: Callable[[str], None]
) -> str:
  """The network that a config.json names.

  - Where the file has all of BERT's pretraining network, and masked tokens are named, which are a part of it: all.
  - Where the file has nothing of a head that is named: the encoder (of the pretraining network, masked tokens).
  - Where no class is named that we know: the pretraining network that the file has, and no head beside it; else the
    encoder, as transformers' AutoModel. A task's head is not guessed: equal arrays stand for several tasks.

  Args:
    origin: of config.json.
    say: is told of every case but the plain one.
  """
  stated = configs.network_of(source)
  if stated is None:
    found = next((name for name in _PRETRAINED if _is_whole(name, source, encoder, arrays, alone=True)), "encoder")
    say(
      f"{origin} has architectures={source.get('architectures')}, in which bert_jax knows no network; read as {found}"
      f" (--head={'|'.join(configs.networks_of(source))} says another)"
    )
    return found
  if stated == "masked_lm" and _is_whole("pretraining", source, encoder, arrays):
    say(f"{origin} names masked_lm, and the file has the sentence pairs' head too: read as pretraining")
    return "pretraining"
  if _missing_heads(stated, encoder, arrays):
    for less in _LESS.get(stated, ("encoder",)):
      if less != stated and _is_whole(less, source, encoder, arrays, alone=True):
        say(f"{origin} names {stated}, and the file has just the weights of {less}: read as {less}")
        return less
  return stated


def _is_whole(name: str, source: dict[str, Any], encoder: EncoderConfig, arrays: Arrays, alone: bool = False) -> bool:
  """Whether all of a network is in the file; with `alone`, and no other head but a pooler."""
  if name not in configs.networks_of(source):
    return False
  wanted, there = _names(name, encoder, arrays)
  heads = {key for key in there - set(wanted) if not _of_encoder(key, encoder)}
  return set(wanted) <= there and not (alone and any("pooler" not in key for key in heads))


def _missing_heads(name: str, encoder: EncoderConfig, arrays: Arrays) -> bool:
  """Whether a head of a network is not there at all."""
  wanted, there = _names(name, encoder, arrays)
  heads = {entry.path[0] for entry in wanted.values()} - {"encoder"}
  return bool(heads - {wanted[key].path[0] for key in there & set(wanted)})


def _names(name: str, encoder: EncoderConfig, arrays: Arrays) -> tuple[dict[str, Entry], set[str]]:
  """The arrays that a network has, and the names of those that are there."""
  encoder = configs.with_pooler(encoder, name, set(arrays))
  found = {entry.key: entry for entry in keys.entries(encoder, name)}
  return found, set(names.arranged(arrays, encoder, name))


def _of_encoder(key: str, encoder: EncoderConfig) -> bool:
  """Whether a key stands inside the encoder, so that it belongs to no head; poolers do not count."""
  roots = {entry.key.split(".")[0] for entry in keys.entries(encoder, "encoder")}  # without a prefix
  return "pooler" not in key and key.split(".")[0] in {PREFIX[architecture_of(encoder).name], *roots}


def without_other_tasks(
  arrays: Arrays, found: list[Entry], stated: str | None, name: str, say: Callable[[str], None]
) -> Arrays:
  """`arrays` without the last layer of the task that config.json names, where another network is asked for.

  Tasks' last layers often have one name, so another's would be taken for this one's.
  """
  last = {entry.key for entry in found if entry.path[0] == "classifier"} & set(arrays)
  if stated not in _TASKS or stated == name or not last:
    return arrays
  say(f"config.json names {stated}: its last layer is none of {name}, and is left out:\n{names.listed(last)}")
  return {key: array for key, array in arrays.items() if key not in last}


def complete(
  arrays: Arrays,
  found: list[Entry],
  name: str,
  encoder: EncoderConfig,
  source: dict[str, Any],
  new_heads: bool,
  origin: str,
  say: Callable[[str], None],
) -> Arrays:
  """The arrays of `found`; what is left out is said.

  Args:
    new_heads: whether heads may be lacking, which is said.

  Raises:
    ValueError: which lists what is missing, or unexpected in the encoder.
  """
  wanted = {entry.key: entry for entry in found}
  missing, unexpected = set(wanted) - set(arrays), set(arrays) - set(wanted)
  if new_heads:
    there = {wanted[key].path[0] for key in set(wanted) - missing}
    new = {key for key in missing if wanted[key].path[0] not in {"encoder", *there}}  # heads of which nothing is there
    if new:
      say(f"{origin} lacks the weights of this head; they are new, drawn with seed 0:\n{names.listed(new)}")
    missing -= new
  elsewhere = _of_other_networks(source, encoder)
  beside = {key for key in unexpected if key in elsewhere or not _of_encoder(key, encoder)}
  if beside and not missing:
    say(f"weights in {origin} that {name} does not use are left out:\n{names.listed(beside)}")
  unexpected -= beside
  problems = []
  if missing:
    problems.append(f"{len(missing)} missing:\n{names.listed(missing)}")
  if unexpected:
    problems.append(f"{len(unexpected)} unexpected:\n{names.listed(unexpected)}")
  if problems:
    way_out = "Fetch both files again from one place, or say with --head which network you mean: then weights of other"
    raise ValueError(
      f"the weights in {origin} are not those of its config.json; {'; '.join(problems)}\n{way_out} heads are left out,"
      " and those of a head that is missing are new"
    )
  return {key: arrays[key] for key in wanted if key in arrays}


def _of_other_networks(source: dict[str, Any], encoder: EncoderConfig) -> Set[str]:
  """The names of all the architecture's arrays, with the encoder's prefix and without."""
  found = {entry.key for other in configs.networks_of(source) for entry in keys.entries(encoder, other)}
  prefix = PREFIX[architecture_of(encoder).name] + "."
  return found | {key.removeprefix(prefix) for key in found}
