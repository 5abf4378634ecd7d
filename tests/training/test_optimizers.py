"""The Adams and the schedules against the published formulas, in numpy."""

import dataclasses
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from bert_jax.config import OptimConfig, Schedule
from bert_jax.recipes import recipe
from bert_jax.training.optimizers import clip_factor, decayed, hyperparameters, learning_rate, optimizer
from tests.models.networks import MODEL, init_params

GOOGLE = dataclasses.replace(recipe("bert_base").optim, peak_lr=0.1, warmup_steps=3)
FAIRSEQ = dataclasses.replace(recipe("roberta_base").optim, peak_lr=0.1, warmup_steps=3)


def parameters(seed: int = 0) -> dict[str, Any]:
  draw = np.random.default_rng(seed)
  array = lambda *shape: jnp.asarray(draw.normal(size=shape), jnp.float32)
  layers = {"kernel": array(2, 3, 5), "bias": array(2, 5), "scale": array(2, 7)}
  return {"encoder": {"layers": layers, "words": array(11, 3), "nothing": array(4)}}


def run(optim: OptimConfig, steps: int) -> Any:
  """Parameters after some updates with random gradients, of which some are 0 throughout."""
  hyper = hyperparameters(optim, total_steps=10, loss_weights={})
  transformation, params = optimizer(optim, hyper), parameters()
  state = transformation.init(params)
  for step in range(steps):
    updates, state = transformation.update(gradients(step), state, params)
    params = optax.apply_updates(params, updates)
  return jax.device_get(params)


def gradients(step: int) -> Any:
  drawn = parameters(seed=step + 1)["encoder"]
  layers = drawn["layers"] | {"kernel": drawn["layers"]["kernel"].at[:, 0, 0].set(0.0)}
  # Those of the second layer are a hundred times as large in some steps, which is what StableAdamW is for.
  layers = jax.tree.map(lambda x: x.at[1].multiply(100.0 if step % 3 == 2 else 1.0), layers)
  return {"encoder": drawn | {"layers": layers, "nothing": jnp.zeros(4)}}


def tensors(tree: Any) -> dict[str, np.ndarray]:
  """By name; of stacked layers, those of each."""
  found = {}
  for path, x in jax.tree.leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    parts = {f"{name}/{i}": part for i, part in enumerate(x)} if "layers" in name else {name: x}
    found |= {name: np.asarray(part, np.float64) for name, part in parts.items()}
  return found


def oracle(optim: OptimConfig, steps: int) -> dict[str, np.ndarray]:
  """The same in float64, a tensor at a time, as google-research/bert, optimization.py, google-research/albert,
  lamb_optimizer.py, fairseq, adam.py, and optimi, stableadamw.py, have it."""
  params = tensors(parameters())
  m, v = ({name: np.zeros_like(x) for name, x in params.items()} for _ in range(2))
  for step in range(steps):
    for name, g in tensors(gradients(step)).items():
      m[name] = optim.beta1 * m[name] + (1 - optim.beta1) * g
      v[name] = optim.beta2 * v[name] + (1 - optim.beta2) * g**2
      decays = "bias" not in name and "scale" not in name
      t = step + 1
      if optim.schedule == "bert_linear":
        lr = optim.peak_lr * (step / 3 if step < 3 else 1 - step / 10)
      else:
        # Trainer: step_update(0) when it is built, step_update(n) after update n. So update t has the rate of t - 1.
        lr = optim.peak_lr * (step / 3 if step <= 3 else 1 - (step - 3) / (10 - 3))
      if optim.name in ("google_adamw", "lamb"):
        update = m[name] / (np.sqrt(v[name]) + optim.eps)
        if decays:
          update += optim.weight_decay * params[name]
        sizes = np.linalg.norm(params[name]), np.linalg.norm(update)
        ratio = sizes[0] / sizes[1] if optim.name == "lamb" and decays and min(sizes) > 0 else 1.0
        params[name] = params[name] - lr * ratio * update
      elif optim.name == "fairseq_adam":
        step_size = lr * np.sqrt(1 - optim.beta2**t) / (1 - optim.beta1**t)
        params[name] = params[name] - lr * optim.weight_decay * params[name]
        params[name] = params[name] - step_size * m[name] / (np.sqrt(v[name]) + optim.eps)
      else:
        assert optim.name == "stable_adamw"
        corrected = v[name] / (1 - optim.beta2**t)
        lr /= max(1.0, np.sqrt(np.mean(g**2 / np.maximum(corrected, optim.eps**2))))
        if decays:
          params[name] = params[name] * (1 - lr / optim.peak_lr * optim.weight_decay)
        params[name] = params[name] - lr * m[name] / (1 - optim.beta1**t) / (np.sqrt(corrected) + optim.eps)
  return params


STABLE = dataclasses.replace(GOOGLE, name="stable_adamw", schedule="linear")
LAMB = dataclasses.replace(GOOGLE, name="lamb", peak_lr=0.02)


@pytest.mark.parametrize("optim", [GOOGLE, FAIRSEQ, STABLE, LAMB], ids=lambda optim: optim.name)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_updates_are_the_published_ones(optim: OptimConfig, steps: int):
  ours, expected = tensors(run(optim, steps)), oracle(optim, steps)
  assert ours.keys() == expected.keys()
  for name in expected:
    # 1 - β2 = 0.001 has an error of 5e-5 in float32, and updates of 0.1 add up six times.
    np.testing.assert_allclose(ours[name], expected[name], rtol=2e-5, atol=1e-5, err_msg=name)


