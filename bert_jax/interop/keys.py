"""Hugging Face's name and shape of every parameter, architecture by architecture.

An `Entry` pairs one array of theirs with one of ours, or with one layer of ours where ours are stacked. PyTorch's
Linear holds [out, in] where our kernels are [in, out]. The names are those of Hugging Face's modules in 4.57 and 5.

D hidden size, H heads, C = D / H, E embedding size, L layers.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bert_jax.architectures import AlbertConfig, DebertaConfig, DebertaV2Config, ElectraConfig
from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.models.family import architecture_of

Path = tuple[str, ...]
Change = Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
  return x


def _transposed(x: np.ndarray) -> np.ndarray:
  return x.T


@dataclasses.dataclass(frozen=True)
class Entry:
  """One array.

  Attributes:
    path: of our parameter.
    key: their name.
    layer: which row of our stacked array; None for all of it.
    ours: from their array to ours.
    theirs: from our array to theirs.
  """

  path: Path
  key: str
  layer: int | None = None
  ours: Change = _same
  theirs: Change = _same


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a part stands: our path, their prefix, and the layer if it is one of a stack."""

  path: Path
  key: str
  layer: int | None = None

  def array(self, ours: str, theirs: str, into: Change = _same, back: Change = _same) -> Entry:
    return Entry((*self.path, *ours.split(".")), self.key + theirs, self.layer, into, back)

  def dense(self, ours: str, theirs: str, bias: bool = True) -> Iterator[Entry]:
    yield self.array(f"{ours}.kernel", f"{theirs}.weight", _transposed, _transposed)
    if bias:
      yield self.array(f"{ours}.bias", f"{theirs}.bias")

  def norm(self, ours: str, theirs: str, bias: bool = True) -> Iterator[Entry]:
    yield self.array(f"{ours}.scale", f"{theirs}.weight")
    if bias:
      yield self.array(f"{ours}.bias", f"{theirs}.bias")


# ---- encoders ---------------------------------------------------------------------------------------------------

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


def _encoder(c: EncoderConfig, enhanced: bool) -> Iterator[Entry]:
  name = architecture_of(c).name
  root = _Place(("encoder",), "")
  if name in ("bert", "roberta", "electra"):
    assert isinstance(c, ModelConfig)
    yield from _embeddings(root, c)
    if isinstance(c, ElectraConfig) and c.embedding_size != c.hidden_size:
      yield from root.dense("projection", "embeddings_project")
    for layer in range(c.num_layers):
      yield from _bert_block(_Place(("encoder", "layers"), f"encoder.layer.{layer}.", layer), "attention.self.")
  elif name == "distilbert":
    assert isinstance(c, ModelConfig)
    yield from _embeddings(root, c)
    for layer in range(c.num_layers):
      yield from _distilbert_block(_Place(("encoder", "layers"), f"transformer.layer.{layer}.", layer))
  elif name == "albert":
    assert isinstance(c, AlbertConfig)
    yield from _embeddings(root, c)
    yield from root.dense("projection", "encoder.embedding_hidden_mapping_in")
    for group in range(c.num_groups):
      for block in range(c.blocks_per_group):
        theirs = f"encoder.albert_layer_groups.{group}.albert_layers.{block}."
        yield from _albert_block(_Place(("encoder", f"group_{group}", f"block_{block}"), theirs))
  elif name == "xlnet":
    yield from _xlnet(c)
  elif name in ("deberta", "deberta-v2"):
    assert isinstance(c, DebertaConfig)
    yield from _deberta(c, enhanced)
  else:
    yield from _modernbert(c)


def _embeddings(place: _Place, c: ModelConfig) -> Iterator[Entry]:
  yield place.array("embeddings.words", "embeddings.word_embeddings.weight")
  yield place.array("embeddings.positions", "embeddings.position_embeddings.weight")
  if c.type_vocab_size:
    yield place.array("embeddings.segments", "embeddings.token_type_embeddings.weight")
  yield from place.norm("embeddings.layer_norm", "embeddings.LayerNorm")


def _bert_block(place: _Place, attention: str) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"{attention}{name}")
  yield from _after_attention(place)


def _after_attention(place: _Place) -> Iterator[Entry]:
  yield from place.dense("attention_output", "attention.output.dense")
  yield from place.norm("attention_norm", "attention.output.LayerNorm")
  yield from place.dense("intermediate", "intermediate.dense")
  yield from place.dense("output", "output.dense")
  yield from place.norm("output_norm", "output.LayerNorm")


def _distilbert_block(place: _Place) -> Iterator[Entry]:
  for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("attention_output", "out")):
    yield from place.dense(ours, f"attention.{theirs}_lin")
  yield from place.norm("attention_norm", "sa_layer_norm")
  yield from place.dense("intermediate", "ffn.lin1")
  yield from place.dense("output", "ffn.lin2")
  yield from place.norm("output_norm", "output_layer_norm")


