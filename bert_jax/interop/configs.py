"""Hugging Face's config.json to our settings and back.

A file that lacks a key means the default of Hugging Face's class, which `_DEFAULTS` has where it is not ours.
"""

import dataclasses
from typing import Any

from bert_jax.architectures import (
  DebertaConfig,
  DebertaV2Config,
  DistilBertConfig,
  ModernBertConfig,
)
from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.models.family import architecture_of, settings_class

# ---- settings ---------------------------------------------------------------------------------------------------

_BERT = {
  "vocab_size": "vocab_size",
  "num_layers": "num_hidden_layers",
  "hidden_size": "hidden_size",
  "num_heads": "num_attention_heads",
  "intermediate_size": "intermediate_size",
  "activation": "hidden_act",
  "layer_norm_eps": "layer_norm_eps",
  "hidden_dropout": "hidden_dropout_prob",
  "attention_dropout": "attention_probs_dropout_prob",
  "head_dropout": "classifier_dropout",
  "initializer_range": "initializer_range",
  "max_positions": "max_position_embeddings",
  "type_vocab_size": "type_vocab_size",
}
_DEBERTA = {name: key for name, key in _BERT.items() if name != "head_dropout"} | {
  "head_dropout": "cls_dropout",
  "input_positions": "position_biased_input",
  "pooler_dropout": "pooler_dropout",
  "pooler_activation": "pooler_hidden_act",
}
# Our setting → their key, where the value is the same but for the names of activations.
_KEYS: dict[str, dict[str, str]] = {
  "bert": _BERT,
  "roberta": _BERT,
  "distilbert": {
    "vocab_size": "vocab_size",
    "num_layers": "n_layers",
    "hidden_size": "dim",
    "num_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "activation": "activation",
    "hidden_dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "head_dropout": "seq_classif_dropout",
    "span_dropout": "qa_dropout",
    "initializer_range": "initializer_range",
    "max_positions": "max_position_embeddings",
  },
  "albert": _BERT
  | {
    "head_dropout": "classifier_dropout_prob",
    "embedding_size": "embedding_size",
    "num_groups": "num_hidden_groups",
    "blocks_per_group": "inner_group_num",
  },
  "electra": _BERT | {"embedding_size": "embedding_size"},
  "xlnet": {
    "vocab_size": "vocab_size",
    "num_layers": "n_layer",
    "hidden_size": "d_model",
    "num_heads": "n_head",
    "intermediate_size": "d_inner",
    "activation": "ff_activation",
    "layer_norm_eps": "layer_norm_eps",
    "hidden_dropout": "dropout",
    "attention_dropout": "dropout",
    "head_dropout": "summary_last_dropout",
    "initializer_range": "initializer_range",
    "clamp_length": "clamp_len",
    "memory_length": "mem_len",
    "reuse_length": "reuse_len",
  },
  "deberta": _DEBERTA,
  "deberta-v2": _DEBERTA
  | {
    "position_buckets": "position_buckets",
    "shared_projections": "share_att_key",
    "convolution_size": "conv_kernel_size",
    "convolution_activation": "conv_act",
    "convolution_groups": "conv_groups",
  },
  "modernbert": {
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
}
# What Hugging Face's classes take for a key that a file lacks, where our default is another.
_DEFAULTS: dict[str, dict[str, Any]] = {
  "xlm-roberta": {"vocab_size": 30522},
  "camembert": {"vocab_size": 30522},
  "albert": {"hidden_size": 4096, "num_heads": 64, "intermediate_size": 16384, "vocab_size": 30000},
  "roberta": {"vocab_size": 50265},
  "electra": {"hidden_size": 256, "num_heads": 4, "intermediate_size": 1024, "embedding_size": 128},
  "xlnet": {"vocab_size": 32000, "num_layers": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096},
  "deberta": {"vocab_size": 50265, "input_positions": True},
  "deberta-v2": {
    "vocab_size": 128100,
    "num_layers": 24,
    "hidden_size": 1536,
    "num_heads": 24,
    "intermediate_size": 6144,
    "input_positions": True,
    "position_buckets": -1,
    "shared_projections": False,
  },
  "modernbert": {"vocab_size": 50368},
}
_ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_python": "gelu",
  "gelu_new": "gelu_tanh",
  "gelu_pytorch_tanh": "gelu_tanh",
  "relu": "relu",
  "tanh": "tanh",
}
_ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "tanh": "tanh"}
# Only these values of their settings are what our networks compute.
_REQUIRED: dict[str, dict[str, tuple[Any, ...]]] = {
  "": {"is_decoder": (False,), "add_cross_attention": (False,), "tie_word_embeddings": (True,)},
  "bert": {"position_embedding_type": ("absolute",)},
  # RoBERTa's and ELECTRA's heads have GELU there whatever the config says, and ours the config's activation.
  "roberta": {"position_embedding_type": ("absolute",), "hidden_act": ("gelu", "gelu_python")},
  "albert": {"position_embedding_type": ("absolute",)},
  "electra": {
    "position_embedding_type": ("absolute",),
    "hidden_act": ("gelu", "gelu_python"),
    "summary_type": ("first",),
    "summary_activation": ("gelu",),
    "summary_use_proj": (True,),
  },
  "xlnet": {
    "attn_type": ("bi",),
    "bi_data": (False,),
    "same_length": (False,),
    "summary_type": ("last",),
    "summary_activation": ("tanh",),
    "summary_use_proj": (True,),
  },
  "deberta": {"relative_attention": (True,), "talking_head": (False,)},
  "deberta-v2": {"relative_attention": (True,)},
  "modernbert": {
    "norm_bias": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "classifier_bias": (False,),
    "decoder_bias": (True,),
  },
}


