"""The Adams and the schedules against the published formulas, in numpy."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax.config import OptimConfig
from bert_jax.recipes import recipe
from bert_jax.training.optimizers import adam, clip_factor, decayed, hyperparameters, learning_rate
from tests.models.networks import MODEL, init_params

GOOGLE = dataclasses.replace(recipe("bert_base").optim, peak_lr=0.1, warmup_steps=3)
FAIRSEQ = dataclasses.replace(recipe("roberta_base").optim, peak_lr=0.1, warmup_steps=3)
Schedule = Literal["bert_linear", "linear", "product_linear"]


def parameters(seed: int = 0) -> dict[str, Any]:
  draw = np.random.default_rng(seed)
  values = {"kernel": (3, 5), "bias": (5,), "scale": (7,), "words": (11, 3)}
  return {name: jnp.asarray(draw.normal(size=shape), jnp.float32) for name, shape in values.items()}


def run(optim: OptimConfig, steps: int) -> dict[str, np.ndarray]:
  """Parameters after some updates with random gradients, of which one element is 0 throughout."""
  hyper = hyperparameters(optim, total_steps=10, loss_weights={})
  transformation, params = adam(optim, hyper), parameters()
  state = transformation.init(params)
  for step in range(steps):
    updates, state = transformation.update(gradients(step), state, params)
    params = optax.apply_updates(params, updates)
  return jax.device_get(params)  # pyright: ignore[reportReturnType]


def gradients(step: int) -> dict[str, Any]:
  drawn = parameters(seed=step + 1)
  return drawn | {"kernel": drawn["kernel"].at[0, 0].set(0.0)}


def oracle(optim: OptimConfig, steps: int) -> dict[str, np.ndarray]:
  """The same in float64, as google-research/bert, optimization.py, and fairseq, adam.py, have it."""
  params = {name: np.asarray(x, np.float64) for name, x in parameters().items()}
  m, v = ({name: np.zeros_like(x) for name, x in params.items()} for _ in range(2))
  for step in range(steps):
    for name, g in gradients(step).items():
      g = np.asarray(g, np.float64)
      m[name] = optim.beta1 * m[name] + (1 - optim.beta1) * g
      v[name] = optim.beta2 * v[name] + (1 - optim.beta2) * g**2
      if optim.name == "google_adamw":
        lr = optim.peak_lr * (step / 3 if step < 3 else 1 - step / 10)
        update = m[name] / (np.sqrt(v[name]) + optim.eps)
        if name not in ("bias", "scale"):
          update += optim.weight_decay * params[name]
        params[name] = params[name] - lr * update
      else:
        t = step + 1
        # Trainer: step_update(0) when it is built, step_update(n) after update n. So update t has the rate of t - 1.
        lr = optim.peak_lr * (step / 3 if step <= 3 else 1 - (step - 3) / (10 - 3))
        step_size = lr * np.sqrt(1 - optim.beta2**t) / (1 - optim.beta1**t)
        params[name] = params[name] - lr * optim.weight_decay * params[name]
        params[name] = params[name] - step_size * m[name] / (np.sqrt(v[name]) + optim.eps)
  return params


@pytest.mark.parametrize("optim", [GOOGLE, FAIRSEQ], ids=lambda optim: optim.name)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_updates_are_the_published_ones(optim: OptimConfig, steps: int):
  ours, expected = run(optim, steps), oracle(optim, steps)
  for name in expected:
    # 1 - β2 = 0.001 has an error of 5e-5 in float32, and updates of 0.1 add up six times.
    np.testing.assert_allclose(ours[name], expected[name], rtol=2e-5, atol=1e-5, err_msg=name)


@pytest.mark.parity
@pytest.mark.parametrize(("name", "eps"), [("fairseq_adam", 1e-12), ("adamw", 1e-2)])
def test_adamw_is_that_of_pytorch_and_fairseqs_is_where_eps_does_not_count(name: Any, eps: float):
  import torch

  optim = dataclasses.replace(FAIRSEQ, name=name, eps=eps)
  ours = run(optim, 6)
  hyper = hyperparameters(optim, total_steps=10, loss_weights={})
  for name, start in parameters().items():
    parameter = torch.nn.Parameter(torch.from_numpy(np.array(start)))
    peer = torch.optim.AdamW([parameter], betas=(optim.beta1, optim.beta2), eps=eps, weight_decay=optim.weight_decay)
    for step in range(6):
      peer.param_groups[0]["lr"] = float(learning_rate(jnp.int32(step), hyper, "linear"))
      parameter.grad = torch.from_numpy(np.array(gradients(step)[name]))
      peer.step()
    np.testing.assert_allclose(ours[name], parameter.detach(), rtol=2e-5, atol=1e-6, err_msg=name)


def test_decay_leaves_out_biases_and_layer_norms_by_name():
  params = init_params(MODEL, seed=0)
  for (path, decays), leaf in zip(
    jax.tree.leaves_with_path(decayed(params, "matrices")), jax.tree.leaves(params), strict=True
  ):
    # Stacked layers give biases a second axis, so that the number of axes would not tell.
    name = jax.tree_util.keystr(path)
    assert decays == any(kind in name for kind in ("kernel", "words", "positions", "segments")), (name, leaf.shape)
  assert all(jax.tree.leaves(decayed(params, "all")))


@pytest.mark.parametrize(
  ("schedule", "rates"),
  [
    # From 0; a drop from the ramp's end to the decay that has run since step 0; 0 at the end and after it.
    ("bert_linear", {0: 0.0, 1: 0.25, 3: 0.75, 4: 0.8, 19: 0.05, 20: 0.0, 25: 0.0}),
    # From 0; the peak itself, and the decay from there: the last update, 19, has peak / (total - warm-up).
    ("linear", {0: 0.0, 1: 0.25, 3: 0.75, 4: 1.0, 5: 15 / 16, 19: 1 / 16, 20: 0.0, 25: 0.0}),
    # From 0; both at once while it warms up; as bert_linear from there.
    ("product_linear", {0: 0.0, 1: 0.25 * 0.95, 3: 0.75 * 0.85, 4: 0.8, 19: 0.05, 20: 0.0, 25: 0.0}),
  ],
)
def test_schedules_at_their_borders(schedule: Schedule, rates: dict[int, float]):
  optim = OptimConfig(peak_lr=2.0, warmup_steps=4)
  hyper = hyperparameters(optim, total_steps=20, loss_weights={})
  for step, rate in rates.items():
    assert float(learning_rate(jnp.int32(step), hyper, schedule)) == pytest.approx(2 * rate, abs=1e-6), step


@pytest.mark.parametrize("schedule", ["bert_linear", "linear", "product_linear"])
def test_no_warm_up_starts_at_the_peak(schedule: Schedule):
  hyper = hyperparameters(OptimConfig(peak_lr=2.0, warmup_steps=0), total_steps=20, loss_weights={})
  assert float(learning_rate(jnp.int32(0), hyper, schedule)) == pytest.approx(2.0)


def test_clipping_scales_to_the_norm_and_never_up():
  hyper = hyperparameters(OptimConfig(clip_norm=2.0), total_steps=20_000, loss_weights={})
  assert float(clip_factor(jnp.float32(8.0), hyper)) == 0.25
  assert float(clip_factor(jnp.float32(1.0), hyper)) == 1
  assert float(clip_factor(jnp.float32(0.0), hyper)) == 1
  none = hyperparameters(OptimConfig(clip_norm=0.0), total_steps=20_000, loss_weights={})
  assert float(clip_factor(jnp.float32(8.0), none)) == 1
