"""ELECTRA's encoder and its heads (Clark et al. 2020; google-research/electra, model/modeling.py).

B batch, T tokens, S beam of starts, D hidden size, E embedding size, L layers.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Int

from bert_jax.architectures import ElectraConfig
from bert_jax.models.arrays import Array
from bert_jax.models.bert import Block, Embeddings
from bert_jax.models.dropout import Noise, OutsideLayers, dropout, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule, activate
from bert_jax.models.inputs import Inputs


class ElectraEncoder(EncoderModule):
  """BERT's blocks behind embeddings of width E and, where E is not D, a linear layer."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    c: ElectraConfig = self.config
    embeddings = Embeddings(**self.settings(), size=c.embedding_size, name="embeddings")
    x, words = embeddings(inputs, outside_layers(noise, c.num_layers, OutsideLayers.EMBEDDINGS))
    if c.embedding_size != c.hidden_size:
      x = self.dense(c.hidden_size, "projection")(x).astype(jnp.float32)
    embedded = x
    x, record = self.stack(Block, c.num_layers, x, inputs.visible(), noise)
    return self.encoded(x, words, embedded, [record])


class ElectraPooler(EncoderModule):
  """Dropout and a GELU layer over the first token.

  This is Hugging Face's head. The original has no such layer: it is `pooling="first"` of a classifier.
  """

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B D"]:
    del attention_mask
    first = dropout(hidden[:, 0], self.head_rate(), noise)
    return activate(self.dense(self.config.hidden_size, "dense")(first).astype(jnp.float32), "gelu")


class DiscriminatorHead(EncoderModule):
  """Which tokens were replaced: logits, above 0 for replaced (get_discriminator_output)."""

  @nn.compact
  def __call__(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B T"]:
    x = self.activation(self.dense(self.config.hidden_size, "dense")(hidden))
    return self.dense(1, "output")(x).astype(jnp.float32)[..., 0]


class ElectraSpanHead(EncoderModule):
  """Start, end given the start, and answerability (finetune/qa/qa_tasks.py)."""

  joint_size: int = 512  # of the layers that join two vectors, as there

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], starts: Int[Array, "B S"]
  ) -> tuple[Float[Array, "B T"], Float[Array, "B S T"], Float[Array, " B"]]:
    """Scores of a span.

    Args:
      starts: to score ends for: the gold start in training, the best S otherwise.

    Returns:
      Logits: of starts, of ends, and of "has no answer".
    """
    start_logits = self.dense(1, "start")(hidden).astype(jnp.float32)[..., 0]
    start_logits = jnp.where(attention_mask, start_logits, start_logits - 1000.0)
    chosen = jnp.take_along_axis(hidden, starts[..., None], axis=1)
    joint = _joined(chosen[:, :, None], hidden[:, None])
    ends = self.dense(1, "end_output")(activate(self.dense(self.joint_size, "end")(joint), "gelu"))
    end_logits = ends.astype(jnp.float32)[..., 0]
    end_logits = jnp.where(attention_mask[:, None], end_logits, end_logits - 1000.0)
    expected = jnp.einsum("bt,btd->bd", jax.nn.softmax(start_logits, axis=-1), hidden)
    joint = jnp.concatenate([hidden[:, 0], expected], axis=-1)
    answer = self.dense(1, "answer_output")(activate(self.dense(self.joint_size, "answer")(joint), "gelu"))
    return start_logits, end_logits, answer.astype(jnp.float32)[..., 0]


def _joined(one: Array, other: Array) -> Any:
  """[B, S, 1, D] and [B, 1, T, D] → [B, S, T, 2D]."""
  shape = (one.shape[0], one.shape[1], other.shape[2], one.shape[3])
  return jnp.concatenate([jnp.broadcast_to(one, shape), jnp.broadcast_to(other, shape)], axis=-1)
