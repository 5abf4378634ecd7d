"""The optimizers and schedules that the papers' code runs, as Optax transformations.

Every number that a sweep may vary is a traced value (`Hyperparameters`), so that arms which differ in these
alone share one compiled step.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax import struct

from bert_jax.config import OptimConfig, Schedule
from bert_jax.training import layer_rates
from bert_jax.training.layout import IN_BLOCK

_MUON_MOMENTUM = 0.95  # Jordan et al. 2024, with Nesterov's step


@struct.dataclass
class Hyperparameters:
  """`OptimConfig`'s numbers and the loss weights (by name), as traced float32 scalars."""

  peak_lr: jax.Array
  warmup_steps: jax.Array
  total_steps: jax.Array
  decay_steps: jax.Array
  final_share: jax.Array
  beta1: jax.Array
  beta2: jax.Array
  eps: jax.Array
  weight_decay: jax.Array
  clip_norm: jax.Array
  loss_weights: dict[str, jax.Array]


_TRACED = ("peak_lr", "warmup_steps", "final_share", "beta1", "beta2", "eps", "weight_decay", "clip_norm")


def hyperparameters(optim: OptimConfig, total_steps: int, loss_weights: Mapping[str, float]) -> Hyperparameters:
  """The traced values of a run."""
  values = {name: getattr(optim, name) for name in _TRACED}
  values |= {"total_steps": total_steps, "decay_steps": optim.decay_steps or 0}
  traced: dict[str, Any] = {name: jnp.float32(value) for name, value in values.items()}
  return Hyperparameters(**traced, loss_weights={name: jnp.float32(weight) for name, weight in loss_weights.items()})


def learning_rate(step: jax.Array, hyper: Hyperparameters, schedule: Schedule) -> jax.Array:
  """The rate of update number `step`, from 0: linear warm-up, then the schedule, which ends at `total_steps`.

  With warm-up, the first update has rate 0.

  bert_linear decays from step 0 on, so that the rate drops by peak · warmup / total where warm-up ends
  (google-research/bert, optimization.py). linear decays from the end of warm-up (fairseq,
  polynomial_decay_schedule.py, power 1, which trainer.py asks for the rate of update n + 1 with the number n of updates
  done). product_linear multiplies the ramp and the decay from step 0 (google-research/electra, model/optimization.py).
  cosine falls by half a cosine from the end of warm-up (Loshchilov and Hutter 2017, one cycle). inverse_sqrt falls by
  √(warmup / step) (Vaswani et al. 2017, section 5.3), and ends at no particular value. warmup_stable_decay stays at the
  peak, and falls by 1 - √x over its last `decay_steps` (Hägele et al. 2024; ModernBERT). budget_triangle rises from a
  quarter of the peak to the peak at three quarters of the steps, and falls to 0 (Geiping and Goldstein 2023; by steps,
  where they count time).
  """
  step = step.astype(jnp.float32)
  warming = step < hyper.warmup_steps
  ramp = step / jnp.maximum(hyper.warmup_steps, 1)

  def left(begin: Any) -> jax.Array:
    """The share of the steps from `begin` on that is still to come."""
    return jnp.clip((hyper.total_steps - step) / jnp.maximum(hyper.total_steps - begin, 1), 0, 1)

  if schedule == "inverse_sqrt":
    shape = jnp.sqrt(jnp.maximum(hyper.warmup_steps, 1) / jnp.maximum(step, 1))
  elif schedule == "budget_triangle":
    shape = jnp.minimum(1.25 - left(0.0), left(0.0) / 0.25)
  else:
    if schedule == "cosine":
      shape = (1 - jnp.cos(jnp.pi * left(hyper.warmup_steps))) / 2
    elif schedule == "warmup_stable_decay":
      shape = 1 - jnp.sqrt(1 - left(hyper.total_steps - hyper.decay_steps))
    else:
      shape = left(hyper.warmup_steps if schedule == "linear" else 0.0)
    shape = hyper.final_share + (1 - hyper.final_share) * shape
  return hyper.peak_lr * jnp.where(warming, ramp * shape if schedule == "product_linear" else ramp, shape)


def decayed(params: Any, which: Literal["matrices", "all"]) -> Any:
  """A tree of bools: which parameters weight decay acts on, by name.

  `matrices` leaves out what BERT's pattern `LayerNorm|layer_norm|bias` names. In Flax the LayerNorm's gain is
  called `scale`, which that pattern would miss.
  """

  def decays(path: tuple[Any, ...], _: Any) -> bool:
    return which == "all" or path[-1].key not in ("bias", "scale")

  return jax.tree_util.tree_map_with_path(decays, params)


class AdamState(NamedTuple):
  """First and second moments, of the shape of the parameters, and the number of updates.

  Of a matrix that Muon updates, the first is its momentum, and the second stays 0.
  """

  count: jax.Array
  first: Any
  second: Any


