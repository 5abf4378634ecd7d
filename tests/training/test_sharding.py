"""Meshes, and what is refused before anything compiles."""

import jax
import numpy as np
import pytest

from bert_jax.training import sharding


def test_a_mesh_has_the_devices_asked_for():
  assert sharding.make_mesh().shape == {"data": 4}
  assert sharding.make_mesh(3).shape == {"data": 3}


def test_more_devices_than_there_are_is_refused():
  with pytest.raises(ValueError, match=r"runtime\.num_devices=5 is more than the 4 devices"):
    sharding.make_mesh(5)


def test_a_batch_is_split_by_rows():
  mesh = sharding.make_mesh(4)
  rows = np.arange(24).reshape(8, 3)
  batch = sharding.put_batch({"token_ids": rows}, mesh)
  shards = batch["token_ids"].addressable_shards
  assert [shard.data.shape for shard in shards] == [(2, 3)] * 4
  np.testing.assert_array_equal(np.concatenate([shard.data for shard in shards]), rows)


@pytest.mark.parametrize(
  ("devices", "microbatches", "size", "near"), [(4, 1, 10, "8 or 12"), (4, 3, 30, "24 or 36"), (4, 1, 3, "4")]
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(devices: int, microbatches: int, size: int, near: str):
  mesh = sharding.make_mesh(devices)
  sharding.check_batch_size("train.batch_size", 24, mesh, microbatches)
  with pytest.raises(ValueError, match=rf"^train\.batch_size={size} must be divisible by .*; try {near}$"):
    sharding.check_batch_size("train.batch_size", size, mesh, microbatches)


def test_a_platform_that_is_not_there_is_refused_and_the_cpu_still_works():
  with pytest.raises(ValueError, match=r"--platform=tpu: JAX .*"):
    sharding.select_platform("tpu")
  sharding.select_platform("cpu")
  assert jax.default_backend() == "cpu"
