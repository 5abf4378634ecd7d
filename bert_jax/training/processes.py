"""Several processes that train as one: who they are, and what they must agree on.

Each process runs the same command. It builds its own slice of every batch; all of them write a checkpoint, and the
first alone writes what people read. What is decided by looking at a file or at a clock, the first decides for all.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from bert_jax import results, settings
from bert_jax.training import peers
from bert_jax.training.peers import Processes


def initialize(processes: Processes, about: Mapping[str, Any]) -> peers.Peers | None:
  """Joins the other processes; nothing without a coordinator.

  Args:
    about: what this process was started with, which has to be the same in all of them.

  Returns:
    The others, who want to know how this process ends; None where there are none, or with `auto`, where JAX alone
    connects them.

  Raises:
    ValueError: the others did not all come in time, or with something else, or a flag is missing.
  """
  coordinator, number, index = processes.coordinator, processes.number, processes.index
  if coordinator is None:
    if number is not None or index is not None:
      raise ValueError("--num_processes and --process_index need --coordinator=HOST:PORT, the address of process 0")
    return None
  if coordinator != "auto" and (number is None or index is None or not 0 <= index < number):
    raise ValueError(
      f"--coordinator={coordinator} needs --num_processes=N and --process_index=I, from 0 to N - 1. Got {number} and"
      f" {index}"
    )
  seconds = processes.handshake_seconds
  if coordinator == "auto" or number is None or index is None:
    try:
      jax.distributed.initialize(num_processes=number, process_id=index, initialization_timeout=round(seconds))
    except Exception as error:
      raise ValueError(
        f"--coordinator=auto: JAX finds no other processes here: {error}; give --coordinator=HOST:PORT, --num_processes"
        " and --process_index"
      ) from error
    return None
  met = peers.meet(coordinator, number, index, about, seconds)
  jax.distributed.initialize(coordinator, number, index, initialization_timeout=round(seconds))
  return met


def count() -> int:
  """How many there are. Where they have not met, it is one, and no device is looked for."""
  return jax.process_count() if is_several() else 1


def is_several() -> bool:
  """Whether this process has met others."""
  return jax.distributed.is_initialized()


def is_first() -> bool:
  """Whether this process is the one that writes what people read."""
  return count() == 1 or jax.process_index() == 0


def of_first(value: Any) -> Any:
  """The value that the first process has, on all of them; JSON values only. The others wait for it."""
  if count() == 1:
    return value
  from jax.experimental import multihost_utils

  content = np.frombuffer(json.dumps(value).encode(), np.uint8) if is_first() else np.zeros(0, np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
  padded = np.zeros(size, np.uint8)
  padded[: len(content)] = content
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def read_first(path: epath.Path, kind: type[results.Stored]) -> results.Stored | None:
  """What `results.read` finds in the first process, on all of them."""
  value = results.read(path, kind)
  if count() == 1:
    return value
  values = of_first(None if value is None else dataclasses.asdict(value))  # pyright: ignore[reportArgumentType]
  return None if values is None else settings.from_dict(values, kind)


def whole(arrays: Any) -> Any:
  """The same tree with every array where this process can read all of it; all of them must ask."""
  if count() == 1:
    return arrays
  from jax.experimental import multihost_utils

  def gathered(array: Any) -> Any:
    spread = isinstance(array, jax.Array) and not array.is_fully_addressable
    return multihost_utils.process_allgather(array, tiled=True) if spread else array

  return jax.tree.map(gathered, arrays)


def any_of(flag: bool) -> bool:
  """Whether some process says yes; all of them must ask."""
  if count() == 1:
    return flag
  from jax.experimental import multihost_utils

  return bool(np.any(multihost_utils.process_allgather(np.array([flag]))))


def wait_for_all(name: str) -> None:
  """Returns once every process has come here."""
  if count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)
