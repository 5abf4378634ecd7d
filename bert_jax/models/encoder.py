"""What every part of every encoder knows, and what an encoder returns.

B batch, T tokens, D hidden size, H heads, L layers, V vocabulary, E embedding size.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Bool, Float

from bert_jax.architectures import EncoderConfig
from bert_jax.models.arrays import Array
from bert_jax.models.attention import Implementation
from bert_jax.models.dense import dense_product

Remat = Literal["none", "dots", "full"]


@struct.dataclass
class Encoded:
  """An encoder's outputs.

  Attributes:
    hidden: after the last layer; of XLNet with a query stream, [B, K, D].
    words: the word table, which heads share.
    hidden_states: the embeddings and what each layer made of them, L + 1 states; where `record` is set.
    attentions: the probabilities before dropout; where `record` is set.
  """

  hidden: Float[Array, "B T D"]
  words: Float[Array, "V E"]
  hidden_states: Float[Array, "states B T D"] | None = None
  attentions: Float[Array, "L B H T T"] | None = None


class EncoderModule(nn.Module):
  """The model's settings and those of its computation.

  Attributes:
    config: sizes and rates.
    dtype: of matrix products; parameters, LayerNorm and softmax stay float32.
    attention_implementation: see `attention`.
    scan_layers: one compiled block in a loop, or L blocks in a row; the parameters are the same.
    remat: what of each block is computed again in the backward pass, see `rematerialized`.
    record: return what every layer did; its attention is then explicit.
  """

  config: Any
  dtype: Any = jnp.float32
  attention_implementation: Implementation = "explicit"
  scan_layers: bool = False
  remat: Remat = "none"
  record: bool = False

  def settings(self) -> dict[str, Any]:
    """This module's attributes, for a part of it."""
    names = EncoderModule.__dataclass_fields__
    return {name: getattr(self, name) for name in names if name not in ("parent", "name")}

  def kernel_init(self) -> nn.initializers.Initializer:
    """Of kernels and embeddings. TF's truncation at two standard deviations does not rescale the variance."""
    c: EncoderConfig = self.config
    deviation = c.initializer_range
    if c.initializer == "normal":
      return nn.initializers.normal(deviation)

    def truncated(key: Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
      del out_sharding
      return deviation * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)

    return truncated

  def dense(self, features: int, name: str, use_bias: bool = True) -> nn.Dense:
    return nn.Dense(
      features,
      use_bias=use_bias,
      dtype=self.dtype,
      kernel_init=self.kernel_init(),
      dot_general=dense_product,
      name=name,
    )

  def layer_norm(self, name: str = "layer_norm", use_bias: bool = True) -> nn.LayerNorm:
    c: EncoderConfig = self.config
    return nn.LayerNorm(
      epsilon=c.layer_norm_eps, use_bias=use_bias, dtype=jnp.float32, use_fast_variance=False, name=name
    )

  def activation(self, x: Array) -> Array:
    return activate(x, self.config.activation)

  def head_activation(self, x: Array) -> Array:
    return activate(x, self.config.head_activation)

  def head_rate(self) -> float:
    """The rate of a task's own dropout."""
    c: EncoderConfig = self.config
    return c.hidden_dropout if c.head_dropout is None else c.head_dropout

  def split_heads(self, x: Float[Array, "... D"]) -> Float[Array, "... H C"]:
    """Parts the last axis into heads of C = D / H."""
    return x.reshape(*x.shape[:-1], self.config.num_heads, -1)

  def stack(self, block: type, length: int, x: Any, *shared: Any, first: int = 0, name: str = "layers") -> Any:
    """Runs `length` blocks in a row, whose parameters are stacked along a first axis.

    Args:
      block: called as (x, *shared, layer) with the layer's number, it returns the next x and what it recorded.
      first: number of the first layer.

    Returns:
      The last x, and what was recorded with a first axis of `length`.
    """
    scanned = nn.scan(
      rematerialized(block, self.remat, prevent_cse=not self.scan_layers),
      variable_axes={"params": 0},
      split_rngs={"params": True},
      in_axes=(*[nn.broadcast] * len(shared), 0),  # pyright: ignore[reportArgumentType]
      length=length,
      unroll=1 if self.scan_layers else length,
    )
    return scanned(**self.settings(), name=name)(x, *shared, jnp.arange(first, first + length, dtype=jnp.uint32))

  def recorded(self, hidden: Float[Array, "B T D"], probabilities: Float[Array, "B H T S"] | None) -> Any:
    """What a block records, if it does: (hidden states, attention probabilities)."""
    return (hidden, probabilities) if self.record else None

  def encoded(self, hidden: Array, words: Array, embedded: Array, records: list[Any]) -> Encoded:
    """The outputs; `records` are those of the stacks and single blocks, in their order."""
    if not self.record:
      return Encoded(hidden, words)
    # A single block's record lacks the axis of layers.
    stacked = [r if r[0].ndim == 4 else jax.tree.map(lambda x: x[None], r) for r in records]
    states, attentions = (jnp.concatenate(parts) for parts in zip(*stacked, strict=True))
    return Encoded(hidden, words, jnp.concatenate([embedded[None], states]), attentions)


def text_mean(hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
  """The mean over a text's tokens."""
  weights = attention_mask / jnp.maximum(jnp.sum(attention_mask, axis=1, keepdims=True), 1)
  return jnp.einsum("btd,bt->bd", hidden, weights)


def activate(x: Float[Array, "*shape"], name: str) -> Float[Array, "*shape"]:
  """The activation of a name that the settings know."""
  if name == "relu":
    return jax.nn.relu(x)
  if name == "tanh":
    return jnp.tanh(x)
  if name == "gelu_tanh":
    return jax.nn.gelu(x, approximate=True)
  assert name == "gelu", name
  return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))  # jax.nn.gelu goes through erfc, which is slower on CPU


def rematerialized(block: Any, remat: Remat, prevent_cse: bool = True) -> Any:
  """A block whose activations are not kept for the backward pass but computed again there.

  Args:
    remat: `none` keeps all of them; `dots` what the products with weights made, so that attention and what is computed
      number by number is done again; `full` nothing but the block's input.
    prevent_cse: not needed in a loop, where the compiler cannot undo it.
  """
  if remat == "none":
    return block
  policies = jax.checkpoint_policies
  policy = policies.dots_with_no_batch_dims_saveable if remat == "dots" else policies.nothing_saveable
  return nn.remat(block, prevent_cse=prevent_cse, policy=policy)
