"""Hugging Face's names and shapes of every encoder's arrays, as its modules have them in 4.57 and 5.

D hidden size, H heads, C = D / H, E embedding size, L layers.
"""

from collections.abc import Iterator

import numpy as np

from bert_jax.architectures import AlbertConfig, DebertaConfig, DebertaV2Config, ElectraConfig
from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.interop.entries import Entry, Place
from bert_jax.models.family import architecture_of

# The name that Hugging Face gives the encoder inside a model with a head.
PREFIX = {
  "bert": "bert",
  "roberta": "roberta",
  "distilbert": "distilbert",
  "albert": "albert",
  "electra": "electra",
  "xlnet": "transformer",
  "deberta": "deberta",
  "deberta-v2": "deberta",
  "modernbert": "model",
}


def encoder(c: EncoderConfig, enhanced: bool) -> Iterator[Entry]:
  """The encoder's arrays, without a prefix; for `enhanced`, see `DebertaEncoder`."""
  name = architecture_of(c).name
  root = Place(("encoder",), "")
  if name in ("bert", "roberta", "electra"):
    assert isinstance(c, ModelConfig)
    yield from _embeddings(root, c)
    if isinstance(c, ElectraConfig) and c.embedding_size != c.hidden_size:
      yield from root.dense("projection", "embeddings_project")
    for layer in range(c.num_layers):
      yield from _bert_block(Place(("encoder", "layers"), f"encoder.layer.{layer}.", layer), "attention.self.")
  elif name == "distilbert":
    assert isinstance(c, ModelConfig)
    yield from _embeddings(root, c)
    for layer in range(c.num_layers):
      yield from _distilbert_block(Place(("encoder", "layers"), f"transformer.layer.{layer}.", layer))
  elif name == "albert":
    assert isinstance(c, AlbertConfig)
    yield from _embeddings(root, c)
    yield from root.dense("projection", "encoder.embedding_hidden_mapping_in")
    for group in range(c.num_groups):
      for block in range(c.blocks_per_group):
        theirs = f"encoder.albert_layer_groups.{group}.albert_layers.{block}."
        yield from _albert_block(Place(("encoder", f"group_{group}", f"block_{block}"), theirs))
  elif name == "xlnet":
    yield from _xlnet(c)
  elif name in ("deberta", "deberta-v2"):
    assert isinstance(c, DebertaConfig)
    yield from _deberta(c, enhanced)
  else:
    yield from _modernbert(c)


def _embeddings(place: Place, c: ModelConfig) -> Iterator[Entry]:
  yield place.array("embeddings.words", "embeddings.word_embeddings.weight")
  yield place.array("embeddings.positions", "embeddings.position_embeddings.weight")
  if c.type_vocab_size:
    yield place.array("embeddings.segments", "embeddings.token_type_embeddings.weight")
  yield from place.norm("embeddings.layer_norm", "embeddings.LayerNorm")


def _bert_block(place: Place, attention: str) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"{attention}{name}")
  yield from _after_attention(place)


def _after_attention(place: Place) -> Iterator[Entry]:
  yield from place.dense("attention_output", "attention.output.dense")
  yield from place.norm("attention_norm", "attention.output.LayerNorm")
  yield from place.dense("intermediate", "intermediate.dense")
  yield from place.dense("output", "output.dense")
  yield from place.norm("output_norm", "output.LayerNorm")


def _distilbert_block(place: Place) -> Iterator[Entry]:
  for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("attention_output", "out")):
    yield from place.dense(ours, f"attention.{theirs}_lin")
  yield from place.norm("attention_norm", "sa_layer_norm")
  yield from place.dense("intermediate", "ffn.lin1")
  yield from place.dense("output", "ffn.lin2")
  yield from place.norm("output_norm", "output_layer_norm")


def _albert_block(place: Place) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"attention.{name}")
  yield from place.dense("attention_output", "attention.dense")
  yield from place.norm("attention_norm", "attention.LayerNorm")
  yield from place.dense("intermediate", "ffn")
  yield from place.dense("output", "ffn_output")
  yield from place.norm("output_norm", "full_layer_layer_norm")


