"""Meshes, the rules that lay parameters on them, and what is refused before anything compiles."""

import collections
import dataclasses
import os
import re
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from bert_jax import settings
from bert_jax.architectures import ARCHITECTURES, EncoderConfig
from bert_jax.config import (
  Config,
  OptimConfig,
  RuntimeConfig,
  TrainConfig,
)
from bert_jax.models import networks
from bert_jax.objective_configs import MaskedTokensConfig, PermutationConfig, ReplacedTokensConfig
from bert_jax.objectives import objective_of
from bert_jax.training import layout as layouts
from bert_jax.training.layout import make_layout, mesh_sizes
from bert_jax.training.optimizers import hyperparameters
from bert_jax.training.platform import select_platform
from bert_jax.training.step import init_params, init_state, state_shapes, train_step_of
from tests.models.networks import random_batch

# Of all that an architecture may have.
SIZES: dict[str, Any] = {"vocab_size": 99, "num_layers": 4, "hidden_size": 24, "num_heads": 4, "intermediate_size": 40}
MORE: dict[str, dict[str, Any]] = {
  "albert": {"embedding_size": 12, "num_groups": 2, "blocks_per_group": 2},
  "electra": {"embedding_size": 12},
  "deberta": {"input_positions": True, "type_vocab_size": 2},
  "deberta-v2": {"convolution_size": 3, "shared_projections": False, "input_positions": True, "position_buckets": 8},
}
OBJECTIVES: dict[str, Any] = {"electra": ReplacedTokensConfig(), "xlnet": PermutationConfig()}
ONLY = {"spans": ("electra", "xlnet"), "permutation_lm": ("xlnet",), "enhanced_masked_lm": ("deberta", "deberta-v2")}


def model_of(kind: str, **more: Any) -> EncoderConfig:
  return ARCHITECTURES[kind](**SIZES | MORE.get(kind, {}) | more)


# ---- meshes ----


@pytest.mark.parametrize(
  ("mesh", "sizes"),
  [
    ("data", (4, 1, 1)),
    ("data:3", (3, 1, 1)),
    ("fsdp", (1, 4, 1)),
    ("data,fsdp:2", (2, 2, 1)),
    ("tensor:2, data:2", (2, 1, 2)),
    ("data:1,fsdp:1,tensor:1", (1, 1, 1)),
  ],
)
def test_a_mesh_has_the_devices_asked_for(mesh: str, sizes: tuple[int, ...]):
  assert dict(make_layout(mesh).mesh.shape) == dict(zip(layouts.AXES, sizes, strict=True))
  assert make_layout(mesh) is make_layout(mesh), "so that compiled programs are found again"


@pytest.mark.parametrize(
  ("mesh", "message"),
  [
    ("data:5", "runtime.mesh=data:5 takes 5 devices, and JAX finds 4"),
    ("data:2,fsdp:2,tensor:2", "takes 8 devices"),
    ("rows:2", "must name axes of data, fsdp, tensor, each once.* Got 'rows:2'"),
    ("data:2,data:2", "each once"),
    ("data:0", "size of 1 or more"),
    ("data:x", "Got 'data:x'"),
    ("data:", "Got 'data:'"),
    ("", "Got ''"),
    ("data,fsdp", "leaves data and fsdp without a size"),
  ],
)
def test_a_mesh_that_cannot_be_is_refused(mesh: str, message: str):
  with pytest.raises(ValueError, match=message):
    make_layout(mesh)


def test_an_open_axis_takes_what_is_left():
  assert mesh_sizes("data,tensor:2", 8) == {"data": 4, "fsdp": 1, "tensor": 2}
  assert mesh_sizes("fsdp:2", 8) == {"data": 1, "fsdp": 2, "tensor": 1}


def test_a_batch_is_split_by_rows():
  layout = make_layout("data:2,fsdp:2")
  rows = np.arange(24).reshape(8, 3)
  batch = layout.put({"token_ids": rows})
  shards = batch["token_ids"].addressable_shards
  assert [shard.data.shape for shard in shards] == [(2, 3)] * 4
  np.testing.assert_array_equal(np.concatenate([shard.data for shard in shards]), rows)
  assert layout.process_slice(8) == (0, 1)


@pytest.mark.parametrize(
  ("mesh", "microbatches", "size", "near"),
  [
    ("data:4", 1, 10, "8 or 12"),
    ("data:2,fsdp:2", 3, 30, "24 or 36"),
    ("data:4", 1, 3, "4"),
    ("tensor:4", 5, 7, "5 or 10"),
  ],
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(mesh: str, microbatches: int, size: int, near: str):
  layout = make_layout(mesh)
  layout.check_batch_size("train.batch_size", 120, microbatches)
  with pytest.raises(ValueError, match=rf"^train\.batch_size={size} must be divisible by .*; try {near}$"):
    layout.check_batch_size("train.batch_size", size, microbatches)


# ---- parameters ----


def names_of(tree: Any) -> list[str]:
  return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(tree)]


