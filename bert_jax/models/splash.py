"""Attention by the splash kernel of TPUs, which comes with JAX (`jax.experimental.pallas.ops.tpu.splash_attention`).

B batch, T tokens, H heads, C head size, W size of the values.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Bool, Float, Int32

from bert_jax.models.arrays import Array

LANES = 128  # of a TPU's registers: the kernel's lengths and blocks are multiples of it
# Blocks that queries and keys are done in. Large ones have fewer starts; a look near by skips those that are out of
# reach, of which small ones have more. Not tuned: no TPU was at hand.
_BLOCKS = (512, 256, 128)
# The axes of the mesh that split rows and heads, see `training/layout.py`.
_ROWS, _HEADS = ("data", "fsdp"), "tensor"


def splash_attention(
  query: Float[Array, "B T H C"],
  key: Float[Array, "B T H C"],
  value: Float[Array, "B T H W"],
  groups: Int32[Array, "B T"],
  reach: int | None = None,
  everywhere: Bool[Array, ""] | None = None,
) -> Float[Array, "B T H W"]:
  """softmax(QKᵀ) V, where a token looks at those of its own group.

  On the mesh that JAX has around (`jax.sharding.use_abstract_mesh`), each device does its own rows and heads. Elsewhere
  than on TPUs the kernel is interpreted, slowly, for tests.

  Args:
    query: scaled.
    groups: a number for each token.
    reach: how far to either side a token looks; the kernel leaves out what is further away. None: no limit.
    everywhere: True makes `reach` of no effect.
  """
  length = query.shape[1]
  spare = -length % LANES
  query, key, value = (jnp.pad(x, ((0, 0), (0, spare), (0, 0), (0, 0))) for x in (query, key, value))
  groups = jnp.pad(groups, ((0, 0), (0, spare)), constant_values=-1)
  switch = jnp.asarray(reach is None) if everywhere is None else everywhere

  def on_device(*arrays: Array) -> Array:
    def kernel(interpret: bool) -> functools.partial:
      return functools.partial(_on_device, reach=reach, interpret=interpret)

    return jax.lax.platform_dependent(*arrays, tpu=kernel(False), default=kernel(True))

  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty:
    heads = PartitionSpec(_ROWS, None, _HEADS if query.shape[2] % mesh.shape[_HEADS] == 0 else None, None)
    on_device = jax.shard_map(
      on_device,
      in_specs=(heads, heads, heads, PartitionSpec(_ROWS), PartitionSpec()),
      out_specs=heads,
      check_vma=False,  # kernels do not say how their results vary
    )
  return on_device(query, key, value, groups, switch)[:, :length]


def _on_device(
  query: Array, key: Array, value: Array, groups: Array, everywhere: Array, reach: int | None, interpret: bool
) -> Array:
  """The attention of one device's rows and heads."""

  def of_all(query: Array, key: Array, value: Array, groups: Array) -> Array:
    return _kernel(query, key, value, groups, None, interpret)

  def of_near(query: Array, key: Array, value: Array, groups: Array) -> Array:
    return _kernel(query, key, value, groups, reach, interpret)

  if reach is None:
    return of_all(query, key, value, groups)
  return jax.lax.cond(everywhere, of_all, of_near, query, key, value, groups)


def _kernel(query: Array, key: Array, value: Array, groups: Array, reach: int | None, interpret: bool) -> Array:
  # Imported here: 0.4 seconds, which few commands need.
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

  length, heads = query.shape[1:3]
  if reach is None:
    mask = splash_attention_mask.FullMask((length, length))
    block = next(size for size in _BLOCKS if length % size == 0)
  else:
    mask = splash_attention_mask.LocalMask((length, length), (reach, reach), 0)
    block = _BLOCKS[-1]
  attend: Any = splash_attention_kernel.make_splash_mha(
    splash_attention_mask.MultiHeadMask([mask] * heads),
    block_sizes=splash_attention_kernel.BlockSizes(
      block_q=block,
      block_kv=block,
      block_q_dkv=block,
      block_kv_dkv=block,
      block_q_dq=block,
      block_kv_dq=block,
    ),
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )

  def of_row(query: Array, key: Array, value: Array, groups: Array) -> Array:
    return attend(query, key, value, splash_attention_kernel.SegmentIds(groups, groups))

  by_head = [x.swapaxes(1, 2) for x in (query, key, value)]
  return jax.vmap(of_row)(by_head[0], by_head[1], by_head[2], groups).swapaxes(1, 2)
