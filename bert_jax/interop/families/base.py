"""What we know of the files of one architecture, and the parts that several of them share."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bert_jax.architectures import EncoderConfig
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.rules import Rule
from bert_jax.interop.stored import Arrays

MODEL = "Model"  # suffix of the class without a head; in its files the encoder's arrays have no prefix
Values = dict[str, Any]  # of a config.json
Parameters = dict[str, np.ndarray]  # ours, by path


@dataclasses.dataclass(frozen=True)
class Head:
  """What stands beside the encoder in one of our networks.

  Attributes:
    suffix: what the name of Hugging Face's class ends in; None where there is no such class.
    arrays: of the head.
    tied: second name of an array → the name that we read it under. Files hold the one, the other, or both.
  """

  suffix: str | None
  arrays: tuple[Entry, ...] = ()
  tied: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Family:
  """One architecture as Hugging Face has it.

  Attributes:
    config_class: its settings here.
    stems: model_type → what the names of its classes begin with. The first is the architecture's own; the others are
      the same network under another name.
    prefix: the name of the encoder inside a model with a head.
    encoder: (settings, network) → the encoder's arrays, without the prefix.
    heads: our network → its head; the first one is the encoder alone.
    keys: our setting → the key of config.json with the same value (activations have other names).
    defaults: model_type → our settings for keys that a file lacks, where Hugging Face's defaults are not ours.
    required: key → the values that our networks compute.
    rules: key → what its value may be, where that is not what our setting may be.
    read: (config.json, settings found so far, its path) → settings that are more than one key. It raises ValueError.
    write: (settings, config.json so far) → config.json.
    rename: (config.json, arrays, the network asked for) → the first two, for files that have other names for arrays.
    fit: (settings, our arrays by path, padding's id) → the first two, with which Hugging Face's class gives the same.
    lowercases: whether transformers' tokenizer lower-cases where its files do not say.
  """

  config_class: type[EncoderConfig]
  stems: dict[str, str]
  prefix: str
  encoder: Callable[[Any, str], Iterator[Entry]]
  heads: dict[str, Head]
  keys: dict[str, str]
  defaults: dict[str, Values]
  required: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
  rules: dict[str, Rule] = dataclasses.field(default_factory=dict)
  read: Callable[[Values, Values, str], Values] = lambda values, found, origin: {}
  write: Callable[[Any, Values], Values] = lambda config, values: values
  rename: Callable[[Values, Arrays, str | None], tuple[Values, Arrays]] = lambda values, arrays, head: (values, arrays)
  fit: Callable[[Any, Parameters, int], tuple[Any, Parameters]] = lambda config, arrays, padding: (config, arrays)
  lowercases: bool = False


# ---- parts of heads ---------------------------------------------------------------------------------------------

_ROOT = Place((), "")


def dense(ours: str, theirs: str, bias: bool = True) -> tuple[Entry, ...]:
  return tuple(_ROOT.dense(ours, theirs, bias))


def norm(ours: str, theirs: str, bias: bool = True) -> tuple[Entry, ...]:
  return tuple(_ROOT.norm(ours, theirs, bias))


def array(ours: str, theirs: str) -> tuple[Entry, ...]:
  return (_ROOT.array(ours, theirs),)


def mlm_head(dense_layer: str, layer_norm: str, bias: str) -> tuple[Entry, ...]:
  """The head for masked tokens."""
  return dense("mlm_head.dense", dense_layer) + norm("mlm_head.layer_norm", layer_norm) + array("mlm_head.bias", bias)


def classifier(theirs: str = "classifier") -> tuple[Entry, ...]:
  """A task's linear layer."""
  return dense("classifier", theirs)


# ---- parts of encoders ------------------------------------------------------------------------------------------


def embeddings(root: Place, config: Any) -> Iterator[Entry]:
  """The tables of words, positions and segments (where there are any), and LayerNorm."""
  yield root.array("embeddings.words", "embeddings.word_embeddings.weight")
  yield root.array("embeddings.positions", "embeddings.position_embeddings.weight")
  if config.num_segments:
    yield root.array("embeddings.segments", "embeddings.token_type_embeddings.weight")
  yield from root.norm("embeddings.layer_norm", "embeddings.LayerNorm")


def after_attention(place: Place) -> Iterator[Entry]:
  """The output of a block's attention, and the feed-forward part."""
  yield from place.dense("attention_output", "attention.output.dense")
  yield from place.norm("attention_norm", "attention.output.LayerNorm")
  yield from place.dense("intermediate", "intermediate.dense")
  yield from place.dense("output", "output.dense")
  yield from place.norm("output_norm", "output.LayerNorm")