@pytest.mark.parametrize("all_networks", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_every_parameter_of_every_network_is_matched_by_exactly_one_rule(all_networks: bool):
  """By default every network of BERT, and of the others what they alone have: a network takes a second to trace."""
  names: set[str] = set()
  for kind in ARCHITECTURES:
    for network in networks.NETWORKS:
      of_all = all_networks or kind == "bert" or network in ("masked_lm", "sequence_classification")
      if kind in ONLY[network] if network in ONLY else of_all:
        names |= set(names_of(jax.eval_shape(networks.initial(network, model_of(kind)))))
  # What objectives have beside their networks.
  for kind, trained_for in (
    ("bert", MaskedTokensConfig(boundary=True)),
    ("electra", ReplacedTokensConfig(predicts="tokens")),
    ("deberta-v2", ReplacedTokensConfig(sharing="disentangled", generator_size=1.0)),
  ):
    objective = objective_of(Config(model_of(kind), objective=trained_for))
    names |= set(names_of(jax.eval_shape(objective.init, jax.random.key(0))))
  matched: collections.Counter[str] = collections.Counter()
  for name in names:
    matching = [pattern for pattern, _ in layouts.RULES if re.search(pattern, "/" + name)]
    assert len(matching) == 1, (name, matching)
    matched.update(matching)
  assert set(matched) == {pattern for pattern, _ in layouts.RULES}, "and no rule is of nothing"


def test_moments_follow_their_parameters_and_large_ones_are_split():
  layout = make_layout("fsdp:2,tensor:2")
  config = Config(model_of("bert"))
  state = init_state(config, layout)
  for path, x in jax.tree.leaves_with_path(state.params):
    for moments in (state.opt_state.first, state.opt_state.second):
      node = moments
      for key in path:
        node = node[key.key]
      assert node.sharding == x.sharding
  query = state.params["encoder"]["layers"]["query"]["kernel"]
  assert {shard.data.shape for shard in query.addressable_shards} == {(4, 12, 12)}
  words = state.params["encoder"]["embeddings"]["words"]
  assert {shard.data.shape for shard in words.addressable_shards} == {(99, 24)}, "99 is no multiple of 2"


def test_initial_parameters_do_not_depend_on_the_mesh():
  config = Config(model_of("albert"))
  one, split = (init_state(config, make_layout(mesh)).params for mesh in ("data:1", "data:1,fsdp:2,tensor:2"))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(split), strict=True):
    np.testing.assert_array_equal(a, b)


def config_of(kind: str) -> Config:
  """With the first moment equal to the clipped gradient after one step."""
  return Config(
    model_of(kind, hidden_dropout=0.1, attention_dropout=0.1, initializer_range=0.1),
    objective=OBJECTIVES.get(kind, MaskedTokensConfig()),
    optim=OptimConfig(peak_lr=1e-3, warmup_steps=0, beta1=0.0),
    train=TrainConfig(steps=100, batch_size=8),
    runtime=RuntimeConfig(scan_layers=True),  # quicker to compile
  )


def batch_of(config: Config, seed: int) -> dict[str, np.ndarray]:
  """A batch of 8 rows; for permutations, with an order and a memory."""
  batch = random_batch(rows=8, seed=seed)
  if not isinstance(config.objective, PermutationConfig):
    return batch
  draw = np.random.default_rng(seed)
  order = draw.permuted(np.arange(56, dtype=np.int32).reshape(8, 7) % 7, axis=1)
  return batch | {
    "ranks": np.where(draw.random((8, 7)) < 0.5, order, np.int32(-1)),
    "preceding_ids": draw.integers(1, 99, (8, 5), dtype=np.int32),
    "num_preceding": draw.integers(0, 6, 8, dtype=np.int32),
  }


def two_steps(config: Config, mesh: str) -> tuple[Any, dict[str, float], dict[str, float]]:
  """The first gradient, and the metrics of both steps."""
  layout, objective = make_layout(mesh), objective_of(config)
  step, state = train_step_of(config, layout), init_state(config, layout)
  hyper, found, gradient = hyperparameters(config.optim, 100, objective.loss_weights), [], None
  for seed in range(2):
    state, metrics = step(state, None, layout.put(batch_of(config, seed)), hyper, np.uint32(3))
    gradient = gradient or jax.device_get(state.opt_state.first)
    found.append({name: float(value) for name, value in metrics.items()})
  return gradient, *found


