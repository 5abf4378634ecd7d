"""Every weight of a file is accounted for: the network has it, or it is left out and listed, or it is an error."""

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
  arrays: Arrays, network_entries: list[Entry], stated: str | None, name: str, say: Callable[[str], None]
) -> Arrays:
  """`arrays` without the last layer of the task that config.json names, where another network is asked for.

  The last layers of tasks often share a name, so one would be taken for the other.
  """
  last = {entry.key for entry in network_entries if entry.path[0] == "classifier"} & set(arrays)
  if stated not in _TASKS or stated == name or not last:
    return arrays
  say(f"config.json names {stated}: its last layer is none of {name}, and is left out:\n{listed(last)}")
  return {key: array for key, array in arrays.items() if key not in last}


def complete(
  arrays: Arrays,
  network_entries: list[Entry],
  name: str,
  config: EncoderConfig,
  new_heads: bool,
  origin: str,
  say: Callable[[str], None],
) -> Arrays:
  """The arrays of the network; `say` is told which others are left out.

  Args:
    arrays: of the file, under the network's names.
    network_entries: an entry for each array of the network.
    name: of the network.
    new_heads: whether heads may be lacking; `say` is told of these too.
    origin: the file.

  Raises:
    ValueError: arrays are missing, or the encoder has unexpected ones; it lists them.
  """
  wanted = {entry.key: entry for entry in network_entries}
  missing, unexpected = set(wanted) - set(arrays), set(arrays) - set(wanted)
  if new_heads:
    there = {wanted[key].path[0] for key in set(wanted) - missing}
    # Heads of which the file has nothing.
    new = {key for key in missing if wanted[key].path[0] not in {"encoder", *there}}
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
  """The names of the arrays of all networks of the architecture, with the encoder's prefix and without."""
  family = family_of(config)
  found = {entry.key for network in family.heads for entry in entries(config, network)}
  return found | {key.removeprefix(f"{family.prefix}.") for key in found}


def check_shapes(arrays: Arrays, network_entries: list[Entry], shapes: Any, origin: str) -> None:
  """Checks the shapes of arrays.

  Args:
    shapes: of our parameters.

  Raises:
    ValueError: arrays are of another shape; it lists them.
  """
  wrong = [
    f"{key} has shape {list(arrays[key].shape)}, and config.json asks for {list(shape)}"
    for key, shape in _shapes(network_entries, shapes, arrays).items()
    if arrays[key].shape != shape
  ]
  if wrong:
    raise ValueError(f"the weights in {origin} are not of the sizes in its config.json:\n{listed(wrong)}")


def _shapes(network_entries: list[Entry], shapes: Any, arrays: Arrays) -> dict[str, tuple[int, ...]]:
  """Key → the shape that the array should have in the file. Where it has another size, nothing is allocated for it."""
  result = {}
  for entry in network_entries:
    if entry.key not in arrays:
      continue
    node = shapes
    for name in entry.path:
      node = node[name]
    shape = node.shape if entry.layer is None else node.shape[1:]
    alike = math.prod(shape) == arrays[entry.key].size
    result[entry.key] = entry.theirs(np.broadcast_to(np.float32(0), shape)).shape if alike else shape
  return result