def test_muon_is_optax_s_for_matrices_of_layers_and_adamw_for_the_rest():
  optim = dataclasses.replace(FAIRSEQ, name="muon", decay_parameters="matrices", peak_lr=0.02)
  ours, adamw = (tensors(run(dataclasses.replace(optim, name=name), 4)) for name in ("muon", "adamw"))
  assert {name for name in ours if not np.array_equal(ours[name], adamw[name])} == {
    "encoder/layers/kernel/0", "encoder/layers/kernel/1"
  }  # fmt: skip
  hyper = hyperparameters(optim, total_steps=10, loss_weights={})
  for layer in range(2):
    params: Any = parameters()["encoder"]["layers"]["kernel"][layer]
    peer = optax.contrib.muon(
      lambda step: learning_rate(step, hyper, "linear"), weight_decay=optim.weight_decay, consistent_rms=0.2
    )
    state = peer.init({"w": params})
    for step in range(4):
      updates, state = peer.update({"w": gradients(step)["encoder"]["layers"]["kernel"][layer]}, state, {"w": params})
      params = params + updates["w"]
    np.testing.assert_allclose(ours[f"encoder/layers/kernel/{layer}"], params, rtol=1e-4, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize(("name", "eps"), [("fairseq_adam", 1e-12), ("adamw", 1e-2)])
def test_adamw_is_that_of_pytorch_and_fairseqs_is_where_eps_does_not_count(name: Any, eps: float):
  import torch

  optim = dataclasses.replace(FAIRSEQ, name=name, eps=eps)
  ours = tensors(run(optim, 6))
  hyper = hyperparameters(optim, total_steps=10, loss_weights={})
  for name, start in tensors(parameters()).items():
    parameter = torch.nn.Parameter(torch.from_numpy(np.array(start, np.float32)))
    peer = torch.optim.AdamW([parameter], betas=(optim.beta1, optim.beta2), eps=eps, weight_decay=optim.weight_decay)
    for step in range(6):
      peer.param_groups[0]["lr"] = float(learning_rate(jnp.int32(step), hyper, "linear"))
      parameter.grad = torch.from_numpy(np.array(tensors(gradients(step))[name], np.float32))
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
    # Half a cosine over the 16 steps after warm-up.
    ("cosine", {0: 0.0, 3: 0.75, 4: 1.0, 8: 0.5 + 0.5**1.5, 12: 0.5, 20: 0.0, 25: 0.0}),
    ("inverse_sqrt", {0: 0.0, 3: 0.75, 4: 1.0, 9: 2 / 3, 16: 0.5, 100: 0.2}),
    # The peak until the last five steps.
    ("warmup_stable_decay", {0: 0.0, 3: 0.75, 4: 1.0, 15: 1.0, 16: 1 - 0.2**0.5, 20: 0.0, 25: 0.0}),
    ("budget_triangle", {0: 0.0, 3: 0.75, 4: 0.45, 10: 0.75, 15: 1.0, 18: 0.4, 20: 0.0, 25: 0.0}),
  ],
)
def test_schedules_at_their_borders(schedule: Schedule, rates: dict[int, float]):
  optim = OptimConfig(peak_lr=2.0, warmup_steps=4, decay_steps=5)
  hyper = hyperparameters(optim, total_steps=20, loss_weights={})
  for step, rate in rates.items():
    assert float(learning_rate(jnp.int32(step), hyper, schedule)) == pytest.approx(2 * rate, abs=1e-6), step


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_no_warm_up_starts_at_the_schedules_first_value(schedule: Schedule):
  optim = OptimConfig(peak_lr=2.0, warmup_steps=0, decay_steps=5)
  hyper = hyperparameters(optim, total_steps=20, loss_weights={})
  first = 0.25 if schedule == "budget_triangle" else 1.0
  assert float(learning_rate(jnp.int32(0), hyper, schedule)) == pytest.approx(2.0 * first)


@pytest.mark.parametrize("schedule", ["bert_linear", "linear", "product_linear", "cosine", "warmup_stable_decay"])
def test_a_rate_that_ends_above_zero(schedule: Schedule):
  optim = OptimConfig(peak_lr=2.0, warmup_steps=4, decay_steps=5, final_share=0.02)  # MosaicBERT's 2 %
  hyper = hyperparameters(optim, total_steps=20, loss_weights={})
  assert float(learning_rate(jnp.int32(20), hyper, schedule)) == pytest.approx(0.04)
  assert float(learning_rate(jnp.int32(3), hyper, schedule)) <= 1.5 + 1e-6


def test_clipping_scales_to_the_norm_and_never_up():
  hyper = hyperparameters(OptimConfig(clip_norm=2.0), total_steps=20_000, loss_weights={})
  assert float(clip_factor(jnp.float32(8.0), hyper)) == 0.25
  assert float(clip_factor(jnp.float32(1.0), hyper)) == 1
  assert float(clip_factor(jnp.float32(0.0), hyper)) == 1
  none = hyperparameters(OptimConfig(clip_norm=0.0), total_steps=20_000, loss_weights={})
  assert float(clip_factor(jnp.float32(8.0), none)) == 1