def assert_as_on_one_device(kind: str, meshes: tuple[str, ...]) -> None:
  config = config_of(kind)
  gradient, first, second = two_steps(config, "data:1")
  for mesh in meshes:
    found, *metrics = two_steps(config, mesh)
    assert metrics[0] == pytest.approx(first, rel=1e-5, abs=1e-7), mesh
    # After an update, whose rounding Adam magnifies.
    assert metrics[1] == pytest.approx(second, rel=1e-4, abs=1e-6), mesh
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True)
    apart = sum(float(np.sum((a - b) ** 2)) for a, b in pairs)
    assert (apart / sum(float(np.sum(x**2)) for x in jax.tree.leaves(gradient))) ** 0.5 < 1e-5, mesh


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", pytest.param("albert", marks=pytest.mark.exhaustive)])
def test_a_mesh_of_three_axes_has_the_losses_and_gradients_of_one_device(kind: str):
  assert_as_on_one_device(kind, ("fsdp:2,tensor:2",))


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
  "kind",
  [
    *("bert", "albert", "electra", "deberta", "deberta-v2", "modernbert", "roberta", "distilbert"),
    *("crammed-bert", "mosaic-bert", "xlnet"),
  ],
)
def test_any_mesh_has_the_losses_and_gradients_of_one_device(kind: str):
  assert_as_on_one_device(kind, ("data:4", "fsdp:4", "tensor:4", "data:2,tensor:2", "data:2,fsdp:2", "fsdp:2,tensor:2"))


@pytest.mark.parametrize(
  ("kind", "mesh"),
  [
    ("albert", "data:2,fsdp:2"),
    *(
      pytest.param(kind, mesh, marks=[pytest.mark.exhaustive, pytest.mark.slow])
      for kind in ("bert", "albert", "electra", "deberta", "deberta-v2", "modernbert", "xlnet", "mosaic-bert")
      for mesh in ("fsdp:4", "fsdp:2,tensor:2")
    ),
  ],
)
def test_the_compiler_gathers_no_array_that_it_was_not_to(kind: str, mesh: str, capfd: Any):
  """XLA warns where it can get from one split of an array to another only by having all of it on every device."""
  config = settings.assign(config_of(kind), {"model.vocab_size": 128})  # which devices divide, unlike 99
  layout, hyper = make_layout(mesh), hyperparameters(config.optim, 100, objective_of(config).loss_weights)
  was_kept = jax.config.jax_enable_compilation_cache
  jax.config.update("jax_enable_compilation_cache", False)  # what is found compiled warns of nothing
  try:
    state, batch = state_shapes(config, layout), layout.put(batch_of(config, 0))
    train_step_of(config, layout).lower(state, None, batch, hyper, np.uint32(3)).compile()
  finally:
    jax.config.update("jax_enable_compilation_cache", was_kept)
  assert "rematerialization" not in capfd.readouterr().err


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "albert", "deberta", "modernbert"])
def test_eight_devices_have_the_losses_and_gradients_of_one(kind: str):
  meshes = ("data:8", "fsdp:8", "data:2,fsdp:2,tensor:2", "tensor:4")
  code = f"from tests.training import test_layout; test_layout.assert_as_on_one_device({kind!r}, {meshes})"
  devices = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}
  done = subprocess.run([sys.executable, "-c", code], env=os.environ | devices, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_kernel_on_a_mesh_has_the_losses_and_gradients_of_explicit_attention(kind: str, monkeypatch: Any):
  monkeypatch.setattr(layouts.Layout, "check_attention", lambda self, attention: None)  # it is interpreted
  config = settings.assign(config_of(kind), {"model.attention_dropout": 0.0})
  explicit = two_steps(config, "data:1")
  splash = two_steps(settings.assign(config, {"runtime.attention": "splash"}), "fsdp:2,tensor:2")
  assert splash[1] == pytest.approx(explicit[1], rel=1e-5, abs=1e-7)
  for a, b in zip(jax.tree.leaves(splash[0]), jax.tree.leaves(explicit[0]), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


def test_a_kernel_of_other_devices_is_refused_before_anything_compiles():
  config = settings.assign(config_of("bert"), {"model.attention_dropout": 0.0, "runtime.attention": "splash"})
  with pytest.raises(ValueError, match=r"is a kernel of TPUs, and the devices here are CPUs; set runtime\.attention=f"):
    train_step_of(config, make_layout())


def test_the_parameters_of_an_objective_are_a_function_of_the_seed():
  objective = objective_of(config_of("electra"))
  one, again, other = (init_params(objective, seed) for seed in (1, 1, 2))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(a, b)
  assert dataclasses.asdict(objective.settings) == dataclasses.asdict(ReplacedTokensConfig())
  kernel = lambda params: params["discriminator"]["encoder"]["layers"]["query"]["kernel"]
  assert not np.allclose(kernel(one), kernel(other))


def test_a_platform_that_is_not_there_is_refused_and_the_cpu_still_works():
  with pytest.raises(ValueError, match=r"--platform=tpu: JAX .*"):
    select_platform("tpu")
  select_platform("cpu")
  assert jax.default_backend() == "cpu"
