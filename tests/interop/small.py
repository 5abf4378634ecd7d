"""Small pretrained models of every architecture, with random numbers for parameters and real tokenizers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bert_jax.architectures import (
  AlbertConfig,
  BertConfig,
  CrammedBertConfig,
  DebertaConfig,
  DebertaV2Config,
  DistilBertConfig,
  ElectraConfig,
  EncoderConfig,
  ModernBertConfig,
  MosaicBertConfig,
  RobertaConfig,
  XlnetConfig,
)
from bert_jax.config import TokenizerConfig
from bert_jax.data import tokenizers
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.models import networks

SENTENCES = ("Paris is the capital of France.", "The cat sat on the mat, 2019.", "Snow is white; the sea is cold.")
# All sizes differ, so that a swapped axis cannot pass.
SIZES: dict[str, Any] = {"num_layers": 3, "hidden_size": 24, "num_heads": 4, "intermediate_size": 37}
# Those that Hugging Face has classes for, and those that it has none for.
CONFIGS: dict[str, EncoderConfig] = {
  "bert": BertConfig(**SIZES, max_positions=40),
  "roberta": RobertaConfig(**SIZES, max_positions=40),
  "distilbert": DistilBertConfig(**SIZES, max_positions=40),
  "albert": AlbertConfig(**SIZES, max_positions=40, embedding_size=13, num_groups=2, blocks_per_group=2),
  "electra": ElectraConfig(**SIZES, max_positions=40, embedding_size=13, initializer="normal"),
  "xlnet": XlnetConfig(**SIZES),
  "deberta": DebertaConfig(**SIZES, max_positions=40, max_distance=40),
  "deberta-v2": DebertaV2Config(**SIZES, max_positions=40, max_distance=40, position_buckets=6, convolution_size=3),
  "modernbert": ModernBertConfig(**SIZES, max_positions=40, local_window=6, global_every=2),
}
OWN_CONFIGS: dict[str, EncoderConfig] = {
  "crammed-bert": CrammedBertConfig(**SIZES | {"intermediate_size": 38}, max_positions=40, pooler_size=11),
  "mosaic-bert": MosaicBertConfig(**SIZES),
}
NETWORKS = {"bert": "pretraining", "electra": "replaced_tokens", "xlnet": "permutation_lm"}


def tokenizer_of(kind: str = "wordpiece", lowercase: bool = True) -> Tokenizer:
  size = {"wordpiece": 90, "bpe": 300, "unigram": 60}[kind]
  return tokenizers.train(SENTENCES * 50, TokenizerConfig(kind=kind, vocab_size=size, lowercase=lowercase))  # type: ignore[arg-type]


def make(name: str = "bert", network: str | None = None, tokenizer: Tokenizer | None = None) -> Model:
  """A model of an architecture; five classes where it classifies."""
  network = network or NETWORKS.get(name, "masked_lm")
  config = dataclasses.replace((CONFIGS | OWN_CONFIGS)[name], vocab_size=tokenizer.vocab_size if tokenizer else 61)
  draw = np.random.default_rng(7)
  shapes = jax.eval_shape(networks.initial(network, config, 5))
  # Gains around 1: with smaller ones, every text would come out alike.
  params = jax.tree.map_with_path(
    lambda path, x: draw.normal(float(path[-1].key == "scale"), 0.2, x.shape).astype(np.float32), shapes
  )
  return Model(config, network, params, tokenizer, 5 if "classification" in network else 2)


def edit_config(folder: Path, **values: Any) -> None:
  """Sets keys of a folder's config.json; None takes one out."""
  path = folder / "config.json"
  content = json.loads(path.read_text()) | values
  path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
