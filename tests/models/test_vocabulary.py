"""The loss in blocks against the loss written down plainly, for every split and padding, with its gradient."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax.models import vocabulary
from bert_jax.models.vocabulary import VocabularyScores, num_blocks

B, K, D, V = 12, 3, 5, 77


def scores_of(scale: float = 1.0, shape: tuple[int, int, int, int] = (B, K, D, V)) -> VocabularyScores:
  draw = np.random.default_rng(0)
  b, k, d, v = shape
  arrays = draw.normal(size=(b, k, d)), scale * draw.normal(size=(v, d)), draw.normal(size=v)
  return VocabularyScores(*(jnp.asarray(x, jnp.float32) for x in arrays))


def labels_and_weights() -> tuple[jax.Array, jax.Array]:
  draw = np.random.default_rng(1)
  weights = draw.integers(0, 2, (B, K)) * draw.uniform(0.5, 2, (B, K))
  return jnp.asarray(draw.integers(0, V, (B, K))), jnp.asarray(weights, jnp.float32)


def plain(scores: VocabularyScores, labels: jax.Array, weights: jax.Array) -> jax.Array:
  logits = jnp.einsum("bkd,vd->bkv", scores.features, scores.table) + scores.bias[None, None]
  return jnp.sum(optax.softmax_cross_entropy_with_integer_labels(logits, labels) * weights)


def assert_close(ours: Any, expected: Any) -> None:
  # float32 sums in another order, relative to the largest element
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * float(abs(b).max())), ours, expected
  )


def test_logits_are_the_product_without_the_padding():
  scores = scores_of()
  assert_close(scores.logits(), jnp.einsum("bkd,vd->bkv", scores.features, scores.table) + scores.bias[None, None])


@pytest.mark.parametrize("scale", [1.0, 1e3], ids=["", "logits in the thousands"])
def test_loss_and_gradient_are_those_of_the_plain_loss(scale: float):
  scores, (labels, weights) = scores_of(scale), labels_and_weights()
  ours = jax.jit(jax.value_and_grad(lambda s: 3.0 * s.cross_entropy(labels, weights)[0]))(scores)
  assert_close(ours, jax.value_and_grad(lambda s: 3.0 * plain(s, labels, weights))(scores))


@pytest.mark.parametrize("multiple", [1, 64, 128])
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_any_number_of_blocks_and_any_padding_give_the_same(count: int, multiple: int):
  scores, (labels, weights) = scores_of(), labels_and_weights()
  arguments = (scores, labels, weights)
  loss, gradient = jax.value_and_grad(plain)(*arguments)
  settings = {"count": count, "multiple": multiple}
  nats, right = jax.jit(partial(vocabulary._block_predictions, **settings))(scores, labels)
  sums, ours = jax.jit(partial(vocabulary._block_sums_and_gradient, **settings))(*arguments)
  is_best = jnp.argmax(scores.logits(), axis=-1) == labels
  assert_close((sums, ours), ((loss, jnp.sum(is_best * weights)), gradient))
  assert_close((jnp.sum(nats * weights), right), (loss, is_best.astype(jnp.float32)))


def test_blocks_have_the_bytes_that_they_may_and_divide_the_rows_of_a_device():
  scores = scores_of()
  row = 4 * K * V
  assert num_blocks(scores, shards=1) == 1
  assert num_blocks(scores, shards=1, block_bytes=12 * row) == 1
  assert num_blocks(scores, shards=1, block_bytes=6 * row) == 2
  assert num_blocks(scores, shards=1, block_bytes=5 * row) == 3
  assert num_blocks(scores, shards=4, block_bytes=6 * row) == 1
  assert num_blocks(scores, shards=4, block_bytes=2 * row) == 3
  assert num_blocks(scores, shards=2, block_bytes=1) == 6


def test_the_step_does_not_keep_the_logits_of_a_large_batch():
  shape = (256, 20, 8, 30522)  # 625 MB of logits
  scores = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), jax.eval_shape(lambda: scores_of(1, shape)))
  rows = jax.ShapeDtypeStruct(shape[:2], jnp.int32), jax.ShapeDtypeStruct(shape[:2], jnp.float32)
  step = jax.jit(jax.value_and_grad(lambda s, y, w: s.cross_entropy(y, w)[0]))
  memory = step.lower(scores, *rows).compile().memory_analysis()
  assert memory.temp_size_in_bytes < 4 * vocabulary.BLOCK_BYTES
