"""What the JSON files of a foreign model must be, before anything is built of them: types, ranges, sizes.

Which of their values our networks compute is another matter, and `configs` knows it.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from bert_jax import settings
from bert_jax.architectures import AlbertConfig, DebertaConfig, DebertaV2Config, ModernBertConfig
from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.foreign import shown
from bert_jax.interop import configs
from bert_jax.interop.pretrained import Embedding
from bert_jax.models import networks

Rule = tuple[Callable[[Any], bool], str]  # whether a value is sound, and in words what it must be

# Whole numbers, by Hugging Face's keys: the least and the most. Published models stay below a tenth of each most.
_WIDTH, _LAYERS, _ROWS = (1, 100_000), (1, 1000), (1, 10_000_000)
_DISTANCE = (-1, 10_000_000)
_COUNTS: dict[str, tuple[int, int]] = {
  **dict.fromkeys(("num_hidden_layers", "n_layers", "n_layer", "num_hidden_groups", "inner_group_num"), _LAYERS),
  **dict.fromkeys(("hidden_size", "dim", "d_model", "embedding_size", "pooler_hidden_size"), _WIDTH),
  **dict.fromkeys(("intermediate_size", "hidden_dim", "d_inner"), (1, 1_000_000)),
  **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "attention_head_size", "d_head"), (1, 10_000)),
  **dict.fromkeys(("vocab_size", "max_position_embeddings", "local_attention"), _ROWS),
  **dict.fromkeys(("position_buckets", "max_relative_positions", "clamp_len"), _DISTANCE),
  **dict.fromkeys(("num_labels", "_num_labels"), (1, 1_000_000)),
  "type_vocab_size": (0, 10_000),
  "global_attn_every_n_layers": _LAYERS,
  "conv_kernel_size": (0, 1000),
  "conv_groups": _WIDTH,
}
_COUNTS_OR_NULL = {"mem_len": (0, 10_000_000), "reuse_len": (0, 10_000_000), "pad_token_id": (-1, 10_000_000)}
_RATES = (
  *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "embedding_dropout"),
  *("mlp_dropout", "pooler_dropout", "qa_dropout"),
)
_RATES_OR_NULL = (
  *("classifier_dropout", "classifier_dropout_prob", "cls_dropout", "seq_classif_dropout", "summary_last_dropout"),
)
_EPSILONS = ("layer_norm_eps", "norm_eps")
_THETAS = ("global_rope_theta", "local_rope_theta")
_FLAGS = ("share_att_key", "position_biased_input")
_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert")  # whose position table has the padding's row before the first
_TEXTS = (
  *("model_type", "hidden_act", "activation", "ff_activation", "hidden_activation", "pooler_hidden_act", "conv_act"),
  *("classifier_pooling", "classifier_activation", "norm_rel_ebd", "position_embedding_type"),
)


def _finite(value: Any) -> bool:
  return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _text(value: Any) -> bool:
  return isinstance(value, str) and len(value) <= 200


def _texts(value: Any) -> bool:
  return isinstance(value, list) and len(value) <= _LAYERS[1] and all(map(_text, value))


def _labels(value: Any) -> bool:
  return isinstance(value, dict) and len(value) <= 1_000_000 and all(isinstance(x, str) for x in value.values())


def _rope(value: Any) -> bool:
  tables = value.values() if isinstance(value, dict) else [None]
  return all(isinstance(table, dict) and _theta(table.get("rope_theta", 1)) for table in tables)


def _theta(value: Any) -> bool:
  return _finite(value) and 0 < value <= 1e12


def _whole(least: int, most: int) -> Rule:
  return lambda value: type(value) is int and least <= value <= most, f"a whole number from {least} to {most:,}"


def _or_null(rule: Rule) -> Rule:
  return lambda value: value is None or rule[0](value), f"{rule[1]}, or null"


_RATE: Rule = (
  lambda value: _finite(value) and 0 <= value < 1,
  "a number from 0 to below 1",
)
_RULES: dict[str, Rule] = {
  **{key: _whole(*span) for key, span in _COUNTS.items()},
  **{key: _or_null(_whole(*span)) for key, span in _COUNTS_OR_NULL.items()},
  **dict.fromkeys(_RATES, _RATE),
  **dict.fromkeys(_RATES_OR_NULL, _or_null(_RATE)),
  **dict.fromkeys(_EPSILONS, (lambda value: _finite(value) and 0 < value <= 1, "a number above 0, at most 1")),
  **dict.fromkeys(_THETAS, (_theta, "a number above 0, at most 1e12")),
  "initializer_range": (lambda value: _finite(value) and 0 <= value <= 100, "a number from 0 to 100"),
  **dict.fromkeys(_FLAGS, (lambda value: isinstance(value, bool), "true or false")),
  **dict.fromkeys(_TEXTS, (_text, "a text of at most 200 characters")),
  **dict.fromkeys(("torch_dtype", "dtype"), _or_null((_text, "a text"))),
  "architectures": _or_null((_texts, "a list of texts")),
  "layer_types": _or_null((_texts, "a list of texts")),
  "pos_att_type": _or_null((lambda value: _text(value) or _texts(value), "a text or a list of texts")),
  "auto_map": _or_null((lambda value: isinstance(value, dict), "an object")),
  "id2label": _or_null((_labels, "an object of texts")),
  "label2id": _or_null((lambda value: isinstance(value, dict), "an object")),
  "rope_parameters": _or_null((_rope, "an object of objects, with a rope_theta above 0")),
}


def config(values: dict[str, Any], origin: str) -> None:
  """Checks each key of a config.json that we read.

  Raises:
    ValueError: naming the first key whose value is of another type, or out of its range.
  """
  for key, (holds, rule) in _RULES.items():
    if key in values and not holds(values[key]):
      raise ValueError(f"{origin} has {key}={shown(values[key])}, which must be {rule}")
  padding = values.get("pad_token_id", 1)
  if values.get("model_type") in _AFTER_PADDING and (padding is None or padding < 0):
    raise ValueError(f"{origin} has pad_token_id={shown(padding)}; its positions count from there, so it must be a row")
  kinds, layers = values.get("layer_types"), values.get("num_hidden_layers")
  if kinds and layers is not None and len(kinds) != layers:
    raise ValueError(f"{origin} has {len(kinds)} layer_types for num_hidden_layers={layers}; each layer has one")


def encoder(c: EncoderConfig, num_arrays: int, origin: str) -> None:
  """Checks what must hold between the settings of a config.json, with what it leaves to defaults.

  Args:
    num_arrays: of the file with its weights; every block has some of its own.

  Raises:
    ValueError: naming both.
  """

  def require(holds: bool, rule: str) -> None:
    if not holds:
      raise ValueError(f"{origin} is of no model that can be built: {rule}")

  blocks = c.num_groups * c.blocks_per_group if isinstance(c, AlbertConfig) else c.num_layers
  require(blocks <= num_arrays, f"it asks for {blocks} blocks, and its file holds {num_arrays} arrays")
  require(c.hidden_size % c.num_heads == 0, f"a width of {c.hidden_size} does not divide into {c.num_heads} heads")
  if isinstance(c, ModelConfig):
    require(c.max_positions >= 1, f"{c.position_offset} rows before position 0 leave {c.max_positions} positions")
    require(c.position_offset >= 0, f"positions cannot start at row {c.position_offset}; set its pad_token_id")
  if isinstance(c, AlbertConfig):
    require(c.num_groups <= c.num_layers, f"{c.num_groups} groups are more than its {c.num_layers} layers")
  if isinstance(c, DebertaConfig):
    require(c.max_distance >= 1, f"max_relative_positions={c.max_distance}")
  if isinstance(c, DebertaV2Config) and c.convolution_size:
    size, groups = c.convolution_size, c.convolution_groups
    require(size % 2 == 1, f"a convolution over {size} tokens has no middle; conv_kernel_size must be odd")
    require(c.hidden_size % groups == 0, f"a width of {c.hidden_size} does not divide into conv_groups={groups}")
  if isinstance(c, ModernBertConfig):
    require(c.hidden_size // c.num_heads % 2 == 0, "rotary angles need heads of an even width")
    require(c.pooling in ("cls", "mean"), f"classifier_pooling={c.pooling!r} is neither cls nor mean")


_ANY: Rule = (lambda _: True, "anything")
_OWN_RULES: dict[str, Rule] = {
  "max_distance": _whole(1, _ROWS[1]),
  "position_offset": _whole(0, _ROWS[1]),
  "position_buckets": _whole(0, _ROWS[1]),
  "global_every": _whole(*_LAYERS),
  **dict.fromkeys(("global_theta", "local_theta"), _RULES["global_rope_theta"]),
}


def own(
  c: EncoderConfig,
  embedding: Embedding,
  network: Any,
  num_classes: Any,
  source: Any,
  files: Any,
  origin: str,
) -> None:
  """Checks what a model.json of ours says, which may be a stranger's too.

  Raises:
    ValueError: naming the first setting that is of another type, or out of its range.
  """

  def require(holds: bool, name: str, value: Any, rule: str) -> None:
    if not holds:
      raise ValueError(f"{name}={shown(value)} must be {rule}")

  theirs = configs.keys_of(c)
  for leaf in settings.leaves(type(c)):
    value = settings.check_type(leaf, getattr(c, leaf.path))
    holds, rule = _OWN_RULES.get(leaf.path) or _RULES.get(theirs.get(leaf.path, ""), _ANY)
    require(holds(value), leaf.path, value, rule)
    require(not isinstance(value, float) or _finite(value), leaf.path, value, "finite")
  require(isinstance(network, str) and network in networks.NETWORKS, "network", network, "one that bert_jax has")
  classes, rule = _RULES["num_labels"]
  require(classes(num_classes), "num_classes", num_classes, rule)
  require(embedding.pooling in (None, "cls", "mean", "max"), "embedding.pooling", embedding.pooling, "cls, mean or max")
  require(isinstance(embedding.normalize, bool), "embedding.normalize", embedding.normalize, "true or false")
  max_seq_length({"max_seq_length": embedding.max_tokens}, origin)
  require(isinstance(source, dict), "source", source, "an object")
  config(source, f"{origin}, its source,")
  require(files is None or _labels(files), "files_sha256", files, "an object of texts")


def weight_map(index: dict[str, Any], origin: str) -> dict[str, str]:
  """Array → shard, of model.safetensors.index.json.

  Raises:
    ValueError: it is of another form.
  """
  places = index.get("weight_map")
  sound = isinstance(places, dict) and places and all(isinstance(name, str) for name in places.values())
  if not isinstance(places, dict) or not sound:
    raise ValueError(f"{origin} has weight_map={shown(places)}, which must be an object: array → file; fetch it again")
  return places


# ---- sentence-transformers --------------------------------------------------------------------------------------


def modules(values: Any, origin: str) -> list[dict[str, Any]]:
  """The rows of a modules.json, each with a `type` and a `path`, "" or the name of a folder beside the file.

  Raises:
    ValueError: it is of another form.
  """
  if not isinstance(values, list) or len(values) > 100 or not all(isinstance(row, dict) for row in values):
    raise ValueError(f"{origin} must be a list of at most 100 objects. Got {shown(values)}")
  for number, row in enumerate(values):
    if not isinstance(row.get("type"), str):
      raise ValueError(f"{origin}: entry {number} has type={shown(row.get('type'))}, which must be a text")
    # No dot: so it leads nowhere else, and is the name of none of the files that stand beside it.
    if not isinstance(row.get("path"), str) or not re.fullmatch(r"[\w-]*", row["path"]):
      raise ValueError(
        f"{origin}: entry {number} has path={shown(row.get('path'))}, which must be the name of a folder beside it,"
        " of letters, digits, _ and -"
      )
  return values


def max_seq_length(values: dict[str, Any], origin: str) -> int | None:
  """Of a sentence_bert_config.json.

  Raises:
    ValueError: it is no number of tokens.
  """
  found = values.get("max_seq_length")
  holds, rule = _or_null(_whole(1, 10_000_000))
  if not holds(found):
    raise ValueError(f"{origin} has max_seq_length={shown(found)}, which must be {rule}")
  return found
