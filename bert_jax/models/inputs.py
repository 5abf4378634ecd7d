"""What an encoder reads.

B batch, T tokens, S sequences of a row, K predictions, M tokens of memory, D hidden size, L layers.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int

from bert_jax.models.arrays import Array
from bert_jax.models.attention import Visible

_NAMES = ("token_ids", "segment_ids", "attention_mask")
_OPTIONAL = ("position_ids", "sequence_ids", "sequence_starts")


@struct.dataclass
class Inputs:
  """A batch of sequences.

  Attributes:
    token_ids: the tokens.
    segment_ids: which text of a pair a token is of; not read by every architecture.
    attention_mask: False on padding.
    position_ids: of each token, where that is not its place in the row; read where positions are absolute.
    sequence_ids: which of several sequences packed into a row a token is of: a token looks at its own only.
    sequence_starts: where each of a row's sequences begins; with it a row has a vector for each of them.
    hidden_tokens: XLNet: True where a token (row) may not look at another in the factorization order.
    target_mapping: XLNet: one-hot, which token each prediction is. With it there is a query stream.
    memory: XLNet: every layer's inputs before this segment, from `remember`; it counts as segment 0.
    memory_mask: which of it there is; None: all.
  """

  token_ids: Int[Array, "B T"]
  segment_ids: Int[Array, "B T"]
  attention_mask: Bool[Array, "B T"]
  position_ids: Int[Array, "B T"] | None = None
  sequence_ids: Int[Array, "B T"] | None = None
  sequence_starts: Int[Array, "B S"] | None = None
  hidden_tokens: Bool[Array, "B T T"] | None = None
  target_mapping: Float[Array, "B K T"] | None = None
  memory: Float[Array, "L B M D"] | None = None
  memory_mask: Bool[Array, "B M"] | None = None

  @classmethod
  def of(cls, batch: Mapping[str, Any]) -> "Inputs":
    """The inputs among a batch's arrays."""
    return cls(**{name: batch[name] for name in _NAMES}, **{name: batch[name] for name in _OPTIONAL if name in batch})

  def visible(self) -> Visible:
    """Where tokens may look: at what is no padding, and of their own sequence."""
    return Visible(self.attention_mask, self.sequence_ids)


def example(length: int = 2) -> Inputs:
  """One row of zeros, to initialize a network with."""
  zeros = jnp.zeros((1, length), jnp.int32)
  return Inputs(zeros, zeros, zeros == 0)


def flat(inputs: Inputs) -> Inputs:
  """[B, A, T] as [B · A, T], as multiple choice reads its answers."""
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), inputs)
