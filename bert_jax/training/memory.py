"""What a run needs at the very least, by arithmetic, against what the devices have; nothing is allocated."""

import os
from pathlib import Path

from jax.sharding import Mesh

from bert_jax.config import Config
from bert_jax.training.layout import Layout

_GIB = 2**30
OF_A_PROCESS = _GIB  # Python, the libraries, a compiler at work: 0.7 to 0.9 GiB were seen at the demo's size


def require_room(config: Config, layout: Layout) -> None:
  """Refuses a run that cannot fit, whatever the compiler makes of it.

  Raises:
    ValueError: with what it needs, what there is, and what to lower.
  """
  mesh = layout.mesh
  known = available_bytes(mesh)
  if known is None:
    return
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  state = state_bytes(config) // (mesh.size // mesh.shape["data"])
  rows = batch_bytes(config, layout.row_shards)
  needed = (state + rows) * (mesh.size if on_cpu else 1)  # devices of a CPU share its memory
  if needed > known:
    raise ValueError(
      f"the run needs at least {needed / _GIB:,.1f} GiB of memory, and there are {known / _GIB:,.1f}:"
      f" {state / _GIB:,.1f} a device for the weights and their moments (model.hidden_size={config.model.hidden_size},"
      f" model.num_layers={config.model.num_layers}), {rows / _GIB:,.1f} for train.batch_size={config.train.batch_size}"
      f" or evaluation.batch_size={config.evaluation.batch_size}; lower them, or raise"
      f" runtime.accumulation_steps={config.runtime.accumulation_steps}"
    )


def state_bytes(config: Config) -> int:
  """Parameters, two moments and a gradient, in float32, of the whole network."""
  model = config.model
  vocab_size = model.vocab_size or 0  # where the tokenizer is not known yet, nor is this
  block = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.intermediate_size
  tables = (vocab_size + (model.longest_input or 0)) * model.embedding_width
  return 4 * 4 * (tables + model.num_distinct_blocks * block)


def batch_bytes(config: Config, devices: int) -> int:
  """The larger of a microbatch that trains and a batch that evaluates, on each device.

  Training keeps the input of every block, rematerialized or not. Logits do not count: they are made a block at a time.
  """
  model, length = config.model, config.data.max_seq_len
  width = 2 if config.runtime.compute_dtype == "bfloat16" else 4
  train_rows = -(-config.train.batch_size // (config.runtime.accumulation_steps * devices))
  evaluation_rows = -(-config.evaluation.batch_size // devices)
  return width * length * model.hidden_size * max(train_rows * model.num_layers, evaluation_rows)


def available_bytes(mesh: Mesh) -> int | None:
  """Memory of a device, or of the machine where the devices are its CPU; None if that is not known."""
  device = mesh.devices.flat[0]
  if device.platform != "cpu":
    return (device.memory_stats() or {}).get("bytes_limit")
  return of_machine()


def of_machine() -> int | None:
  """Memory of the machine, or of the container, in bytes; None if that is not known."""
  try:
    known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
  except (ValueError, OSError):
    return None
  limit = Path("/sys/fs/cgroup/memory.max")  # of a container
  if limit.exists() and (text := limit.read_text().strip()).isdigit():
    known.append(int(text))
  return min(known)
