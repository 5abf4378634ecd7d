"""Compiles the training step for a TPU that is not there, and says what it takes of each device's memory.

A program: what is asked comes as JSON on stdin, the answer goes as JSON to stdout. The compiler of TPUs takes a process
of its own, since it holds what it needs until the end, and may end it.
"""

import json
import math
import re
import sys
from typing import Any

ENVIRONMENT = {
  # The compiler comes with libtpu, which otherwise looks for a TPU.
  "JAX_PLATFORMS": "cpu",
  "TPU_SKIP_MDS_QUERY": "1",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def compile_step(asked: dict[str, Any]) -> dict[str, Any]:
  """What is known of the compiled step.

  Args:
    asked: config: of a phase, as `settings.to_dict` makes it; topology: its name.

  Returns:
    fits; bytes: of each device, where the compiler says; of these held: by the state and the batch; limit: how many
    there are, where it says; seconds: that compiling took, which is long only for what fits.
  """
  import time

  import jax
  from jax.experimental import topologies

  from bert_jax import settings
  from bert_jax.config import Config
  from bert_jax.objectives import objective_of
  from bert_jax.planning.accelerators import topology
  from bert_jax.planning.shapes import batch_shapes
  from bert_jax.training.layout import make_layout
  from bert_jax.training.optimizers import hyperparameters
  from bert_jax.training.step import state_shapes, train_step_of

  config = settings.from_dict(asked["config"], Config)
  as_seen = topology(asked["topology"]).chip.compiled_as
  more = {} if as_seen is None else {"chip_config_name": as_seen}
  described = topologies.get_topology_desc(platform="tpu", topology_name=asked["topology"], **more)
  layout = make_layout(config.runtime.mesh, described.devices)
  layout.check_batch_size("train.batch_size", config.train.batch_size, config.runtime.accumulation_steps)

  def placed(shapes: Any, where: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes)

  hyper = jax.eval_shape(lambda: hyperparameters(config.optim, config.train.steps, objective_of(config).loss_weights))
  state, batch = state_shapes(config, layout), placed(batch_shapes(config), layout.rows)
  seed = placed(jax.ShapeDtypeStruct((), "uint32"), layout.whole)
  held = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves((state, batch)))
  began = time.monotonic()
  lowered = train_step_of(config, layout).lower(state, None, batch, placed(hyper, layout.whole), seed)
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if (found := too_large(str(error))) is None:
      raise
    taken, limit = None if found[0] is None else found[0] + held * found[2], found[1]
    return {"fits": False, "bytes": taken, "held": held, "limit": limit, "seconds": time.monotonic() - began}
  memory: Any = compiled.memory_analysis()
  taken = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )
  return {"fits": True, "bytes": taken, "held": held, "limit": None, "seconds": time.monotonic() - began}


def too_large(message: str) -> tuple[float | None, float | None, bool] | None:
  """(bytes needed, bytes there are, whether what is held all along comes on top) of the compiler's complaint.

  As far as it says; None where it is about something else.
  """
  if "hbm" not in message.lower() and "RESOURCE_EXHAUSTED" not in message:
    return None
  size = r"\(?([\d.]+)([BKMGT])\w*\)?"
  if found := re.search(rf"[Uu]sed {size} of {size} hbm", message):
    return float(found[1]) * _UNITS[found[2]], float(found[3]) * _UNITS[found[4]], False
  if found := re.search(rf"temporaries {size} exceeds available HBM {size}", message):
    return float(found[1]) * _UNITS[found[2]], float(found[3]) * _UNITS[found[4]], True
  return None, None, False


if __name__ == "__main__":
  answer = compile_step(json.load(sys.stdin))
  print(json.dumps(answer), file=sys.stdout)