def _albert_block(place: _Place) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"attention.{name}")
  yield from place.dense("attention_output", "attention.dense")
  yield from place.norm("attention_norm", "attention.LayerNorm")
  yield from place.dense("intermediate", "ffn")
  yield from place.dense("output", "ffn_output")
  yield from place.norm("output_norm", "full_layer_layer_norm")


def _xlnet(c: EncoderConfig) -> Iterator[Entry]:
  root = _Place(("encoder",), "")
  yield root.array("words", "word_embedding.weight")
  yield root.array("mask_embedding", "mask_emb")
  heads = (c.num_heads, c.hidden_size // c.num_heads)

  def into(x: np.ndarray) -> np.ndarray:  # [D, H, C] → [D, D]
    return x.reshape(x.shape[0], -1)

  def back(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0], *heads)

  for layer in range(c.num_layers):
    place = _Place(("encoder", "layers"), f"layer.{layer}.", layer)
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
  root = _Place(("encoder",), "")
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
      place = _Place(("encoder", "last"), theirs)
    elif layer < alone:
      place = _Place(("encoder", "first"), theirs)
    else:
      place = _Place(("encoder", "layers"), theirs, layer - alone)
    if isinstance(c, DebertaV2Config):
      yield from _deberta_v2_attention(place, c)
    else:
      yield from _deberta_attention(place, c)
    yield from _after_attention(place)


def _deberta_attention(place: _Place, c: DebertaConfig) -> Iterator[Entry]:
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


def _deberta_v2_attention(place: _Place, c: DebertaV2Config) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"attention.self.{name}_proj")
  if not c.shared_projections:
    if c.content_to_position:
      yield from place.dense("position_key", "attention.self.pos_key_proj")
    if c.position_to_content:
      yield from place.dense("position_query", "attention.self.pos_query_proj")


def _modernbert(c: EncoderConfig) -> Iterator[Entry]:
  root = _Place(("encoder",), "")
  yield root.array("words", "embeddings.tok_embeddings.weight")
  yield from root.norm("embedding_norm", "embeddings.norm", bias=False)
  for layer in range(c.num_layers):
    place = _Place(("encoder", "layers"), f"layers.{layer}.", layer - 1)
    if layer == 0:
      place = _Place(("encoder", "first"), "layers.0.")
    else:
      yield from place.norm("attention_norm", "attn_norm", bias=False)
    yield from place.dense("query_key_value", "attn.Wqkv", bias=False)
    yield from place.dense("attention_output", "attn.Wo", bias=False)
    yield from place.norm("output_norm", "mlp_norm", bias=False)
    yield from place.dense("intermediate", "mlp.Wi", bias=False)
    yield from place.dense("output", "mlp.Wo", bias=False)
  yield from root.norm("final_norm", "final_norm", bias=False)


# ---- heads ------------------------------------------------------------------------------------------------------

_ROOT = _Place((), "")