def _xlnet(c: EncoderConfig) -> Iterator[Entry]:
  root = Place(("encoder",), "")
  yield root.array("words", "word_embedding.weight")
  yield root.array("mask_embedding", "mask_emb")
  heads = (c.num_heads, c.hidden_size // c.num_heads)

  def into(x: np.ndarray) -> np.ndarray:  # [D, H, C] → [D, D]
    return x.reshape(x.shape[0], -1)

  def back(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0], *heads)

  for layer in range(c.num_layers):
    place = Place(("encoder", "layers"), f"layer.{layer}.", layer)
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("position", "r")):
      yield place.array(f"{ours}.kernel", f"rel_attn.{theirs}", into, back)
    yield place.array(  # theirs is used transposed: [D, H, C], with the output first
      "attention_output.kernel", "rel_attn.o", lambda x: into(x).T, lambda x: back(np.ascontiguousarray(x.T))
    )
    for ours, theirs in (("content", "w"), ("position", "r"), ("segment", "s")):
      yield place.array(f"{ours}_bias", f"rel_attn.r_{theirs}_bias")
    yield place.array("segments", "rel_attn.seg_embed")
    yield from place.norm("attention_norm", "rel_attn.layer_norm")
    yield from place.dense("intermediate", "ff.layer_1")
    yield from place.dense("output", "ff.layer_2")
    yield from place.norm("output_norm", "ff.layer_norm")


def _deberta(c: DebertaConfig, enhanced: bool) -> Iterator[Entry]:
  root = Place(("encoder",), "")
  yield root.array("words", "embeddings.word_embeddings.weight")
  if c.input_positions or enhanced:
    yield root.array("positions", "embeddings.position_embeddings.weight")
  if c.type_vocab_size:
    yield root.array("segments", "embeddings.token_type_embeddings.weight")
  yield from root.norm("embedding_norm", "embeddings.LayerNorm")
  yield root.array("relative_table", "encoder.rel_embeddings.weight")
  convolves = False
  if isinstance(c, DebertaV2Config):
    if c.norm_relative_table:
      yield from root.norm("relative_norm", "encoder.LayerNorm")
    convolves = c.convolution_size > 0
    if convolves:
      kernel = (lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0))  # [out, in, size] ↔ [size, in, out]
      yield root.array("convolution.kernel", "encoder.conv.conv.weight", *kernel)
      yield root.array("convolution.bias", "encoder.conv.conv.bias")
      yield from root.norm("convolution.layer_norm", "encoder.conv.LayerNorm")
  alone = 1 if convolves and c.num_layers > 1 else 0
  for layer in range(c.num_layers):
    theirs = f"encoder.layer.{layer}."
    if layer == c.num_layers - 1:
      place = Place(("encoder", "last"), theirs)
    elif layer < alone:
      place = Place(("encoder", "first"), theirs)
    else:
      place = Place(("encoder", "layers"), theirs, layer - alone)
    if isinstance(c, DebertaV2Config):
      yield from _deberta_v2_attention(place, c)
    else:
      yield from _deberta_attention(place, c)
    yield from _after_attention(place)


def _deberta_attention(place: Place, c: DebertaConfig) -> Iterator[Entry]:
  shape, size = (c.num_heads, 3, c.hidden_size // c.num_heads), c.hidden_size

  def into(x: np.ndarray) -> np.ndarray:  # rows by head, then query, key, value; ours have query, key, value first
    return x.reshape(*shape, size).transpose(3, 1, 0, 2).reshape(size, 3 * size)

  def back(x: np.ndarray) -> np.ndarray:
    return x.reshape(size, 3, shape[0], shape[2]).transpose(2, 1, 3, 0).reshape(3 * size, size)

  yield place.array("query_key_value", "attention.self.in_proj.weight", into, back)
  yield place.array("query_bias", "attention.self.q_bias")
  yield place.array("value_bias", "attention.self.v_bias")
  if c.content_to_position:
    yield from place.dense("position_key", "attention.self.pos_proj", bias=False)
  if c.position_to_content:
    yield from place.dense("position_query", "attention.self.pos_q_proj")


def _deberta_v2_attention(place: Place, c: DebertaV2Config) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"attention.self.{name}_proj")
  if not c.shared_projections:
    if c.content_to_position:
      yield from place.dense("position_key", "attention.self.pos_key_proj")
    if c.position_to_content:
      yield from place.dense("position_query", "attention.self.pos_query_proj")


def _modernbert(c: EncoderConfig) -> Iterator[Entry]:
  root = Place(("encoder",), "")
  yield root.array("words", "embeddings.tok_embeddings.weight")
  yield from root.norm("embedding_norm", "embeddings.norm", bias=False)
  for layer in range(c.num_layers):
    place = Place(("encoder", "layers"), f"layers.{layer}.", layer - 1)
    if layer == 0:
      place = Place(("encoder", "first"), "layers.0.")
    else:
      yield from place.norm("attention_norm", "attn_norm", bias=False)
    yield from place.dense("query_key_value", "attn.Wqkv", bias=False)
    yield from place.dense("attention_output", "attn.Wo", bias=False)
    yield from place.norm("output_norm", "mlp_norm", bias=False)
    yield from place.dense("intermediate", "mlp.Wi", bias=False)
    yield from place.dense("output", "mlp.Wo", bias=False)
  yield from root.norm("final_norm", "final_norm", bias=False)