# Hugging Face's other names of an architecture: the same network, and other classes.
_SAME = {"xlm-roberta": "roberta", "camembert": "roberta"}


def architecture(values: dict[str, Any]) -> Any:
  """The `model_type` of a config.json, by our name of the architecture; None where it has none."""
  name = values.get("model_type")
  return _SAME.get(name, name) if isinstance(name, str) else name


def from_huggingface(values: dict[str, Any], origin: str = "config.json") -> EncoderConfig:
  """The settings of a config.json.

  Raises:
    ValueError: it asks for an architecture or for a setting that we do not compute, or for its own code.
  """
  name = architecture(values)
  if values.get("auto_map"):
    raise ValueError(
      f"{origin} asks for code of its own to be run (auto_map: {sorted(values['auto_map'])}); bert_jax runs no code"
      " of a checkpoint. Convert it to one of transformers' own classes first"
    )
  known = ", ".join((*_KEYS, *_SAME))
  if "model_type" not in values:
    raise ValueError(
      f"{origin} has no model_type, so it does not say which architecture its weights are of; put it in, as in"
      f' "model_type": "bert", if you know it. bert_jax knows {known}'
    )
  if name not in _KEYS:
    raise ValueError(f"{origin} has model_type={name!r}; bert_jax knows {known}")
  for key, allowed in (_REQUIRED[""] | _REQUIRED.get(name, {})).items():
    if key in values and values[key] not in allowed:
      raise ValueError(f"{origin} has {key}={values[key]!r}; bert_jax computes {key}={allowed[0]!r} only")
  found: dict[str, Any] = {"vocab_size": 30522} | _DEFAULTS.get(values["model_type"], {})
  found |= {ours: values[theirs] for ours, theirs in _KEYS[name].items() if theirs in values}
  for ours in ("activation", "pooler_activation", "convolution_activation", "head_activation"):
    if ours in found:
      theirs = found[ours]
      if theirs not in _ACTIVATIONS:
        raise ValueError(f"{origin} has {_KEYS[name][ours]}={theirs!r}; bert_jax knows {', '.join(_ACTIVATIONS)}")
      found[ours] = _ACTIVATIONS[theirs]
  if name in ("roberta", "electra", "xlnet", "deberta", "deberta-v2"):
    found["initializer"] = "normal"
  if name == "roberta":
    # Positions count from the row after the padding's.
    found["position_offset"] = values.get("pad_token_id", 1) + 1
    found["max_positions"] = found.get("max_positions", 512) - found["position_offset"]
    found.setdefault("type_vocab_size", 2)
  if name in ("deberta", "deberta-v2"):
    found |= _deberta(values, found, origin)
  if name == "modernbert":
    found |= _modernbert(values, origin)
  return settings_class(name)(**found)


