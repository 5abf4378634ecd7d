"""The product of features with the word table, and the cross-entropy over it without all logits in memory at once.

The logits are a batch's largest array by far: 2.4 GB for BERT's 256 sequences of 76 predictions over 30,522 words,
and a loss that is written down plainly keeps several of them for the backward pass. Here a block of rows is multiplied
out, scored and differentiated in one go, and only sums leave it.

B batch rows, K predictions a row, D features, V vocabulary.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Float, Float32, Int

from bert_jax.models.arrays import Array

VOCABULARY_MULTIPLE = 128  # lanes of a TPU register: a vocabulary of another size wastes part of every tile
# Of one block's logits on one device: large enough for products to be efficient, small beside a model's other memory.
BLOCK_BYTES = 128 * 2**20


@struct.dataclass
class VocabularyScores:
  """Scores of every word, not yet multiplied out: features @ table.T + bias.

  Attributes:
    features: of the dtype to multiply in.
    table: the word embeddings.
    bias: of each word.
  """

  features: Float[Array, "B K D"]
  table: Float32[Array, "V D"]
  bias: Float32[Array, " V"]

  def logits(self) -> Float32[Array, "B K V"]:
    """All scores, multiplied out."""
    table, bias = _padded(self, VOCABULARY_MULTIPLE)
    return _logits(self.features, table, bias)[..., : self.bias.size]

  def at(self, positions: Int[Array, "B N"]) -> "VocabularyScores":
    """The scores of some of the K predictions, by their number."""
    return self.replace(features=jnp.take_along_axis(self.features, positions[..., None], axis=1))  # pyright: ignore[reportAttributeAccessIssue]

  def cross_entropy(
    self, labels: Int[Array, "B K"], weights: Float32[Array, "B K"], num_shards: int = 1
  ) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """-log softmax at the label in nats, and whether the label has the highest score, both summed over the batch.

    Args:
      weights: by which each prediction counts.
      num_shards: devices over which the rows are spread; it divides B.

    Returns:
      The two sums. The gradient of the first reaches features, table and bias.
    """
    return _cross_entropy(self, labels, weights, num_shards)

  def predictions(
    self, labels: Int[Array, "B K"], num_shards: int = 1
  ) -> tuple[Float32[Array, "B K"], Float32[Array, "B K"]]:
    """-log softmax at each label in nats, and 1 where the label has the highest score; without a gradient.

    Args:
      num_shards: devices over which the rows are spread; it divides B.
    """
    return _by_platform(_block_predictions, num_shards, self, labels)


def divergence(
  scores: VocabularyScores,
  teacher: VocabularyScores,
  weights: Float32[Array, "B K"],
  temperature: float,
  num_shards: int = 1,
) -> Float32[Array, ""]:
  """temperature² · KL(teacher's softmax ‖ own softmax), of logits / temperature, in nats, summed over the batch.

  Hinton et al. 2015, section 2, have the factor: with it gradients keep their size at any temperature. A block's logits
  are made again for the gradient.
  """

  @jax.checkpoint
  def block(own: Array, other: Array, weights: Array) -> Array:
    ours, theirs = (
      jax.nn.log_softmax(_logits(features, *_padded(of, 1)) / temperature, axis=-1)
      for features, of in ((own, scores), (other, teacher))
    )
    return jnp.sum(weights * jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1))

  rows, count = (scores.features, teacher.features, weights), num_blocks(scores, num_shards, BLOCK_BYTES // 2)
  total, _ = _over_blocks(lambda *some: (block(*some), ()), rows, count)
  return temperature**2 * total


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _cross_entropy(scores: VocabularyScores, labels: Array, weights: Array, num_shards: int) -> Any:
  nats, right = scores.predictions(labels, num_shards)
  return jnp.sum(nats * weights), jnp.sum(right * weights)


def _forward(scores: VocabularyScores, labels: Array, weights: Array, num_shards: int) -> Any:
  # The gradient is linear in that of the sum, so it is made here, where the logits are, and scaled in _backward.
  return _by_platform(_block_sums_and_gradient, num_shards, scores, labels, weights)


def _backward(num_shards: int, gradient: VocabularyScores, upstream: tuple[Array, Array]) -> Any:
  del num_shards
  return jax.tree.map(lambda g: (g * upstream[0]).astype(g.dtype), gradient), None, None


_cross_entropy.defvjp(_forward, _backward)


def _by_platform(function: Any, shards: int, scores: VocabularyScores, *rows: Array) -> Any:
  count = num_blocks(scores, shards)
  # On CPU padding the table would be a copy and no gain.
  cpu = functools.partial(function, count=count, multiple=1)
  default = functools.partial(function, count=count, multiple=VOCABULARY_MULTIPLE)
  return lax.platform_dependent(scores, *rows, cpu=cpu, default=default)


def _block_predictions(scores: VocabularyScores, labels: Array, *, count: int, multiple: int) -> tuple[Array, Array]:
  """(nats, right) of each prediction."""
  table, bias = _padded(scores, multiple)

  def block(features: Array, labels: Array) -> Any:
    return (), _score(_logits(features, table, bias), labels)[0]

  return _over_blocks(block, (scores.features, labels), count)[1]


def _block_sums_and_gradient(
  scores: VocabularyScores, labels: Array, weights: Array, *, count: int, multiple: int
) -> tuple[tuple[Array, Array], VocabularyScores]:
  """((nats, right), the gradient of the nats)."""
  table, bias = _padded(scores, multiple)
  dtype, vocab_size = scores.features.dtype, scores.bias.size

  def block(features: Array, labels: Array, weights: Array) -> Any:
    logits = _logits(features, table, bias)
    (nats, right), relative, total = _score(logits, labels)
    sums = (jnp.sum(nats * weights), jnp.sum(right * weights))
    is_label = lax.broadcasted_iota(labels.dtype, logits.shape, 2) == labels[..., None]
    upstream = relative * (weights / total)[..., None] - jnp.where(is_label, weights[..., None], 0)
    # Once in memory, for three products: XLA would compute it again for each.
    upstream = lax.optimization_barrier(upstream.astype(dtype).reshape(-1, bias.size))
    of_features = (upstream @ table).reshape(features.shape)
    rows = (((0,), (0,)), ((), ()))
    of_table = lax.dot_general(
      upstream, features.reshape(-1, features.shape[-1]), rows, preferred_element_type=jnp.float32
    )
    # A sum over the rows, as a product: XLA's CPU reductions over a first axis are several times slower.
    ones = jnp.ones((upstream.shape[0], 1), dtype)
    of_bias = lax.dot_general(ones, upstream, rows, preferred_element_type=jnp.float32)[0]
    return (sums, of_table[:vocab_size], of_bias[:vocab_size]), of_features

  (sums, of_table, of_bias), of_features = _over_blocks(block, (scores.features, labels, weights), count)
  return sums, VocabularyScores(of_features, of_table, of_bias)


def num_blocks(scores: VocabularyScores, shards: int, block_bytes: int = BLOCK_BYTES) -> int:
  """The least number of equal blocks of whole rows whose logits have, on every shard, at most `block_bytes`."""
  rows, predictions, _ = scores.features.shape
  row_bytes = 4 * predictions * scores.bias.size
  counts = [count for count in range(1, rows // shards + 1) if rows // shards % count == 0]
  return next((count for count in counts if rows // shards // count * row_bytes <= block_bytes), counts[-1])


def _over_blocks(block: Any, rows: tuple[Array, ...], count: int) -> tuple[Any, Any]:
  """What `block` returns first, summed over `count` blocks of the rows; what it returns second, for all rows."""
  if count == 1:
    return block(*rows)
  # Row i goes to block i mod count, so that rows stay on their devices.
  blocks = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1), rows)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(block, *(x[0] for x in blocks))[0])

  def add(total: Any, some: tuple[Array, ...]) -> tuple[Any, Any]:
    sums, per_row = block(*some)
    return jax.tree.map(jnp.add, total, sums), per_row

  total, per_row = lax.scan(add, zeros, blocks)
  return total, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), per_row)


def _padded(scores: VocabularyScores, multiple: int) -> tuple[Array, Array]:
  """Table and bias with rows added that no softmax sees, up to a multiple."""
  padding = -scores.bias.size % multiple
  table = jnp.pad(scores.table.astype(scores.features.dtype), ((0, padding), (0, 0)))
  return table, jnp.pad(scores.bias, (0, padding), constant_values=jnp.finfo(jnp.float32).min)


def _logits(
  features: Float[Array, "B K D"], table: Float[Array, "V D"], bias: Float[Array, " V"]
) -> Float32[Array, "B K V"]:
  return jnp.einsum("bkd,vd->bkv", features, table, preferred_element_type=jnp.float32) + bias[None, None]


def _score(
  logits: Float32[Array, "B K V"], labels: Int[Array, "B K"]
) -> tuple[Any, Float32[Array, "B K V"], Float32[Array, "B K"]]:
  """((nats, right), [B, K] each); exp(logits − max), and its sum over V."""
  # Always logits below their maximum: differences of large numbers would lose the digits that they share.
  highest = jnp.max(logits, axis=-1)
  relative = jnp.exp(logits - highest[..., None])
  total = jnp.sum(relative, axis=-1)
  chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0] - highest
  # The label is right where its logit is the highest: an argmax would be another pass.
  return (jnp.log(total) - chosen, (chosen >= 0).astype(jnp.float32)), relative, total
