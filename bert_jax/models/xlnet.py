"""XLNet's encoder: relative attention in one or two streams, with a memory (Yang et al. 2019; xlnet, modeling.py).

B batch, T tokens, M tokens of memory, S = M + T keys, K predictions, D hidden size, H heads, C = D / H, L layers.

The content stream reads every token's own content. The query stream, of the K tokens to predict, reads their place but
not their content; both have the same parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Float32, Int, UInt32

from bert_jax.architectures import XlnetConfig
from bert_jax.models.arrays import Array
from bert_jax.models.attention import attention
from bert_jax.models.dropout import InLayer, Noise, OutsideLayers, dropout, in_layer, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule, activate
from bert_jax.models.inputs import Inputs


class XlnetBlock(EncoderModule):
  """Relative attention and feed-forward (post-LN), for the content stream and, where there is one, the query stream."""

  @nn.compact
  def __call__(
    self,
    streams: tuple[Float[Array, "B T D"], Float[Array, "B K D"] | None],
    masks: tuple[Bool[Array, "B 1 T S"], Bool[Array, "B 1 T S"]],
    same_segment: Bool[Array, "B T S"],
    distances: Float[Array, "1 P D"],
    target_mapping: Float[Array, "B K T"] | None,
    memory: Float[Array, "L B M D"] | None,
    noise: Noise | None,
    layer: UInt32[Array, ""],
  ) -> tuple[Any, Any]:
    """One layer.

    Args:
      streams: content and, where there is one, query.
      masks: where the content and the query stream may look.
      same_segment: whether query and key are of one segment.
      distances: the P = S + T encoded distances from S to 1 - T.
      target_mapping: which token each prediction is; None without a query stream.
      memory: every layer's inputs before this segment.
      noise, layer: see `bert.Block`.
    """
    c: XlnetConfig = self.config
    content, asking = streams
    seen = content if memory is None else jnp.concatenate([memory[layer], content], axis=1)
    project = {name: self.dense(c.hidden_size, name, use_bias=False) for name in ("query", "key", "value", "position")}
    shape = (c.num_heads, c.hidden_size // c.num_heads)
    biases = {
      name: self.param(f"{name}_bias", self.kernel_init(), shape) for name in ("content", "position", "segment")
    }
    segments = self.param("segments", self.kernel_init(), (2, *shape))  # same, other
    key, value = (self.split_heads(project[name](seen)) for name in ("key", "value"))
    position = self.split_heads(project["position"](distances))[0]
    scale = shape[1] ** -0.5

    def attend(query: Array, mask: Array, place: Noise | None) -> Any:
      """[B, T, H, C] → [B, T, H, C] and the probabilities [B, H, T, S]."""
      asked = {name: query + bias.astype(query.dtype)[None, None] for name, bias in biases.items()}
      by_distance = jnp.einsum("bthc,phc->bhtp", asked["position"] * scale, position.astype(query.dtype))
      by_segment = jnp.einsum("bthc,shc->bhts", asked["segment"] * scale, segments.astype(query.dtype))
      same, other = by_segment[..., :1], by_segment[..., 1:]
      bias = shift(by_distance, key.shape[1]) + jnp.where(same_segment[:, None], same, other)
      return attention(
        asked["content"],
        key,
        value,
        mask,
        scale=scale,
        bias=bias.astype(jnp.float32),
        dropout_rate=c.attention_dropout,
        noise=place,
        implementation="explicit" if self.record else self.attention_implementation,
      )

    output, inner = (
      self.dense(c.hidden_size, "attention_output", use_bias=False),
      self.dense(c.intermediate_size, "intermediate"),
    )
    outer, norms = self.dense(c.hidden_size, "output"), [self.layer_norm(n) for n in ("attention_norm", "output_norm")]

    def place(where: InLayer, stream: int) -> Noise | None:
      return in_layer(noise, layer, where + stream)

    def finish(x: Array, mixed: Array, stream: int) -> Array:
      attended = output(mixed.reshape(x.shape))
      x = norms[0](x + dropout(attended, c.hidden_dropout, place(InLayer.ATTENTION_OUTPUT, stream)))
      hidden = dropout(self.activation(inner(x)), c.hidden_dropout, place(InLayer.INNER, stream))
      return norms[1](x + dropout(outer(hidden), c.hidden_dropout, place(InLayer.OUTPUT, stream)))

    in_content, in_query = 0, int(InLayer.QUERY_STREAM)
    query = self.split_heads(project["query"](content))
    mixed, probabilities = attend(query, masks[0], place(InLayer.ATTENTION, in_content))
    new_content = finish(content, mixed, in_content)
    if asking is None:
      return (new_content, None), self.recorded(new_content, probabilities)
    assert target_mapping is not None
    mapping = target_mapping.astype(self.dtype)
    query = jnp.einsum("bkhc,bkt->bthc", self.split_heads(project["query"](asking)), mapping)
    mixed, _ = attend(query, masks[1], place(InLayer.ATTENTION, in_query))
    mixed = jnp.einsum("bthc,bkt->bkhc", mixed, mapping)
    return (new_content, finish(asking, mixed, in_query)), self.recorded(new_content, probabilities)


def shift(by_distance: Float[Array, "B H T P"], keys: int) -> Float[Array, "B H T {keys}"]:
  """Scores by distance to scores by key; entry [i, j] from column T - i + j."""
  batch, heads, length, columns = by_distance.shape
  # Read with rows one shorter, each row starts one column later than the one before.
  turned = by_distance.reshape(batch, heads, columns, length)[:, :, 1:]
  return turned.reshape(batch, heads, length, columns - 1)[..., :keys]


def encode_distances(length: int, keys: int, size: int, clamp: int) -> Float32[Array, "1 {keys}+{length} {size}"]:
  """Sines, then cosines, of the distances from `keys` down to 1 - `length`."""
  distances = jnp.arange(keys, -length, -1, dtype=jnp.float32)
  if clamp > 0:
    distances = jnp.clip(distances, -clamp, clamp)
  frequencies = 1.0 / 10000.0 ** (jnp.arange(0, size, 2, dtype=jnp.float32) / size)
  angles = distances[:, None] * frequencies[None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[None]


class XlnetEncoder(EncoderModule):
  """Word embeddings and L layers; there is no table of positions, and no length that is too long."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> Encoded:
    """Encodes a batch, padded on either side. Its `hidden` is the query stream [B, K, D] where there is one."""
    c: XlnetConfig = self.config
    assert c.vocab_size is not None
    target_mapping, memory, segment_ids = inputs.target_mapping, inputs.memory, inputs.segment_ids
    words = self.param("words", self.kernel_init(), (c.vocab_size, c.hidden_size))
    mask_embedding = self.param("mask_embedding", self.kernel_init(), (1, 1, c.hidden_size))

    def drop(x: Array, place: OutsideLayers) -> Array:
      return dropout(x, c.hidden_dropout, outside_layers(noise, c.num_layers, place))

    content = drop(words[inputs.token_ids], OutsideLayers.EMBEDDINGS)
    asking = None
    if target_mapping is not None:
      shape = (*target_mapping.shape[:2], c.hidden_size)
      asking = drop(jnp.broadcast_to(mask_embedding, shape), OutsideLayers.QUERY_STREAM)
    batch, length = inputs.token_ids.shape
    past = 0 if memory is None else memory.shape[2]
    looks = jnp.broadcast_to(inputs.visible().mask()[:, 0], (batch, length, length))
    if inputs.hidden_tokens is not None:
      looks &= ~inputs.hidden_tokens
    itself = looks | jnp.eye(length, dtype=bool)[None]  # a token's content is always seen by the content stream
    remembered = jnp.ones((batch, past), bool) if inputs.memory_mask is None else inputs.memory_mask
    before = jnp.broadcast_to(remembered[:, None], (batch, length, past))
    masks = tuple(jnp.concatenate([before, part], axis=2)[:, None] for part in (itself, looks))
    padded = jnp.concatenate([jnp.zeros((batch, past), segment_ids.dtype), segment_ids], axis=1)
    same_segment = segment_ids[:, :, None] == padded[:, None]
    distances = encode_distances(length, past + length, c.hidden_size, c.clamp_length)
    if (place := outside_layers(noise, c.num_layers, OutsideLayers.DISTANCES)) is not None:
      distances = dropout(distances, c.hidden_dropout, Noise(place.seed, jnp.zeros(1, jnp.uint32)))
    embedded, shared = content, (masks, same_segment, distances, target_mapping, memory, noise)
    (content, asking), record = self.stack(XlnetBlock, c.num_layers, (content, asking), *shared)
    hidden = drop(content if asking is None else asking, OutsideLayers.LAST)
    return self.encoded(hidden, words, embedded, [record])


