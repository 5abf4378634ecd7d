"""The compiled training step and evaluation step.

A step is: forward and backward over the microbatches, summing losses and counts; one division; clip; update. An
update whose gradient is not finite is skipped and counted.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from bert_jax.config import Config, ModelConfig, OptimConfig, RuntimeConfig
from bert_jax.models.dropout import DropoutKey, fold
from bert_jax.models.networks import ForPretraining
from bert_jax.objectives.pretraining import Sums, evaluation_sums, pretraining_sums
from bert_jax.training import sharding
from bert_jax.training.optimizers import AdamState, Hyperparameters, adam, clip_factor, hyperparameters, learning_rate

Batch = Mapping[str, jax.Array]


@struct.dataclass
class TrainState:
  """All that a step changes.

  Attributes:
    step: int32 [], steps done, skipped ones counted.
    params: the model's parameters, float32.
    opt_state: the optimizer's moments.
    nonfinite_steps: int32 [], updates skipped since the last good one.
  """

  step: jax.Array
  params: Any
  opt_state: AdamState
  nonfinite_steps: jax.Array


def build_model(model: ModelConfig, runtime: RuntimeConfig) -> ForPretraining:
  """The network of a config, computing as `runtime` says."""
  return ForPretraining(
    model,
    dtype=jnp.dtype(runtime.compute_dtype),
    attention_implementation=runtime.attention,
    scan_layers=runtime.scan_layers,
    remat=runtime.remat,
  )


def init_params(model: ModelConfig, seed: int) -> Any:
  """Initial parameters: a function of the model's settings and the seed, on any devices."""
  return _init(model)(jax.random.key(seed))


@functools.cache
def _init(model: ModelConfig):
  network = build_model(model, RuntimeConfig(scan_layers=True))  # quickest to compile; the tree is the same

  def init(key: jax.Array) -> Any:
    # No array is made outside: where the first call is traced, it would be kept after its trace.
    token_ids = jnp.zeros((1, 2), jnp.int32)
    return network.init(key, token_ids, token_ids, token_ids == 0)["params"]

  return jax.jit(init)


def init_state(config: Config, mesh: Mesh) -> TrainState:
  """The state before the first step, on every device of the mesh."""
  params = init_params(config.model, config.train.seed)
  hyper = hyperparameters(config.optim, config.train.steps, config.train.sentence_objective)
  opt_state: Any = adam(config.optim, hyper).init(params)
  state = TrainState(jnp.zeros((), jnp.int32), params, opt_state, jnp.zeros((), jnp.int32))
  # One jitted copy: every leaf gets a buffer of its own, which the step's donation needs.
  return jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=sharding.replicated(mesh))(state)


def train_step_of(config: Config, mesh: Mesh):
  """The compiled training step of a config: see `_train_step`.

  Arms that differ in traced values only (learning rate, steps, betas, decay, data, masks) get the same function,
  and so the same executable.
  """
  traced = OptimConfig()
  optim = dataclasses.replace(
    traced,
    name=config.optim.name,
    schedule=config.optim.schedule,
    decay_parameters=config.optim.decay_parameters,
  )
  trains_nsp = config.train.sentence_objective == "nsp"
  return _train_step(config.model, optim, _compute_settings(config.runtime), mesh, trains_nsp)


def eval_step_of(config: Config, mesh: Mesh):
  """The compiled evaluation step of a config: (params, batch) → {name: (sum, count)}, float32 [B] each."""
  return _eval_step(config.model, dataclasses.replace(_compute_settings(config.runtime), accumulation_steps=1), mesh)


def _compute_settings(runtime: RuntimeConfig) -> RuntimeConfig:
  """`runtime` with everything that the compiled program does not depend on at its default."""
  names = ("compute_dtype", "attention", "scan_layers", "remat", "accumulation_steps")
  return RuntimeConfig(**{name: getattr(runtime, name) for name in names})


@functools.cache
def _train_step(model: ModelConfig, optim: OptimConfig, runtime: RuntimeConfig, mesh: Mesh, trains_nsp: bool):
  """Builds the step: (state, batch, hyper, seed) → (state, metrics); it donates the state.

  `seed` is the run's; `metrics` are float32 scalars: means of the batch, the gradient's norm, the learning rate, and
  `skipped`, 1 where the update was not finite.
  """
  network = build_model(model, runtime)

  def loss(params: Any, batch: Batch, key: DropoutKey, counts: Mapping[str, jax.Array], nsp_weight: jax.Array):
    inputs = (batch[name] for name in ("token_ids", "segment_ids", "attention_mask", "mlm_positions"))
    outputs: Any = network.apply({"params": params}, *inputs, key)
    sums = pretraining_sums(outputs, batch, mesh.size)
    total = sums["mlm_loss"][0] / counts["mlm_loss"]
    if trains_nsp:
      total += nsp_weight * sums["nsp_loss"][0] / counts["nsp_loss"]
    return total, sums

  def gradient_and_sums(params: Any, batch: Batch, seed: jax.Array, nsp_weight: jax.Array) -> tuple[Any, Sums]:
    # The counts of the whole batch are known before its forward pass. Each microbatch divides its sums by them, and
    # from there on gradients only add up.
    counts = {
      "mlm_loss": jnp.maximum(jnp.sum(batch["mlm_weights"]), 1),
      "nsp_loss": jnp.maximum(jnp.sum(batch["nsp_labels"] >= 0), 1),
    }

    def one(rows_of: Batch, rows: jax.Array) -> tuple[Any, Sums]:
      gradient, sums = jax.grad(loss, has_aux=True)(params, rows_of, DropoutKey(seed, rows), counts, nsp_weight)
      return gradient, sums

    rows = jnp.arange(batch["token_ids"].shape[0], dtype=jnp.uint32)
    count = runtime.accumulation_steps
    if count == 1:
      return one(batch, rows)
    # Row i goes to microbatch i mod count, so that rows stay on their devices.
    parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1), (dict(batch), rows))
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, *jax.tree.map(lambda x: x[0], parts)))
    return jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, one(*part)), None), zeros, parts)[0]

  def step(state: TrainState, batch: Batch, hyper: Hyperparameters, seed: jax.Array):
    step_seed = fold(seed, state.step)  # a function of (seed, step), so that a resumed run repeats it
    gradient, sums = gradient_and_sums(state.params, batch, step_seed, hyper.nsp_weight)
    norm = optax.tree.norm(gradient)
    rate = learning_rate(state.opt_state.count, hyper, optim.schedule)
    factor = clip_factor(norm, hyper)
    updates, opt_state = adam(optim, hyper).update(
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
    metrics |= {
      "gradient_norm": norm,
      "learning_rate": rate,
      "skipped": 1.0 - finite,
      "nonfinite_steps": state.nonfinite_steps,
    }
    return state, metrics

  whole, rows = sharding.replicated(mesh), sharding.by_rows(mesh)
  return jax.jit(step, donate_argnums=0, in_shardings=(whole, rows, whole, whole), out_shardings=whole)


@functools.cache
def _eval_step(model: ModelConfig, runtime: RuntimeConfig, mesh: Mesh):
  network = build_model(model, runtime)

  def step(params: Any, batch: Batch) -> Sums:
    inputs = (batch[name] for name in ("token_ids", "segment_ids", "attention_mask", "mlm_positions"))
    outputs: Any = network.apply({"params": params}, *inputs)
    return evaluation_sums(outputs, batch, mesh.size)

  whole, rows = sharding.replicated(mesh), sharding.by_rows(mesh)
  return jax.jit(step, in_shardings=(whole, rows), out_shardings=rows)