def _deberta(values: dict[str, Any], found: dict[str, Any], origin: str) -> dict[str, Any]:
  terms = values.get("pos_att_type") or []
  terms = terms.split("|") if isinstance(terms, str) else terms
  unknown = [term for term in terms if term not in ("c2p", "p2c")]
  if unknown or not values.get("relative_attention"):
    raise ValueError(
      f"{origin} has relative_attention={values.get('relative_attention')} and pos_att_type={terms}; bert_jax computes"
      " relative_attention=true with c2p and p2c"
    )
  size = found.get("hidden_size", 768)
  for key, wanted in (("embedding_size", size), ("attention_head_size", size // found.get("num_heads", 12))):
    if values.get(key, wanted) != wanted:
      raise ValueError(f"{origin} has {key}={values[key]}; bert_jax computes {key}={wanted} for this hidden_size only")
  most = values.get("max_relative_positions", -1)
  more: dict[str, Any] = {
    "content_to_position": "c2p" in terms,
    "position_to_content": "p2c" in terms,
    "max_distance": most if most > 0 else found.get("max_positions", 512),
  }
  if values["model_type"] == "deberta-v2":
    more["norm_relative_table"] = "layer_norm" in values.get("norm_rel_ebd", "none")
    more["position_buckets"] = max(0, found["position_buckets"])
  return more


def _modernbert(values: dict[str, Any], origin: str) -> dict[str, Any]:
  """Rotary angles and kinds of layer, as 4.x or as 5.x writes them."""
  rope = values.get("rope_parameters") or {}
  tables = [table for table in (*rope.values(), rope, values.get("rope_scaling")) if isinstance(table, dict)]
  for kind in (table.get(key, "default") for table in tables for key in ("rope_type", "type")):
    if kind != "default":
      raise ValueError(f"{origin} has rotary angles of rope_type={kind!r}; bert_jax computes rope_type='default' only")
  thetas = {
    "global_theta": rope.get("full_attention", {}).get("rope_theta", values.get("global_rope_theta", 160_000.0)),
    "local_theta": rope.get("sliding_attention", {}).get("rope_theta", values.get("local_rope_theta", 10_000.0)),
  }
  every = values.get("global_attn_every_n_layers", 3)
  kinds = values.get("layer_types")
  if kinds:
    later = [layer for layer, kind in enumerate(kinds) if kind == "full_attention" and layer > 0]
    every = later[0] if later else len(kinds)
    if [kind == "full_attention" for kind in kinds] != [layer % every == 0 for layer in range(len(kinds))]:
      raise ValueError(f"{origin} has layer_types={kinds}; bert_jax computes layers 0, n, 2n, … as full_attention only")
  return {name: float(theta) for name, theta in thetas.items()} | {"global_every": every}


def to_huggingface(config: EncoderConfig) -> dict[str, Any]:
  """The settings as a config.json has them, without what depends on the tokenizer and the head."""
  name = architecture_of(config).name
  values: dict[str, Any] = {"model_type": name}
  for ours, theirs in _KEYS[name].items():
    value = getattr(config, ours)
    values[theirs] = _ACTIVATION_NAMES[value] if "activation" in ours else value
  if isinstance(config, DistilBertConfig):
    values |= {"sinusoidal_pos_embds": False}
  if name == "roberta":
    assert isinstance(config, ModelConfig)
    values["max_position_embeddings"] = config.max_positions + config.position_offset
  if name == "xlnet":
    values |= {"attn_type": "bi", "untie_r": True}
  if isinstance(config, DebertaConfig):
    terms = {"c2p": config.content_to_position, "p2c": config.position_to_content}
    values |= {
      "relative_attention": True,
      "max_relative_positions": -1 if config.max_distance == config.max_positions else config.max_distance,
      "pos_att_type": [term for term, there in terms.items() if there],
      "pooler_hidden_size": config.hidden_size,
    }
    if values["cls_dropout"] is None:
      values.pop("cls_dropout")
  if isinstance(config, DebertaV2Config):
    values["norm_rel_ebd"] = "layer_norm" if config.norm_relative_table else "none"
    values["position_buckets"] = config.position_buckets or -1
    if not config.convolution_size:
      for key in ("conv_kernel_size", "conv_act", "conv_groups"):
        values.pop(key)
  if isinstance(config, ModernBertConfig):
    kinds = ["sliding_attention", "full_attention"]
    rope = {"full_attention": config.global_theta, "sliding_attention": config.local_theta}
    values |= {
      "layer_types": [kinds[layer % config.global_every == 0] for layer in range(config.num_layers)],
      "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in rope.items()},
      # As transformers 4 reads them.
      "global_attn_every_n_layers": config.global_every,
      "global_rope_theta": config.global_theta,
      "local_rope_theta": config.local_theta,
    }
  return values


def keys_of(config: EncoderConfig) -> dict[str, str]:
  """Our setting → their key, of an architecture."""
  return _KEYS[architecture_of(config).name]


# ---- classes ----------------------------------------------------------------------------------------------------

_STEMS = {
  "bert": "Bert",
  "roberta": "Roberta",
  "xlm-roberta": "XLMRoberta",
  "camembert": "Camembert",
  "distilbert": "DistilBert",
  "albert": "Albert",
  "electra": "Electra",
  "xlnet": "XLNet",
  "deberta": "Deberta",
  "deberta-v2": "DebertaV2",
  "modernbert": "ModernBert",
}
# Their classes' names behind the stem → our networks: of all architectures, and of each.
_TASKS = {
  "Model": "encoder",
  "ForSequenceClassification": "sequence_classification",
  "ForTokenClassification": "token_classification",
  "ForQuestionAnswering": "question_answering",
}
_MASKED, _CHOICE = {"ForMaskedLM": "masked_lm"}, {"ForMultipleChoice": "multiple_choice"}
_SUFFIXES: dict[str, dict[str, str]] = {
  "bert": {"ForPreTraining": "pretraining", "ForNextSentencePrediction": "sentence_pairs"} | _MASKED | _CHOICE,
  "roberta": _MASKED | _CHOICE,
  "distilbert": _MASKED | _CHOICE,
  "albert": {"ForPreTraining": "pretraining"} | _MASKED | _CHOICE,
  "electra": {"ForPreTraining": "replaced_tokens"} | _MASKED | _CHOICE,
  "xlnet": {
    "LMHeadModel": "permutation_lm",
    "ForQuestionAnsweringSimple": "question_answering",
    "ForQuestionAnswering": "spans",
  }
  | _CHOICE,
  "deberta": _MASKED,
  "deberta-v2": _MASKED | _CHOICE,
  "modernbert": _MASKED | _CHOICE,
}


def networks_of(values: dict[str, Any]) -> list[str]:
  """All our networks of a config.json's architecture."""
  name = architecture(values)
  enhanced = ["enhanced_masked_lm"] if name.startswith("deberta") else []  # of no class of theirs
  return [*_suffixes(name).values(), *enhanced]


def _suffixes(name: str) -> dict[str, str]:
  """Of an architecture's classes → our network."""
  return _TASKS | _SUFFIXES[name]


def network_of(values: dict[str, Any]) -> str | None:
  """Which of our networks a config.json's `architectures` names; None where it names none that we know.

  Classes of TensorFlow's and Flax's are PyTorch's with a word before.
  """
  name = architecture(values)
  stems = [_STEMS[kind] for kind in _STEMS if _SAME.get(kind, kind) == name]
  known = {stem + suffix: network for stem in stems for suffix, network in _suffixes(name).items()}
  for stated in values.get("architectures") or []:
    network = known.get(stated.removeprefix("TF").removeprefix("Flax")) if isinstance(stated, str) else None
    if network is not None:
      return network
  return None


def class_of(config: EncoderConfig, network: str, model_type: str | None = None) -> str:
  """Hugging Face's class for a network.

  Args:
    model_type: that it came with, where that is another than the architecture's first name.

  Raises:
    ValueError: there is none.
  """
  name = architecture_of(config).name
  suffixes = _suffixes(name)
  found = [suffix for suffix, ours in suffixes.items() if ours == network]
  if not found:
    raise ValueError(f"Hugging Face has no class for {name} with the head {network}; it has {', '.join(suffixes)}")
  stem = _STEMS[model_type if model_type and _SAME.get(model_type) == name else name]
  return stem + found[0]


def with_pooler(config: EncoderConfig, network: str, keys: set[str]) -> EncoderConfig:
  """`config` with a pooler just where the network has a pretrained one: Hugging Face's settings do not say."""
  if not isinstance(config, ModelConfig) or architecture_of(config).name not in ("bert", "roberta", "albert"):
    return config
  pooled = network in ("pretraining", "sentence_pairs") or (
    network == "encoder" and any(".pooler." in f".{key}" for key in keys)
  )
  if architecture_of(config).name in ("bert", "albert"):
    pooled |= network in ("sequence_classification", "multiple_choice")
  return dataclasses.replace(config, pooler=pooled)
