"""The training step: any split of a batch is the big batch, and what may not change a result does not."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.config import Config, OptimConfig, RuntimeConfig, TrainConfig
from bert_jax.models.inputs import Inputs
from bert_jax.objectives import objective_of
from bert_jax.objectives.masked_tokens import masked_lm, pair_label
from bert_jax.training.layout import make_layout
from bert_jax.training.optimizers import Hyperparameters, hyperparameters
from bert_jax.training.step import TrainState, eval_step_of, init_params, init_state, train_step_of
from tests.models.networks import WITH_DROPOUT, masked_tokens, random_batch

CONFIG = Config(
  model=dataclasses.replace(WITH_DROPOUT, num_layers=2, initializer_range=0.1),
  # With β1 = 0 the first moment after one step is the clipped gradient itself, which the tests below compare.
  optim=OptimConfig(peak_lr=1e-2, warmup_steps=0, beta1=0.0),
  train=TrainConfig(steps=100, batch_size=12),
  runtime=RuntimeConfig(scan_layers=True),  # quicker to compile; tests of the model show that it changes nothing
)


def config(**changes: Any) -> Config:
  """CONFIG with dotted settings changed; a double underscore stands for the dot."""
  result = CONFIG
  for path, value in changes.items():
    section, name = path.split("__")
    result = dataclasses.replace(result, **{section: dataclasses.replace(getattr(result, section), **{name: value})})
  return result


def hyper_of(c: Config) -> Hyperparameters:
  return hyperparameters(c.optim, c.train.steps, objective_of(c).loss_weights)


def batch_of(rows: int = 12) -> dict[str, np.ndarray]:
  """Uneven counts: of the rows that the first of two or four microbatches gets, none predicts anything."""
  batch = random_batch(rows=rows, seed=5)
  batch["mlm_weights"][:, 0] = 1
  batch["mlm_weights"][::4] = 0
  batch["pair_labels"][1::3] = -1
  return batch


@functools.cache
def one_step(c: Config, num_devices: int = 1) -> tuple[Any, dict[str, float]]:
  """State and metrics after one step."""
  layout = make_layout(f"data:{num_devices}")
  state, metrics = train_step_of(c, layout)(
    init_state(c, layout), None, layout.put(batch_of()), hyper_of(c), np.uint32(3)
  )
  return jax.device_get(state), {name: float(x) for name, x in metrics.items()}


def distance(a: Any, b: Any) -> float:
  """Of two trees, relative to the norm of the second."""
  apart = sum(float(np.sum((x - y) ** 2)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
  return (apart / sum(float(np.sum(y**2)) for y in jax.tree.leaves(b))) ** 0.5


@pytest.mark.parametrize(
  ("accumulation_steps", "num_devices"),
  [(3, 2), pytest.param(2, 1, marks=pytest.mark.exhaustive), pytest.param(1, 4, marks=pytest.mark.exhaustive)],
)
def test_any_split_of_the_batch_has_the_same_gradient(accumulation_steps: int, num_devices: int):
  whole, metrics = one_step(CONFIG)
  split, split_metrics = one_step(config(runtime__accumulation_steps=accumulation_steps), num_devices)
  assert distance(split.opt_state.first, whole.opt_state.first) < 1e-6  # float32 sums in another order
  assert split_metrics == pytest.approx(metrics, rel=1e-5)


def test_the_gradient_is_that_of_the_mean_over_the_whole_batch():
  """The loss from the network's outputs, differentiated here, without dropout and clipping."""
  c = config(model__hidden_dropout=0.0, model__attention_dropout=0.0, optim__clip_norm=0.0)
  layout = make_layout("data:1")
  batch, objective = layout.put(batch_of()), masked_tokens(c.model)

  def loss(params: Any) -> jax.Array:
    outputs: Any = objective.network(objective.name).apply(
      {"params": params}, Inputs.of(batch), mlm_positions=batch["mlm_positions"]
    )
    mlm = masked_lm(outputs["mlm_scores"], batch["mlm_labels"], batch["mlm_weights"])["mlm_loss"]
    nsp = pair_label(outputs["pair_logits"], batch["pair_labels"])["loss"]
    return mlm[0] / mlm[1] + nsp[0] / nsp[1]

  expected = jax.device_get(jax.jit(jax.grad(loss))(init_params(objective_of(c), c.train.seed)))
  assert distance(one_step(c)[0].opt_state.first, expected) < 1e-5


def test_the_gradient_is_clipped_to_its_global_norm():
  state, metrics = one_step(config(optim__clip_norm=0.5))
  norm = sum(float(np.sum(m**2)) for m in jax.tree.leaves(state.opt_state.first)) ** 0.5
  assert metrics["gradient_norm"] > 0.5
  assert norm == pytest.approx(0.5, rel=1e-5)


