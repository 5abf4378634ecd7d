"""The files of all versions of DeBERTa; transformers has two classes of settings for them.

D hidden size, H heads, C = D / H.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bert_jax.architectures import DebertaConfig, DebertaV2Config
from bert_jax.foreign import shown
from bert_jax.interop import rules
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.families.base import (
  MODEL,
  Family,
  Head,
  Values,
  after_attention,
  classifier,
  dense,
  mlm_head,
  norm,
)
from bert_jax.interop.families.bert import BERT_KEYS, BERT_MLM_HEAD
from bert_jax.interop.stored import Arrays

# ---- arrays -----------------------------------------------------------------------------------------------------


def _encoder(c: DebertaConfig, network: str) -> Iterator[Entry]:
  yield from _outside_blocks(c, network)
  yield from _blocks(c, _attention)


def _encoder_v2(c: DebertaV2Config, network: str) -> Iterator[Entry]:
  yield from _outside_blocks(c, network)
  root = Place(("encoder",), "")
  if c.norm_relative_table:
    yield from root.norm("relative_norm", "encoder.LayerNorm")
  if c.convolution_size:
    kernel = (lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0))  # [out, in, size] ↔ [size, in, out]
    yield root.array("convolution.kernel", "encoder.conv.conv.weight", *kernel)
    yield root.array("convolution.bias", "encoder.conv.conv.bias")
    yield from root.norm("convolution.layer_norm", "encoder.conv.LayerNorm")
  # A first layer with a convolution beside it stands apart from the stack.
  yield from _blocks(c, _attention_v2, alone=1 if c.convolution_size and c.num_layers > 1 else 0)


def _outside_blocks(c: DebertaConfig, network: str) -> Iterator[Entry]:
  root = Place(("encoder",), "")
  yield root.array("words", "embeddings.word_embeddings.weight")
  if c.input_positions or network == "enhanced_masked_lm":  # its decoder reads positions
    yield root.array("positions", "embeddings.position_embeddings.weight")
  if c.type_vocab_size:
    yield root.array("segments", "embeddings.token_type_embeddings.weight")
  yield from root.norm("embedding_norm", "embeddings.LayerNorm")
  yield root.array("relative_table", "encoder.rel_embeddings.weight")


def _blocks(c: DebertaConfig, attention: Callable[[Place, Any], Iterator[Entry]], alone: int = 0) -> Iterator[Entry]:
  """All blocks; the last one, and so many of the first, stand apart from the stack."""
  for layer in range(c.num_layers):
    theirs = f"encoder.layer.{layer}."
    if layer == c.num_layers - 1:
      place = Place(("encoder", "last"), theirs)
    elif layer < alone:
      place = Place(("encoder", "first"), theirs)
    else:
      place = Place(("encoder", "layers"), theirs, layer - alone)
    yield from attention(place, c)
    yield from after_attention(place)


def _attention(place: Place, c: DebertaConfig) -> Iterator[Entry]:
  shape, size = (c.num_heads, 3, c.hidden_size // c.num_heads), c.hidden_size

  def into(x: np.ndarray) -> np.ndarray:  # theirs: by head, then query, key, value; ours: query, key, value first
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


def _attention_v2(place: Place, c: DebertaV2Config) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"attention.self.{name}_proj")
  if not c.shared_projections:
    if c.content_to_position:
      yield from place.dense("position_key", "attention.self.pos_key_proj")
    if c.position_to_content:
      yield from place.dense("position_query", "attention.self.pos_query_proj")


# The head in the authors' files, and in transformers' class with legacy=false.
_OWN_HEAD = "lm_predictions.lm_head."


def _as_legacy(source: Values, arrays: Arrays, head: str | None) -> tuple[Values, Arrays]:
  """Names the head for masked tokens of legacy=false as the one of legacy=true, which has the same layers."""
  if source.get("legacy") is not False or head == "enhanced_masked_lm":
    return source, arrays

  def renamed(name: str) -> str:
    if not name.startswith(_OWN_HEAD):
      return name
    part = name.removeprefix(_OWN_HEAD)
    return "cls.predictions." + (part if part == "bias" else f"transform.{part}")

  return source | {"legacy": True}, {renamed(name): array for name, array in arrays.items()}


# ---- config.json ------------------------------------------------------------------------------------------------


def _read(values: Values, found: Values, origin: str) -> Values:
  terms = values.get("pos_att_type") or []
  terms = terms.split("|") if isinstance(terms, str) else terms
  unknown = [term for term in terms if term not in ("c2p", "p2c")]
  if unknown or not values.get("relative_attention"):
    raise ValueError(
      f"{origin} has relative_attention={values.get('relative_attention')} and pos_att_type={shown(terms)}; bert_jax"
      " computes relative_attention=true with c2p and p2c"
    )
  size = found.get("hidden_size", 768)
  for key, wanted in (("embedding_size", size), ("attention_head_size", size // found.get("num_heads", 12))):
    if values.get(key, wanted) != wanted:
      raise ValueError(f"{origin} has {key}={values[key]}; bert_jax computes {key}={wanted} for this hidden_size only")
  most = values.get("max_relative_positions", -1)
  return {
    "content_to_position": "c2p" in terms,
    "position_to_content": "p2c" in terms,
    "max_distance": most if most > 0 else found.get("max_positions", 512),
  }


def _read_v2(values: Values, found: Values, origin: str) -> Values:
  return _read(values, found, origin) | {
    "norm_relative_table": "layer_norm" in values.get("norm_rel_ebd", "none"),
    "position_buckets": max(0, found["position_buckets"]),
  }


def _write(config: DebertaConfig, values: Values) -> Values:
  terms = {"c2p": config.content_to_position, "p2c": config.position_to_content}
  values = values | {
    "relative_attention": True,
    "max_relative_positions": -1 if config.max_distance == config.max_positions else config.max_distance,
    "pos_att_type": [term for term, there in terms.items() if there],
    "pooler_hidden_size": config.hidden_size,
  }
  if values["cls_dropout"] is None:
    values.pop("cls_dropout")
  return values


def _write_v2(config: DebertaV2Config, values: Values) -> Values:
  values = _write(config, values)
  values["norm_rel_ebd"] = "layer_norm" if config.norm_relative_table else "none"
  values["position_buckets"] = config.position_buckets or -1
  if not config.convolution_size:
    for key in ("conv_kernel_size", "conv_act", "conv_groups"):
      values.pop(key)
  return values


_KEYS = BERT_KEYS | {
  "head_dropout": "cls_dropout",
  "input_positions": "position_biased_input",
  "pooler_dropout": "pooler_dropout",
  "pooler_activation": "pooler_hidden_act",
}
_WIDTH = rules.whole(1, 100_000)
_RULES = {
  "embedding_size": _WIDTH,
  "attention_head_size": _WIDTH,
  "pooler_hidden_size": _WIDTH,
  "max_relative_positions": rules.whole(-1, rules.MOST),  # below 1: as many as positions
  "pos_att_type": rules.or_null(rules.TEXT_OR_TEXTS),
}

# ---- the two ----------------------------------------------------------------------------------------------------

_POOLER = dense("pooler.dense", "pooler.dense")
_TIED = {
  "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
  "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_TASKS = {
  "encoder": Head(MODEL),
  "sequence_classification": Head("ForSequenceClassification", _POOLER + classifier()),
  "token_classification": Head("ForTokenClassification", classifier()),
  "question_answering": Head("ForQuestionAnswering", classifier("qa_outputs")),
  "masked_lm": Head("ForMaskedLM", BERT_MLM_HEAD, _TIED),
}
_ENHANCED = {
  "enhanced_masked_lm": Head(None, mlm_head(*(_OWN_HEAD + part for part in ("dense", "LayerNorm", "bias")))),
}
# Version 3's, for which transformers has no class.
_DISCRIMINATOR = (
  dense("discriminator_head.dense", "mask_predictions.dense")
  + norm("discriminator_head.layer_norm", "mask_predictions.LayerNorm")
  + dense("discriminator_head.output", "mask_predictions.classifier")
)
_SAME: dict[str, Any] = {"prefix": "deberta", "rename": _as_legacy}

DEBERTA = Family(
  config_class=DebertaConfig,
  stems={"deberta": "Deberta"},
  encoder=_encoder,
  heads=_TASKS | _ENHANCED,
  keys=_KEYS,
  defaults={"deberta": {"vocab_size": 50265, "input_positions": True}},
  required={"relative_attention": (True,), "talking_head": (False,)},
  rules=_RULES,
  read=_read,
  write=_write,
  **_SAME,
)
DEBERTA_V2 = Family(
  config_class=DebertaV2Config,
  stems={"deberta-v2": "DebertaV2"},
  encoder=_encoder_v2,
  heads=_TASKS
  | {
    "multiple_choice": Head("ForMultipleChoice", _POOLER + classifier()),
    "replaced_tokens": Head(None, _DISCRIMINATOR),
  }
  | _ENHANCED,
  keys=_KEYS
  | {
    "position_buckets": "position_buckets",
    "shared_projections": "share_att_key",
    "convolution_size": "conv_kernel_size",
    "convolution_activation": "conv_act",
    "convolution_groups": "conv_groups",
  },
  defaults={
    "deberta-v2": {
      "vocab_size": 128100,
      "num_layers": 24,
      "hidden_size": 1536,
      "num_heads": 24,
      "intermediate_size": 6144,
      "input_positions": True,
      "position_buckets": -1,
      "shared_projections": False,
    }
  },
  required={"relative_attention": (True,)},
  rules=_RULES | {"position_buckets": rules.whole(-1, rules.MOST), "norm_rel_ebd": rules.TEXT},
  read=_read_v2,
  write=_write_v2,
  **_SAME,
)
