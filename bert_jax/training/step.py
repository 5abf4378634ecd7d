"""The compiled training step and evaluation step, whatever the objective.

A step is: forward and backward over the microbatches, summing losses and counts; one division; clip; update. An
update whose gradient is not finite is skipped and counted.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct, traverse_util

from bert_jax.config import Config, OptimConfig
from bert_jax.models.dropout import Noise, fold
from bert_jax.objectives import objective_of
from bert_jax.objectives.base import Frozen, Objective, Params, Sums
from bert_jax.training.layout import Layout
from bert_jax.training.optimizers import (
  AdamState,
  Hyperparameters,
  clip_factor,
  hyperparameters,
  learning_rate,
  optimizer,
)

Batch = Mapping[str, jax.Array]


@struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: int32 [], steps done, skipped ones counted.
    params: the objective's parameters, float32.
    opt_state: the optimizer's moments.
    nonfinite_steps: int32 [], updates skipped since the last good one.
  """

  step: jax.Array
  params: Any
  opt_state: AdamState
  nonfinite_steps: jax.Array


# ---- where a run starts ------------------------------------------------------------------------------------------


def init_params(objective: Objective, seed: int) -> Params:
  """Initial parameters: a function of the objective's settings and the seed, on any devices."""
  return _init(_quick(objective))(jax.random.key(seed))


def _quick(objective: Objective) -> Objective:
  """The objective with layers in a loop: the quickest to compile. Its parameters are the same."""
  return dataclasses.replace(objective, runtime=dataclasses.replace(objective.runtime, scan_layers=True))


@functools.cache
def _init(objective: Objective):
  return jax.jit(objective.init)


def init_state(config: Config, layout: Layout, start: Params | None = None) -> TrainState:
  """The state before the first step, on the devices of the layout.

  Args:
    start: parameters to start from, as `Objective.given` makes them; what they lack is drawn at random.

  Raises:
    ValueError: one of them has another shape than the objective's.
  """
  objective = objective_of(config)
  hyper = hyperparameters(config.optim, config.train.steps, objective.loss_weights)

  def state(params: Params) -> TrainState:
    moments: Any = optimizer(config.optim, hyper).init(params)
    # Copies: every leaf gets a buffer of its own, which the step's donation needs.
    params = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, moments, jnp.zeros((), jnp.int32))

  params = init_params(objective, config.train.seed)
  if start is not None:
    params = started(params, start)
  return jax.jit(state, out_shardings=layout.of_state(jax.eval_shape(state, params)))(params)


@functools.cache
def state_shapes(config: Config, layout: Layout) -> TrainState:
  """What a state of `config` looks like on the devices of a layout, which need not be there; nothing is allocated."""
  shapes = jax.eval_shape(lambda: init_state(config, layout))
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes, layout.of_state(shapes)
  )


def started(fresh: Params, start: Params) -> Params:
  """`fresh` with the arrays that `start` has in their place.

  Raises:
    ValueError: one of them has another shape.
  """
  flat: dict[str, Any] = dict(traverse_util.flatten_dict(fresh, sep="/"))
  given: dict[str, Any] = dict(traverse_util.flatten_dict(start, sep="/"))
  for path, array in given.items():
    if path not in flat:
      continue
    if flat[path].shape != array.shape:
      raise ValueError(
        f"train.start_from: {path} has the shape {list(array.shape)} there, and the run's settings ask for"
        f" {list(flat[path].shape)}; give the settings of the model that it starts from"
      )
    flat[path] = np.asarray(array, np.float32)  # on no device yet
  return traverse_util.unflatten_dict(flat, sep="/")


# ---- compiled programs -------------------------------------------------------------------------------------------


def train_step_of(config: Config, layout: Layout):
  """The compiled training step of a config: see `_train_step`; it refuses a kernel that the devices do not have.

  Arms that differ in traced values only (learning rate, steps, betas, decay, loss weights, data, masks) get the same
  function, and so the same executable.
  """
  layout.check_attention(config.runtime.attention)
  optim = OptimConfig(
    name=config.optim.name,
    schedule=config.optim.schedule,
    decay_parameters=config.optim.decay_parameters,
    layer_decay=config.optim.layer_decay,
    top_layers=config.optim.top_layers,
  )
  return _train_step(objective_of(config), optim, config.runtime.accumulation_steps, layout)


def eval_step_of(config: Config, layout: Layout):
  """The compiled evaluation step of a config: see `_eval_step`."""
  return _eval_step(objective_of(config), layout)


