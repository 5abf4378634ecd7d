"""Every weight of a file is accounted for: it is the network's, or left out in words, or an error."""

import math
from collections.abc import Callable, Set
from typing import Any

import numpy as np

from bert_jax.architectures import EncoderConfig
from bert_jax.interop.array_names import entries, listed, outside_encoder
from bert_jax.interop.arrays import Entry
from bert_jax.interop.families import family_of
from bert_jax.interop.stored import Arrays

_TASKS = ("sequence_classification", "token_classification", "multiple_choice", "question_answering", "spans")


def without_other_tasks(
  arrays: Arrays, found: list[Entry], stated: str | None, name: str, say: Callable[[str], None]
) -> Arrays:
  """`arrays` without the last layer of the task that config.json names, where another network is asked for.

  Tasks' last layers often have one name, so another's would be taken for this one's.
  """
  last = {entry.key for entry in found if entry.path[0] == "classifier"} & set(arrays)
  if stated not in _TASKS or stated == name or not last:
    return arrays
  say(f"config.json names {stated}: its last layer is none of {name}, and is left out:\n{listed(last)}")
  return {key: array for key, array in arrays.items() if key not in last}


def complete(
  arrays: Arrays,
  found: list[Entry],
  name: str,
  config: EncoderConfig,
  new_heads: bool,
  origin: str,
  say: Callable[[str], None],
) -> Arrays:
  """The arrays of `found`; what is left out is said.

  Args:
    arrays: under the network's names.
    found: all arrays of the network.
    name: of the network.
    new_heads: whether heads may be lacking, which is said.
    origin: the file.

  Raises:
    ValueError: which lists what is missing, or unexpected in the encoder.
  """
  wanted = {entry.key: entry for entry in found}
  missing, unexpected = set(wanted) - set(arrays), set(arrays) - set(wanted)
  if new_heads:
    there = {wanted[key].path[0] for key in set(wanted) - missing}
    new = {key for key in missing if wanted[key].path[0] not in {"encoder", *there}}  # heads of which nothing is there
    if new:
      say(f"{origin} lacks the weights of this head; they are new, drawn with seed 0:\n{listed(new)}")
    missing -= new
  beside = (unexpected & _of_all_networks(config)) | outside_encoder(unexpected, config)
  if beside and not missing:
    say(f"weights in {origin} that {name} does not use are left out:\n{listed(beside)}")
  unexpected -= beside
  problems = []
  if missing:
    problems.append(f"{len(missing)} missing:\n{listed(missing)}")
  if unexpected:
    problems.append(f"{len(unexpected)} unexpected:\n{listed(unexpected)}")
  if problems:
    way_out = "Fetch both files again from one place, or say with --head which network you mean: then weights of other"
    raise ValueError(
      f"the weights in {origin} are not those of its config.json; {'; '.join(problems)}\n{way_out} heads are left out,"
      " and those of a head that is missing are new"
    )
  return {key: arrays[key] for key in wanted if key in arrays}


def _of_all_networks(config: EncoderConfig) -> Set[str]:
  """The names of all the architecture's arrays, with the encoder's prefix and without."""
  family = family_of(config)
  found = {entry.key for network in family.heads for entry in entries(config, network)}
  return found | {key.removeprefix(f"{family.prefix}.") for key in found}


def check_shapes(arrays: Arrays, found: list[Entry], shapes: Any, origin: str) -> None:
  """Checks the shapes of arrays.

  Args:
    shapes: of our parameters.

  Raises:
    ValueError: which lists the arrays that are of another shape.
  """
  wrong = [
    f"{key} has shape {list(arrays[key].shape)}, and config.json asks for {list(shape)}"
    for key, shape in _shapes(found, shapes, arrays).items()
    if arrays[key].shape != shape
  ]
  if wrong:
    raise ValueError(f"the weights in {origin} are not of the sizes in its config.json:\n{listed(wrong)}")


def _shapes(found: list[Entry], shapes: Any, arrays: Arrays) -> dict[str, tuple[int, ...]]:
  """Their shape of every array of `arrays`, in which one of another size has ours: nothing of that size is made."""
  result = {}
  for entry in found:
    if entry.key not in arrays:
      continue
    node = shapes
    for name in entry.path:
      node = node[name]
    shape = node.shape if entry.layer is None else node.shape[1:]
    alike = math.prod(shape) == arrays[entry.key].size
    result[entry.key] = entry.theirs(np.broadcast_to(np.float32(0), shape)).shape if alike else shape
  return result
