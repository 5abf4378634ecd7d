"""ALBERT's encoder: narrow embeddings, and one or a few sets of parameters for all layers (Lan et al. 2019, 3.1).

B batch, T tokens, D hidden size, E embedding size, L layers, G groups, I blocks in a group.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Float, UInt32

from bert_jax.architectures import AlbertConfig
from bert_jax.models.arrays import Array
from bert_jax.models.attention import Visible
from bert_jax.models.bert import Block, Embeddings
from bert_jax.models.dropout import Noise, OutsideLayers, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule, rematerialized
from bert_jax.models.inputs import Inputs


class Group(EncoderModule):
  """One layer: the I blocks of a group in a row, each with parameters of its own."""

  @nn.compact
  def __call__(
    self, x: Float[Array, "B T D"], visible: Visible, noise: Noise | None, layer: UInt32[Array, ""]
  ) -> tuple[Float[Array, "B T D"], Any]:
    c: AlbertConfig = self.config
    records = []
    for number in range(c.blocks_per_group):
      application = layer * c.blocks_per_group + number
      x, record = Block(**self.settings(), name=f"block_{number}")(x, visible, noise, application)
      records.append(record)
    return x, jax.tree.map(lambda *x: jnp.stack(x), *records) if self.record else None


class AlbertEncoder(EncoderModule):
  """Embeddings of width E, a linear layer to D, and L layers; layer i has the parameters of group i · G // L.

  It records each application of a block, L · I in all, as Hugging Face does.
  """

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    c: AlbertConfig = self.config
    embeddings = Embeddings(**self.settings(), size=c.embedding_size, name="embeddings")
    place = outside_layers(noise, c.num_layers * c.blocks_per_group, OutsideLayers.EMBEDDINGS)
    embedded, words = embeddings(inputs, place)
    x = projected = self.dense(c.hidden_size, "projection")(embedded).astype(jnp.float32)
    visible = inputs.visible()
    records = []
    layers = [layer * c.num_groups // c.num_layers for layer in range(c.num_layers)]
    for group in range(c.num_groups):
      x, record = self._repeat(group, layers.index(group), layers.count(group), x, visible, noise)
      records.append(record)
    if self.record:  # from [layers of the group, I, …] to [applications, …]
      records = jax.tree.map(lambda r: r.reshape(-1, *r.shape[2:]), records)
    return self.encoded(x, words, projected, records)

  def _repeat(self, group: int, first: int, length: int, x: Any, *shared: Any) -> Any:
    """`length` applications of one group, whose parameters they share."""
    repeated: Any = nn.scan(
      rematerialized(Group, self.remat, prevent_cse=not self.scan_layers),
      variable_broadcast="params",
      split_rngs={"params": False},
      in_axes=(nn.broadcast, nn.broadcast, 0),  # pyright: ignore[reportArgumentType]
      length=length,
      unroll=1 if self.scan_layers else length,
    )
    layers = jnp.arange(first, first + length, dtype=jnp.uint32)
    return repeated(**self.settings(), name=f"group_{group}")(x, *shared, layers)