def test_a_step_is_repeatable_bit_by_bit_and_the_next_draws_other_dropout():
  layout, step = make_layout("data:1"), train_step_of(CONFIG, make_layout("data:1"))
  batch = layout.put(batch_of())

  def losses(hyper: Hyperparameters) -> list[float]:
    state, seen = init_state(CONFIG, layout), []
    for _ in range(3):
      state, metrics = step(state, None, batch, hyper, np.uint32(3))
      seen.append(float(metrics["mlm_loss"]))
    return seen

  frozen = dataclasses.replace(hyper_of(CONFIG), peak_lr=jnp.float32(0))  # pyright: ignore[reportArgumentType]
  first = losses(frozen)
  assert losses(frozen) == first
  assert len(set(first)) == 3


def test_training_lowers_the_loss():
  layout = make_layout("data:1")
  state, step, batch = init_state(CONFIG, layout), train_step_of(CONFIG, layout), layout.put(batch_of())
  seen = []
  for _ in range(30):
    state, metrics = step(state, None, batch, hyper_of(CONFIG), np.uint32(3))
    seen.append(float(metrics["mlm_loss"]))
  assert seen[-1] < seen[0] - 1
  assert int(state.step) == 30


def test_a_gradient_that_is_not_finite_is_skipped_and_counted():
  layout = make_layout("data:1")
  step, batch = train_step_of(CONFIG, layout), batch_of()
  poisoned = batch | {"mlm_weights": np.where(batch["mlm_weights"] > 0, np.float32(np.inf), np.float32(0))}
  state: TrainState = init_state(CONFIG, layout)
  before = jax.device_get((state.params, state.opt_state))
  for times in (1, 2):
    state, metrics = step(state, None, layout.put(poisoned), hyper_of(CONFIG), np.uint32(3))
    assert float(metrics["skipped"]) == 1
    assert int(state.nonfinite_steps) == int(metrics["nonfinite_steps"]) == times
  for a, b in zip(jax.tree.leaves(before), jax.tree.leaves((state.params, state.opt_state)), strict=True):
    np.testing.assert_array_equal(a, b)
  assert int(state.step) == 2
  state, metrics = step(state, None, layout.put(batch), hyper_of(CONFIG), np.uint32(3))
  assert (float(metrics["skipped"]), int(state.nonfinite_steps)) == (0, 0)
  assert distance(jax.device_get(state.params), before[0]) > 0


def test_arms_that_differ_in_traced_values_share_one_executable():
  layout = make_layout("data:1")
  # A size of its own, so that no other test has compiled it.
  base = config(model__intermediate_size=29)
  arms = [
    base,
    dataclasses.replace(base, optim=OptimConfig(peak_lr=3e-4, warmup_steps=9, beta1=0.8, beta2=0.98, clip_norm=0.0)),
    dataclasses.replace(base, train=dataclasses.replace(base.train, steps=50, seed=9)),
    dataclasses.replace(base, data=dataclasses.replace(base.data, train_fraction=0.5)),
    dataclasses.replace(base, runtime=dataclasses.replace(base.runtime, log_every_steps=7)),
  ]
  steps = {id(train_step_of(arm, layout)): train_step_of(arm, layout) for arm in arms}
  assert len(steps) == 1
  (step,) = steps.values()
  for arm in arms:
    step(init_state(arm, layout), None, layout.put(batch_of()), hyper_of(arm), np.uint32(arm.train.seed))
  assert step._cache_size() == 1


def test_without_the_pair_objective_the_rest_is_the_same():
  """The encoder's initial weights, and what masked tokens alone make of them."""
  c = config(objective__sentence="none")
  params, of_pairs = (init_params(objective_of(x), 0) for x in (c, CONFIG))
  assert set(params) == {"encoder", "mlm_head"}
  for name, part in params.items():
    assert distance(part, of_pairs[name]) == 0
  assert one_step(c)[1]["mlm_loss"] == pytest.approx(one_step(CONFIG)[1]["mlm_loss"], rel=1e-6)


@pytest.mark.usefixtures("bfloat16")
def test_bfloat16_compute_keeps_float32_state_and_comes_close():
  state, metrics = one_step(config(runtime__compute_dtype="bfloat16"))
  assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float32")}
  assert metrics["mlm_loss"] == pytest.approx(one_step(CONFIG)[1]["mlm_loss"], rel=0.02)


def test_evaluation_sums_do_not_depend_on_the_batch():
  layout, batch = make_layout("data:1"), batch_of()
  batch["mask_weights"] = batch["mlm_weights"] * (np.arange(batch["mlm_weights"].shape[1]) % 3 > 0)
  params, step = init_params(objective_of(CONFIG), 0), eval_step_of(CONFIG, layout)
  whole = step(params, None, layout.put(batch), np.uint32(0), np.uint32(0))
  parts = [
    step(params, None, layout.put({k: v[rows] for k, v in batch.items()}), np.uint32(0), np.uint32(0))
    for rows in (slice(5), slice(5, 12))
  ]
  for name, (total, count) in whole.items():
    np.testing.assert_array_equal(count, np.concatenate([part[name][1] for part in parts]))
    np.testing.assert_allclose(total, np.concatenate([part[name][0] for part in parts]), rtol=1e-5)