def optimizer(optim: OptimConfig, hyper: Hyperparameters) -> optax.GradientTransformation:
  """The recipe's optimizer: moments, an update u of each tensor, decoupled weight decay, then the learning rate.

  google_adamw: u = m / (√v + ε), without bias correction (google-research/bert, optimization.py).
  fairseq_adam: u = m / (√v + ε) · √(1 - β2ᵗ) / (1 - β1ᵗ): corrected, with ε added to the uncorrected root
  (fairseq, adam.py). adamw: the same with ε added to the corrected root (Loshchilov and Hutter 2019; torch.optim).
  Each way θ ← θ - lr · (u + wd · θ), where wd · θ is for the parameters of `decayed`.

  stable_adamw: adamw, whose rate is divided by max(1, RMS(g / √v)) for each tensor, and whose decay is multiplied by
  lr / peak in place of lr (Wortsman et al. 2023, algorithm 2; optimi, stableadamw.py, decouple_lr). lamb: google_adamw,
  where lr · (u + wd · θ) is multiplied by ‖θ‖ / ‖u + wd · θ‖ for each tensor that decays (You et al. 2020;
  google-research/albert, lamb_optimizer.py). A tensor is one layer's: stacked layers are told apart. muon: see
  `_with_muon`.
  """

  def init(params: Any) -> AdamState:
    return AdamState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    assert params is not None
    count = state.count + 1
    first = jax.tree.map(lambda m, g: hyper.beta1 * m + (1 - hyper.beta1) * g, state.first, updates)
    second = jax.tree.map(lambda v, g: hyper.beta2 * v + (1 - hyper.beta2) * g * g, state.second, updates)
    of_root, correction, eps = jnp.float32(1.0), jnp.float32(1.0), hyper.eps
    if optim.name not in ("google_adamw", "lamb"):
      of_root = jnp.sqrt(1 - hyper.beta2**count)
      correction = of_root / (1 - hyper.beta1**count)
      eps = eps if optim.name == "fairseq_adam" else eps * of_root
    rate = learning_rate(state.count, hyper, optim.schedule)

    def change(path: Any, m: jax.Array, v: jax.Array, g: jax.Array, parameter: jax.Array, decays: bool) -> jax.Array:
      u = correction * m / (jnp.sqrt(v) + eps)
      decay = hyper.weight_decay * parameter if decays else jnp.zeros_like(parameter)
      if optim.name == "lamb" and decays:
        u, decay = u + decay, jnp.zeros_like(decay)
        sizes = _norm(parameter, path), _norm(u, path)
        u *= jnp.where((sizes[0] > 0) & (sizes[1] > 0), sizes[0] / jnp.maximum(sizes[1], 1e-30), 1.0)
      if optim.name == "stable_adamw":
        square = g * g / jnp.maximum(v / of_root**2, hyper.eps**2)
        surprise = jnp.sqrt(jnp.mean(square, _of_one_layer(square, path), keepdims=True))
        u, decay = u / jnp.maximum(surprise, 1), decay / jnp.maximum(surprise, 1) / hyper.peak_lr
      return -rate * (u + decay)

    decays = decayed(params, optim.decay_parameters)
    changes = jax.tree_util.tree_map_with_path(change, first, second, updates, params, decays)
    if optim.name == "muon":
      changes, first, second = _with_muon((changes, first, second), updates, state, params, rate, hyper)
    if optim.layer_decay != 1 or optim.top_layers is not None:
      shares = layer_rates.shares(params, optim.layer_decay, optim.top_layers)
      changes = jax.tree.map(lambda x, share: x * share, changes, shares)
    return changes, AdamState(count, first, second)

  return optax.GradientTransformation(init, update)


def _with_muon(
  found: tuple[Any, Any, Any], updates: Any, state: AdamState, params: Any, rate: jax.Array, hyper: Hyperparameters
) -> Any:
  """(changes, first, second) of adamw, with Muon's in the place of those of the layers' matrices.

  Their momentum is made orthogonal (Jordan et al. 2024) and multiplied by 0.2 · √max(rows, columns), which gives it the
  size of adamw's updates, so that both share a rate and a decay (Liu et al. 2025, section 2.2). Embeddings, heads,
  biases and gains stay adamw's.
  """

  def matrix(path: tuple[Any, ...], *of_tensor: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    change, first, second, g, momentum, parameter = of_tensor
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if not re.search(IN_BLOCK, f"/{name}") or len(_of_one_layer(parameter, path)) != 2:
      return change, first, second
    axes = optax.contrib.MuonDimensionNumbers(parameter.ndim - 2, parameter.ndim - 1)
    muon = optax.contrib.scale_by_muon(beta=_MUON_MOMENTUM, weight_dimension_numbers={"matrix": axes})
    before: Any = muon.init({"matrix": parameter})
    before = before._replace(count=state.count, mu={"matrix": momentum})
    u, after = cast(Any, muon.update({"matrix": g}, before))
    u = 0.2 * max(parameter.shape[-2:]) ** 0.5 * u["matrix"]
    return -rate * (u + hyper.weight_decay * parameter), after.mu["matrix"], jnp.zeros_like(second)

  triples = jax.tree_util.tree_map_with_path(matrix, *found, updates, state.first, params)
  return jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0, 0)), triples)


def _of_one_layer(x: jax.Array, path: tuple[Any, ...]) -> tuple[int, ...]:
  """The axes of a tensor without that of stacked layers, which `Encoder.stack` puts first."""
  return tuple(range(int(any(key.key == "layers" for key in path)), x.ndim))


def _norm(x: jax.Array, path: tuple[Any, ...]) -> jax.Array:
  return jnp.sqrt(jnp.sum(x * x, _of_one_layer(x, path), keepdims=True))


def clip_factor(norm: jax.Array, hyper: Hyperparameters) -> jax.Array:
  """What to multiply gradients by so that their global norm is at most `clip_norm`; 1 where that is 0."""
  return jnp.where(hyper.clip_norm > 0, jnp.minimum(1.0, hyper.clip_norm / jnp.maximum(norm, 1e-30)), 1.0)