def remember(
  hidden_states: Float[Array, "states B T D"], memory: Float[Array, "L B M D"] | None, config: XlnetConfig
) -> Float[Array, "L B N D"]:
  """The memory for the next segment: the inputs of every layer, the newest `memory_length`, without gradient.

  Args:
    hidden_states: L + 1 of them, of an encoder that records.
    memory: what was remembered before.
  """
  new = hidden_states[:-1, :, : config.reuse_length]
  if memory is not None:
    new = jnp.concatenate([memory, new], axis=2)
  if config.memory_length:
    new = new[:, :, -config.memory_length :]
  return jax.lax.stop_gradient(new)


# ---- heads ------------------------------------------------------------------------------------------------------


class XlnetPooler(EncoderModule):
  """tanh layer over the last token of the text, which is <cls>."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], noise: Noise | None = None
  ) -> Float[Array, "B D"]:
    del noise
    places = jnp.arange(hidden.shape[1])
    last = jnp.max(jnp.where(attention_mask, places[None], 0), axis=1)
    chosen = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    return jnp.tanh(self.dense(self.config.hidden_size, "dense")(chosen).astype(jnp.float32))


class XlnetSpanHead(EncoderModule):
  """Start, end given the start, and answerability (run_squad.py; Hugging Face's XLNetForQuestionAnswering)."""

  @nn.compact
  def __call__(
    self, hidden: Float[Array, "B T D"], attention_mask: Bool[Array, "B T"], starts: Int[Array, "B N"]
  ) -> tuple[Float[Array, "B T"], Float[Array, "B N T"], Float[Array, " B"]]:
    """Scores of a span.

    Args:
      attention_mask: not read, as there: who searches leaves out what is no part of the text.
      starts: to score ends for: the gold start in training, the best few otherwise.

    Returns:
      Logits: of starts, of ends, and of "has no answer".
    """
    del attention_mask
    size = self.config.hidden_size
    start_logits = self.dense(1, "start")(hidden).astype(jnp.float32)[..., 0]
    chosen = jnp.take_along_axis(hidden, starts[..., None], axis=1)
    shape = (*starts.shape, hidden.shape[1], size)
    joint = [jnp.broadcast_to(hidden[:, None], shape), jnp.broadcast_to(chosen[:, :, None], shape)]
    ends = self.layer_norm("end_norm")(activate(self.dense(size, "end")(jnp.concatenate(joint, axis=-1)), "tanh"))
    end_logits = self.dense(1, "end_output")(ends).astype(jnp.float32)[..., 0]
    expected = jnp.einsum("bt,btd->bd", jax.nn.softmax(start_logits, axis=-1), hidden)
    joint = jnp.concatenate([expected, hidden[:, -1]], axis=-1)
    answer = self.dense(1, "answer_output", use_bias=False)(activate(self.dense(size, "answer")(joint), "tanh"))
    return start_logits, end_logits, answer.astype(jnp.float32)[..., 0]