@functools.cache
def _train_step(objective: Objective, optim: OptimConfig, microbatches: int, layout: Layout):
  """Builds the step: (state, frozen, batch, hyper, seed) → (state, metrics); it donates the state.

  `frozen` is a network that is not trained, or None; `seed` is the run's; `metrics` are scalars: means of the batch,
  what went into it, the gradient's norm, the learning rate, and `skipped`, 1 where the update was not finite.
  """

  def loss(params: Params, frozen: Frozen | None, batch: Batch, noise: Noise, counts: Any, weights: Any):
    sums = objective.sums(params, frozen, batch, noise, layout.row_shards)
    terms = [weights[name] * (sums[name][0] / counts[name]) for name in objective.loss_weights]
    return functools.reduce(jnp.add, terms), sums

  def gradient_and_sums(params: Params, frozen: Frozen | None, batch: Batch, seed: jax.Array, weights: Any) -> Any:
    # The counts of the whole batch are known before its forward pass. Each microbatch divides its sums by them, and
    # from there on gradients only add up.
    counts = {name: jnp.maximum(count, 1) for name, count in objective.counts(batch).items()}

    def one(rows_of: Batch, rows: jax.Array) -> tuple[Params, Sums]:
      return jax.grad(loss, has_aux=True)(params, frozen, rows_of, Noise(seed, rows), counts, weights)

    rows = jnp.arange(batch["token_ids"].shape[0], dtype=jnp.uint32)
    if microbatches == 1:
      return one(batch, rows)
    # Row i goes to microbatch i mod their number, so that rows stay on their devices.
    parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, microbatches, *x.shape[1:]), 0, 1), (dict(batch), rows))
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, *jax.tree.map(lambda x: x[0], parts)))
    return jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, one(*part)), None), zeros, parts)[0]

  def step(state: TrainState, frozen: Frozen | None, batch: Batch, hyper: Hyperparameters, seed: jax.Array):
    step_seed = fold(seed, state.step)  # a function of (seed, step), so that a resumed run repeats it
    with layout.around(objective.runtime.attention):
      gradient, sums = gradient_and_sums(state.params, frozen, batch, step_seed, hyper.loss_weights)
    norm = optax.tree.norm(gradient)
    rate = learning_rate(state.opt_state.count, hyper, optim.schedule)
    factor = clip_factor(norm, hyper)
    updates, opt_state = optimizer(optim, hyper).update(
      jax.tree.map(lambda g: g * factor, gradient), state.opt_state, state.params
    )
    finite = jnp.isfinite(norm)
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
    state = TrainState(
      step=state.step + 1,
      params=keep(optax.apply_updates(state.params, updates), state.params),
      opt_state=keep(opt_state, state.opt_state),
      nonfinite_steps=jnp.where(finite, 0, state.nonfinite_steps + 1),
    )
    metrics = {name: total / jnp.maximum(count, 1) for name, (total, count) in sums.items()}
    metrics |= {name: jnp.asarray(count, jnp.int32) for name, count in objective.seen(batch).items()}
    metrics |= {
      "gradient_norm": norm,
      "learning_rate": rate,
      "skipped": 1.0 - finite,
      "nonfinite_steps": state.nonfinite_steps,
    }
    return state, metrics

  of_state, whole, rows = _state_shardings(objective, layout), layout.whole, layout.rows
  return jax.jit(
    step,
    donate_argnums=0,
    in_shardings=(of_state, None, rows, whole, whole),
    out_shardings=(of_state, whole),
  )


def _state_shardings(objective: Objective, layout: Layout) -> TrainState:
  params = layout.of_state(jax.eval_shape(objective.init, jax.random.key(0)))
  whole: Any = layout.whole
  return TrainState(whole, params, AdamState(whole, params, params), whole)


@functools.cache
def _eval_step(objective: Objective, layout: Layout):
  """Builds the step: (params, frozen, batch, seed, first_row) → {name: (sum, count)}, float32 [B], on every device."""

  def step(params: Params, frozen: Frozen | None, batch: Batch, seed: jax.Array, first_row: jax.Array) -> Sums:
    rows = first_row + jnp.arange(batch["token_ids"].shape[0], dtype=jnp.uint32)
    with layout.around(objective.runtime.attention):
      return objective.evaluate(params, frozen, batch, Noise(seed, rows), layout.row_shards)

  params, whole = _state_shardings(objective, layout).params, layout.whole
  return jax.jit(step, in_shardings=(params, None, layout.rows, whole, whole), out_shardings=whole)
