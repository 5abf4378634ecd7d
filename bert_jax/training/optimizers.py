"""The optimizers and schedules that the papers' code runs, as Optax transformations.

Every number that a sweep may vary is a traced value (`Hyperparameters`), so that arms which differ in these
alone share one compiled step.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from bert_jax.config import OptimConfig
from bert_jax.training import layer_rates


@struct.dataclass
class Hyperparameters:
  """`OptimConfig`'s numbers and the loss weights (by name), as traced float32 scalars."""

  peak_lr: jax.Array
  warmup_steps: jax.Array
  total_steps: jax.Array
  beta1: jax.Array
  beta2: jax.Array
  eps: jax.Array
  weight_decay: jax.Array
  clip_norm: jax.Array
  loss_weights: dict[str, jax.Array]


def hyperparameters(optim: OptimConfig, total_steps: int, loss_weights: Mapping[str, float]) -> Hyperparameters:
  """The traced values of a run."""
  values = {
    name: getattr(optim, name)
    for name in ("peak_lr", "warmup_steps", "beta1", "beta2", "eps", "weight_decay", "clip_norm")
  }
  traced: dict[str, Any] = {name: jnp.float32(value) for name, value in (values | {"total_steps": total_steps}).items()}
  return Hyperparameters(**traced, loss_weights={name: jnp.float32(weight) for name, weight in loss_weights.items()})


def learning_rate(
  step: jax.Array, hyper: Hyperparameters, schedule: Literal["bert_linear", "linear", "product_linear"]
) -> jax.Array:
  """The rate of update number `step`, from 0: linear warm-up, then linear decay to 0 at `total_steps`.

  With each, the first update after a start with warm-up has rate 0. `bert_linear` decays from step 0 on, so that the
  rate drops by peak · warmup / total where warm-up ends (google-research/bert, optimization.py). `linear` decays from
  the end of warm-up (fairseq, polynomial_decay_schedule.py, power 1, which trainer.py asks for the rate of update n + 1
  with the number n of updates done). `product_linear` multiplies the ramp and the decay from step 0 (google-research/
  electra, model/optimization.py).
  """
  step = step.astype(jnp.float32)
  warming = step < hyper.warmup_steps
  ramp = step / jnp.maximum(hyper.warmup_steps, 1)
  begin = hyper.warmup_steps if schedule == "linear" else 0.0
  decay = (hyper.total_steps - step) / jnp.maximum(hyper.total_steps - begin, 1)
  decay = jnp.clip(decay, 0, 1)
  if schedule == "product_linear":
    return hyper.peak_lr * decay * jnp.where(warming, ramp, 1)
  return hyper.peak_lr * jnp.where(warming, ramp, decay)


def decayed(params: Any, which: Literal["matrices", "all"]) -> Any:
  """A tree of bools: which parameters weight decay acts on, by name.

  `matrices` leaves out what BERT's pattern `LayerNorm|layer_norm|bias` names. In Flax the LayerNorm's gain is
  called `scale`, which that pattern would miss.
  """

  def decays(path: tuple[Any, ...], _: Any) -> bool:
    return which == "all" or path[-1].key not in ("bias", "scale")

  return jax.tree_util.tree_map_with_path(decays, params)


class AdamState(NamedTuple):
  """First and second moments, of the shape of the parameters, and the number of updates."""

  count: jax.Array
  first: Any
  second: Any


def adam(optim: OptimConfig, hyper: Hyperparameters) -> optax.GradientTransformation:
  """The recipe's optimizer: moments, then decoupled weight decay, then the learning rate.

  google_adamw: u = m / (√v + ε), without bias correction (google-research/bert, optimization.py).
  fairseq_adam: u = m / (√v + ε) · √(1 - β2ᵗ) / (1 - β1ᵗ): corrected, with ε added to the uncorrected root
  (fairseq, adam.py). adamw: the same with ε added to the corrected root (Loshchilov and Hutter 2019; torch.optim).
  Each way θ ← θ - lr · (u + wd · θ), where wd · θ is for the parameters of `decayed`.
  """

  def init(params: Any) -> AdamState:
    return AdamState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    assert params is not None
    count = state.count + 1
    first = jax.tree.map(lambda m, g: hyper.beta1 * m + (1 - hyper.beta1) * g, state.first, updates)
    second = jax.tree.map(lambda v, g: hyper.beta2 * v + (1 - hyper.beta2) * g * g, state.second, updates)
    correction = jnp.float32(1.0)
    eps = hyper.eps
    if optim.name != "google_adamw":
      of_root = jnp.sqrt(1 - hyper.beta2**count)
      correction = of_root / (1 - hyper.beta1**count)
      eps = eps * of_root if optim.name == "adamw" else eps
    rate = learning_rate(state.count, hyper, optim.schedule)

    def change(m: jax.Array, v: jax.Array, parameter: jax.Array, decays: bool) -> jax.Array:
      u = correction * m / (jnp.sqrt(v) + eps)
      return -rate * (u + hyper.weight_decay * parameter if decays else u)

    changes = jax.tree.map(change, first, second, params, decayed(params, optim.decay_parameters))
    if optim.layer_decay != 1 or optim.top_layers is not None:
      shares = layer_rates.shares(params, optim.layer_decay, optim.top_layers)
      changes = jax.tree.map(lambda x, share: x * share, changes, shares)
    return changes, AdamState(count, first, second)

  return optax.GradientTransformation(init, update)


def clip_factor(norm: jax.Array, hyper: Hyperparameters) -> jax.Array:
  """What to multiply gradients by so that their global norm is at most `clip_norm`; 1 where that is 0."""
  return jnp.where(hyper.clip_norm > 0, jnp.minimum(1.0, hyper.clip_norm / jnp.maximum(norm, 1e-30)), 1.0)
