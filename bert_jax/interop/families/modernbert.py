"""ModernBERT's files."""

from collections.abc import Iterator
from typing import Any

from bert_jax.architectures import ModernBertConfig
from bert_jax.foreign import shown
from bert_jax.interop import rules
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.families.base import MODEL, Family, Head, Values, array, classifier, dense, norm
from bert_jax.settings import Bounds


def _encoder(c: ModernBertConfig, network: str) -> Iterator[Entry]:
  del network
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


def _read(values: Values, found: Values, origin: str) -> Values:
  """The rotary angles and the kinds of layers, as transformers 4 or 5 writes them."""
  rope = values.get("rope_parameters") or {}
  tables = [table for table in (*rope.values(), rope, values.get("rope_scaling")) if isinstance(table, dict)]
  for kind in (table.get(key, "default") for table in tables for key in ("rope_type", "type")):
    if kind != "default":
      raise ValueError(
        f"{origin} has rotary angles of rope_type={kind!r:.80}; bert_jax computes rope_type='default' only"
      )
  thetas = {
    "global_theta": rope.get("full_attention", {}).get("rope_theta", values.get("global_rope_theta", 160_000.0)),
    "local_theta": rope.get("sliding_attention", {}).get("rope_theta", values.get("local_rope_theta", 10_000.0)),
  }
  every = values.get("global_attn_every_n_layers", 3)
  if kinds := values.get("layer_types"):
    layers = found.get("num_layers", len(kinds))
    if len(kinds) != layers:
      raise ValueError(f"{origin} has {len(kinds)} layer_types for num_hidden_layers={layers}; each layer has one")
    later = [layer for layer, kind in enumerate(kinds) if kind == "full_attention" and layer > 0]
    every = later[0] if later else len(kinds)
    if [kind == "full_attention" for kind in kinds] != [layer % every == 0 for layer in range(len(kinds))]:
      raise ValueError(
        f"{origin} has layer_types={shown(kinds)}; bert_jax computes layers 0, n, 2n, … as full_attention only"
      )
  return {name: float(theta) for name, theta in thetas.items()} | {"global_every": every}


def _write(config: ModernBertConfig, values: Values) -> Values:
  kinds = ["sliding_attention", "full_attention"]
  rope = {"full_attention": config.global_theta, "sliding_attention": config.local_theta}
  return values | {
    "layer_types": [kinds[layer % config.global_every == 0] for layer in range(config.num_layers)],
    "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in rope.items()},
    # As transformers 4 reads them.
    "global_attn_every_n_layers": config.global_every,
    "global_rope_theta": config.global_theta,
    "local_rope_theta": config.local_theta,
  }


_THETA = rules.number(Bounds(above=0, at_most=1e12))


def _are_tables(value: Any) -> bool:
  tables = value.values() if isinstance(value, dict) else [None]
  return all(isinstance(table, dict) and _THETA[0](table.get("rope_theta", 1)) for table in tables)


def _layer(ours: str) -> tuple[Entry, ...]:
  """The layer that every head begins with; ours: our name of it."""
  return dense(f"{ours}.dense", "head.dense", bias=False) + norm(f"{ours}.layer_norm", "head.norm", bias=False)


MODERNBERT = Family(
  config_class=ModernBertConfig,
  stems={"modernbert": "ModernBert"},
  prefix="model",
  encoder=_encoder,
  heads={
    "encoder": Head(MODEL),
    "sequence_classification": Head("ForSequenceClassification", _layer("pooler.layer") + classifier()),
    "token_classification": Head("ForTokenClassification", _layer("token_layer") + classifier()),
    "question_answering": Head("ForQuestionAnswering", _layer("token_layer") + classifier()),
    "masked_lm": Head(
      "ForMaskedLM",
      _layer("mlm_head") + array("mlm_head.bias", "decoder.bias"),
      {"decoder.weight": "model.embeddings.tok_embeddings.weight"},
    ),
    "multiple_choice": Head("ForMultipleChoice", _layer("pooler.layer") + classifier()),
  },
  keys={
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "activation": "hidden_activation",
    "layer_norm_eps": "norm_eps",
    "hidden_dropout": "mlp_dropout",
    "attention_dropout": "attention_dropout",
    "embedding_dropout": "embedding_dropout",
    "head_dropout": "classifier_dropout",
    "head_activation": "classifier_activation",
    "initializer_range": "initializer_range",
    "max_positions": "max_position_embeddings",
    "local_window": "local_attention",
    "pooling": "classifier_pooling",
  },
  defaults={"modernbert": {"vocab_size": 50368}},
  required={
    "norm_bias": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "classifier_bias": (False,),
    "decoder_bias": (True,),
  },
  rules={
    "global_attn_every_n_layers": rules.whole(1, 1_000),
    "global_rope_theta": _THETA,
    "local_rope_theta": _THETA,
    "rope_parameters": rules.or_null((_are_tables, "an object of objects, with a rope_theta above 0")),
    "layer_types": rules.or_null(rules.TEXTS),
  },
  read=_read,
  write=_write,
)
