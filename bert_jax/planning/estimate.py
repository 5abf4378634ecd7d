"""How fast a step can be at best, from what it multiplies, reads and sends.

Each of the three is a lower bound of its own (Williams et al. 2009, the roofline; with the links between chips as a
third roof), so the largest is one of the step.
"""

import dataclasses

import jax

from bert_jax import costs, settings
from bert_jax.config import Config
from bert_jax.objectives import objective_of
from bert_jax.planning.accelerators import Topology
from bert_jax.training.layout import mesh_sizes

# Of the peak, in published runs of BERT: 44.7 % on an A100, at most 46 % on 4,096 chips of TPU v4 (MLPerf 2.0).
USUAL_SHARE = 0.4
_MASTER = 4  # bytes of a parameter, of a moment and of a gradient: float32


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Of a step on one device; the devices do the same.

  Attributes:
    parameters: of the whole network.
    operations: of all matrix products of a step on all devices, two for each multiply-add; None where not counted.
    products, memory, links: seconds that a step takes at least for these.
  """

  parameters: int
  operations: float | None
  products: float | None
  memory: float
  links: float

  @property
  def seconds(self) -> float:
    """That a step takes at the very least."""
    return max(self.products or 0.0, self.memory, self.links)

  @property
  def bound_by(self) -> str:
    """Which of the three takes longest."""
    times = {"products": self.products or 0.0, "memory": self.memory, "links": self.links}
    return max(times, key=lambda name: times[name])

  @property
  def usual_seconds(self) -> float | None:
    """Of a step at `USUAL_SHARE` of the peak, or at the bound where that is longer."""
    return None if self.products is None else max(self.products / USUAL_SHARE, self.seconds)


def estimate(config: Config, topology: Topology) -> Estimate:
  """The bounds of a step of a run with one phase.

  Args:
    config: as a run has it, the vocabulary's size set.
  """
  mesh = mesh_sizes(config.runtime.mesh, topology.devices)
  data_shards, stored = mesh["data"] * mesh["fsdp"], mesh["fsdp"] * mesh["tensor"]
  chip, of_device = topology.chip, 1 / topology.chip.devices
  shapes = jax.eval_shape(objective_of(config).init, jax.random.key(0))
  parameters = sum(x.size for x in jax.tree.leaves(shapes))
  try:
    operations = 2.0 * costs.multiplications(settings.assign(config, {"train.steps": 1}))
  except ValueError:
    operations = None
  width = 2 if config.runtime.compute_dtype == "bfloat16" else 4
  # The weights and both moments are read and written, the gradient written and read; the forward and the backward pass
  # read the weights as they compute with them, once for each microbatch.
  of_state = 8 * _MASTER * parameters / stored
  of_weights = 2 * config.runtime.accumulation_steps * width * parameters / mesh["tensor"]
  tokens = config.train.batch_size * config.data.max_seq_len / data_shards
  of_inputs = 2 * width * tokens * config.model.hidden_size * config.model.num_layers  # of the layers, written and read
  # A sum over all devices that hold other rows: what a device has is sent off, and comes back (Rabenseifner 2004).
  shared = 2 * _MASTER * parameters / mesh["tensor"] * (data_shards - 1) / data_shards
  return Estimate(
    parameters,
    operations,
    None if operations is None else operations / (topology.chips * chip.peak),
    (of_state + of_weights + of_inputs) / (chip.bandwidth * of_device),
    shared / (chip.links / 2 * of_device),
  )