def _mlm_head(c: EncoderConfig, enhanced: bool) -> Iterator[Entry]:
  name = architecture_of(c).name
  dense, norm, bias = {
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    "albert": ("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
    "electra": ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
    "modernbert": ("head.dense", "head.norm", "decoder.bias"),
  }.get(name, ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"))
  if enhanced:
    dense, norm, bias = (f"lm_predictions.lm_head.{part}" for part in ("dense", "LayerNorm", "bias"))
  biased = name != "modernbert"
  yield from _ROOT.dense("mlm_head.dense", dense, biased)
  yield from _ROOT.norm("mlm_head.layer_norm", norm, biased)
  yield _ROOT.array("mlm_head.bias", bias)


# Theirs of the layer that makes a vector of a text for a task.
_POOLERS = {
  "roberta": "classifier.dense",
  "distilbert": "pre_classifier",
  "electra": "classifier.dense",
  "xlnet": "sequence_summary.summary",
  "deberta": "pooler.dense",
  "deberta-v2": "pooler.dense",
}


def _pooler(c: EncoderConfig, network: str) -> Iterator[Entry]:
  name = architecture_of(c).name
  if name == "modernbert":
    yield from _ROOT.dense("pooler.layer.dense", "head.dense", bias=False)
    yield from _ROOT.norm("pooler.layer.layer_norm", "head.norm", bias=False)
  elif name in ("bert", "albert") or (name == "roberta" and network != "sequence_classification"):
    yield from _pretrained_pooler(c, PREFIX[name] + ".")
  elif name == "electra" and network == "multiple_choice":
    yield from _ROOT.dense("pooler.dense", "sequence_summary.summary")
  else:
    yield from _ROOT.dense("pooler.dense", _POOLERS[name])


def _pretrained_pooler(c: EncoderConfig, prefix: str) -> Iterator[Entry]:
  # ALBERT's pooler is a Linear itself, the others' holds one.
  yield from _ROOT.dense("pooler.dense", prefix + ("pooler" if isinstance(c, AlbertConfig) else "pooler.dense"))


def _classifier(c: EncoderConfig, network: str) -> Iterator[Entry]:
  name = architecture_of(c).name
  theirs = "classifier"
  if network == "question_answering":
    theirs = "classifier" if name == "modernbert" else "qa_outputs"
  elif network == "sequence_classification" and name in ("roberta", "electra"):
    theirs = "classifier.out_proj"
  elif network in ("sequence_classification", "multiple_choice") and name == "xlnet":
    theirs = "logits_proj"
  yield from _ROOT.dense("classifier", theirs)


def _head(c: EncoderConfig, network: str) -> Iterator[Entry]:
  name = architecture_of(c).name
  if network in ("pretraining", "masked_lm", "enhanced_masked_lm"):
    yield from _mlm_head(c, network == "enhanced_masked_lm")
  if network in ("pretraining", "sentence_pairs"):
    yield from _pretrained_pooler(c, PREFIX[name] + ".")
    yield from _ROOT.dense("nsp_head", "sop_classifier.classifier" if name == "albert" else "cls.seq_relationship")
  elif network == "replaced_tokens":
    yield from _ROOT.dense("discriminator_head.dense", "discriminator_predictions.dense")
    yield from _ROOT.dense("discriminator_head.output", "discriminator_predictions.dense_prediction")
  elif network == "permutation_lm":
    yield _ROOT.array("lm_bias", "lm_loss.bias")
  elif network in ("sequence_classification", "multiple_choice"):
    yield from _pooler(c, network)
    yield from _classifier(c, network)
  elif network in ("token_classification", "question_answering"):
    if name == "modernbert":
      yield from _ROOT.dense("token_layer.dense", "head.dense", bias=False)
      yield from _ROOT.norm("token_layer.layer_norm", "head.norm", bias=False)
    yield from _classifier(c, network)
  elif network == "spans":
    yield from _ROOT.dense("span_head.start", "start_logits.dense")
    yield from _ROOT.dense("span_head.end", "end_logits.dense_0")
    yield from _ROOT.norm("span_head.end_norm", "end_logits.LayerNorm")
    yield from _ROOT.dense("span_head.end_output", "end_logits.dense_1")
    yield from _ROOT.dense("span_head.answer", "answer_class.dense_0")
    yield from _ROOT.dense("span_head.answer_output", "answer_class.dense_1", bias=False)


def entries(config: EncoderConfig, network: str) -> list[Entry]:
  """All arrays of a network, under Hugging Face's names.

  Args:
    config: the encoder's settings.
    network: one of `networks.NETWORKS`.
  """
  name = architecture_of(config).name
  prefix = "" if network == "encoder" else PREFIX[name] + "."
  encoder = _encoder(config, network == "enhanced_masked_lm")
  found = [dataclasses.replace(entry, key=prefix + entry.key) for entry in encoder]
  if network == "encoder" and isinstance(config, ModelConfig) and config.pooler:
    found += _pretrained_pooler(config, prefix)
  return found + list(_head(config, network))


def tied(config: EncoderConfig, network: str) -> dict[str, str]:
  """Their second names of one array → the name that `entries` has. Files hold the one, the other, or both."""
  name = architecture_of(config).name
  words = {entry.path[-1]: entry.key for entry in entries(config, network)}["words"]
  if network == "permutation_lm":
    return {"lm_loss.weight": words}
  if network not in ("pretraining", "masked_lm"):
    return {}
  return {
    "roberta": {"lm_head.decoder.weight": words, "lm_head.decoder.bias": "lm_head.bias"},
    "distilbert": {"vocab_projector.weight": words},
    "albert": {"predictions.decoder.weight": words, "predictions.decoder.bias": "predictions.bias"},
    "electra": {"generator_lm_head.weight": words},
    "modernbert": {"decoder.weight": words},
  }.get(name, {"cls.predictions.decoder.weight": words, "cls.predictions.decoder.bias": "cls.predictions.bias"})


# ---- both ways --------------------------------------------------------------------------------------------------


def to_ours(arrays: dict[str, np.ndarray], found: list[Entry]) -> Any:
  """Our parameters of their arrays, float32; `arrays` has every key of the entries."""
  rows: dict[Path, list[tuple[int, np.ndarray]]] = {}
  for entry in found:
    array = np.asarray(entry.ours(arrays[entry.key]), np.float32)
    rows.setdefault(entry.path, []).append((-1 if entry.layer is None else entry.layer, array))
  params: dict[str, Any] = {}
  for path, parts in rows.items():
    node = params
    for name in path[:-1]:
      node = node.setdefault(name, {})
    parts.sort(key=lambda part: part[0])
    alone = parts[0][0] == -1
    assert not alone or len(parts) == 1, path
    node[path[-1]] = np.ascontiguousarray(parts[0][1]) if alone else np.stack([array for _, array in parts])
  return params


def to_theirs(params: Any, found: list[Entry]) -> dict[str, np.ndarray]:
  """Their arrays of our parameters, or of anything shaped like them, such as a gradient."""
  arrays = {}
  for entry in found:
    node = params
    for name in entry.path:
      node = node[name]
    array = np.asarray(node if entry.layer is None else node[entry.layer])
    arrays[entry.key] = np.ascontiguousarray(entry.theirs(array))
  return arrays
