"""The model settings of the rest of the family, as frozen dataclasses, and the published sizes; standard library only.

A class stands for an architecture; BERT and RoBERTa are `config.ModelConfig`. Defaults are a published base model.
"""

import dataclasses
from typing import Literal

from bert_jax.config import EncoderConfig, ModelConfig, setting


@dataclasses.dataclass(frozen=True)
class DistilBertConfig(ModelConfig):
  """BERT with half the layers, no segments and no pooler (Sanh et al. 2019)."""

  num_layers: int = setting(6, "transformer blocks")
  type_vocab_size: int = setting(0, "segment ids known: none")
  pooler: bool = setting(False, "there is none")
  head_dropout: float | None = setting(0.2, "before the classifier; seq_classif_dropout of Hugging Face")
  span_dropout: float = setting(0.1, "before the question answering layer; qa_dropout of Hugging Face")


@dataclasses.dataclass(frozen=True)
class AlbertConfig(ModelConfig):
  """Narrow embeddings and shared blocks (Lan et al. 2019; google-research/albert, modeling.py)."""

  activation: Literal["gelu", "gelu_tanh", "relu"] = setting("gelu_tanh", "as the released code")
  hidden_dropout: float = setting(0.0, "after the embeddings and after each sub-layer; 0 in version 2")
  attention_dropout: float = setting(0.0, "on the attention probabilities; 0 in version 2")
  head_dropout: float | None = setting(0.1, "before a task's linear layer")
  embedding_size: int = setting(128, "width of the word, position and segment tables")
  num_groups: int = setting(1, "sets of parameters; layer i uses set i * num_groups // num_layers")
  blocks_per_group: int = setting(1, "blocks in a set, run one after the other in each layer")


@dataclasses.dataclass(frozen=True)
class ElectraConfig(ModelConfig):
  """BERT's encoder behind embeddings of a width of their own (Clark et al. 2020); generator or discriminator."""

  pooler: bool = setting(False, "there is none")
  embedding_size: int = setting(768, "width of the tables; where it is not hidden_size, a linear layer follows")


@dataclasses.dataclass(frozen=True)
class XlnetConfig(EncoderConfig):
  """Transformer-XL's relative attention in two streams (Yang et al. 2019; zihangdai/xlnet, modeling.py)."""

  clamp_length: int = setting(-1, "distances beyond it count as it; below 1: no limit")
  memory_length: int | None = setting(None, "hidden states kept for the next segment of a text; none: all")
  reuse_length: int | None = setting(None, "of a segment, how many of its first tokens are kept; none: all")


@dataclasses.dataclass(frozen=True)
class DebertaConfig(EncoderConfig):
  """Disentangled attention (He et al. 2020)."""

  layer_norm_eps: float = setting(1e-7, "added to the variance")
  max_positions: int = setting(512, "longest sequence of the recipes; rows of the position table where there is one")
  type_vocab_size: int = setting(0, "segment ids known; 0 in the released models")
  max_distance: int = setting(512, "distances are cut at it; rows of the relative table are twice as many")
  content_to_position: bool = setting(True, "a query's content looks at the key's relative position")
  position_to_content: bool = setting(True, "a query's relative position looks at the key's content")
  input_positions: bool = setting(False, "add absolute positions to the input too; false in the released models")
  pooler_dropout: float = setting(0.0, "before the pooler of a classifier")
  pooler_activation: Literal["gelu", "gelu_tanh", "relu", "tanh"] = setting("gelu", "of the pooler of a classifier")


@dataclasses.dataclass(frozen=True)
class DebertaV2Config(DebertaConfig):
  """Versions 2 and 3: distances in buckets, positions through the projections of the content (He et al. 2021)."""

  position_buckets: int = setting(256, "buckets to either side, of logarithmic width beyond half; 0: none")
  shared_projections: bool = setting(True, "positions go through the content's query and key projections")
  norm_relative_table: bool = setting(True, "LayerNorm over the relative table")
  convolution_size: int = setting(0, "tokens that a convolution beside the first layer covers, odd; 0: none, 3 in XL")
  convolution_activation: Literal["gelu", "gelu_tanh", "relu", "tanh"] = setting("tanh", "gelu in XL and XXL")
  convolution_groups: int = setting(1, "channels of the convolution are parted in so many")


@dataclasses.dataclass(frozen=True)
class ModernBertConfig(EncoderConfig):
  """Rotary positions, local and global layers, gated feed-forward, norms before (Warner et al. 2024)."""

  num_layers: int = setting(22, "transformer blocks")
  intermediate_size: int = setting(1152, "inner width of the feed-forward part, after the gate")
  layer_norm_eps: float = setting(1e-5, "added to the variance")
  hidden_dropout: float = setting(0.0, "of the feed-forward part")
  attention_dropout: float = setting(0.0, "on the probabilities and on the attention's output")
  embedding_dropout: float = setting(0.0, "after the embeddings")
  head_dropout: float | None = setting(0.0, "before a task's linear layer")
  head_activation: Literal["gelu", "gelu_tanh", "relu", "tanh"] = setting("gelu", "of the layer that heads begin with")
  max_positions: int = setting(8192, "longest sequence, in tokens")
  global_every: int = setting(3, "layers 0, n, 2n, … look everywhere, the others near by")
  local_window: int = setting(128, "tokens that a local layer looks at, half of them to either side")
  global_theta: float = setting(160_000.0, "base of the rotary angles of global layers")
  local_theta: float = setting(10_000.0, "base of the rotary angles of local layers")
  pooling: Literal["cls", "mean"] = setting("cls", "what a classifier reads: the first token, or the mean")


# ---- published sizes --------------------------------------------------------------------------------------------


def _sized(kind: type, layers: int, hidden: int, vocab: int, **more: object) -> EncoderConfig:
  """Heads of 64 and an inner width of 4 × hidden, unless said otherwise."""
  shape: dict[str, object] = {"num_layers": layers, "hidden_size": hidden, "vocab_size": vocab}
  shape |= {"num_heads": hidden // 64, "intermediate_size": 4 * hidden}
  return kind(**(shape | more))


_ROBERTA = {
  "position_offset": 2,
  "type_vocab_size": 1,
  "layer_norm_eps": 1e-5,
  "initializer": "normal",
  "pooler": False,
}
_XL = {"convolution_size": 3, "convolution_activation": "gelu"}

# Layers, widths and vocabularies as the checkpoints' own config.json has them.
PUBLISHED: dict[str, EncoderConfig] = {
  # google-research/bert README; Turc et al. 2019, table 1
  "bert-tiny": _sized(ModelConfig, 2, 128, 30522),
  "bert-mini": _sized(ModelConfig, 4, 256, 30522),
  "bert-small": _sized(ModelConfig, 4, 512, 30522),
  "bert-medium": _sized(ModelConfig, 8, 512, 30522),
  "bert-base-uncased": _sized(ModelConfig, 12, 768, 30522),
  "bert-large-uncased": _sized(ModelConfig, 24, 1024, 30522),
  "bert-base-cased": _sized(ModelConfig, 12, 768, 28996),
  "bert-large-cased": _sized(ModelConfig, 24, 1024, 28996),
  # Liu et al. 2019; Sanh et al. 2019
  "roberta-base": _sized(ModelConfig, 12, 768, 50265, **_ROBERTA),
  "roberta-large": _sized(ModelConfig, 24, 1024, 50265, **_ROBERTA),
  "distilroberta-base": _sized(ModelConfig, 6, 768, 50265, **_ROBERTA),
  "distilbert-base-uncased": _sized(DistilBertConfig, 6, 768, 30522),
  # Lan et al. 2019, table 1; heads as released
  "albert-base": _sized(AlbertConfig, 12, 768, 30000),
  "albert-large": _sized(AlbertConfig, 24, 1024, 30000),
  "albert-xlarge": _sized(AlbertConfig, 24, 2048, 30000, num_heads=16),
  "albert-xxlarge": _sized(AlbertConfig, 12, 4096, 30000),
  # Clark et al. 2020; google-research/electra, modeling.py and configure_pretraining.py
  "electra-small-discriminator": _sized(ElectraConfig, 12, 256, 30522, embedding_size=128),
  "electra-small-generator": _sized(ElectraConfig, 12, 256, 30522, embedding_size=128),  # full width, as released
  "electra-base-discriminator": _sized(ElectraConfig, 12, 768, 30522),
  "electra-base-generator": _sized(ElectraConfig, 12, 256, 30522, embedding_size=768),
  "electra-large-discriminator": _sized(ElectraConfig, 24, 1024, 30522, embedding_size=1024),
  "electra-large-generator": _sized(ElectraConfig, 24, 256, 30522, embedding_size=1024),
  # Yang et al. 2019
  "xlnet-base-cased": _sized(XlnetConfig, 12, 768, 32000),
  "xlnet-large-cased": _sized(XlnetConfig, 24, 1024, 32000),
  # He et al. 2020 and 2021
  "deberta-base": _sized(DebertaConfig, 12, 768, 50265),
  "deberta-large": _sized(DebertaConfig, 24, 1024, 50265),
  "deberta-v2-xlarge": _sized(DebertaV2Config, 24, 1536, 128100, **_XL),
  "deberta-v2-xxlarge": _sized(DebertaV2Config, 48, 1536, 128100, **_XL),
  "deberta-v3-xsmall": _sized(DebertaV2Config, 12, 384, 128100),
  "deberta-v3-small": _sized(DebertaV2Config, 6, 768, 128100),
  "deberta-v3-base": _sized(DebertaV2Config, 12, 768, 128100),
  "deberta-v3-large": _sized(DebertaV2Config, 24, 1024, 128100),
  "mdeberta-v3-base": _sized(DebertaV2Config, 12, 768, 251000),
  # Warner et al. 2024, table 4
  "modernbert-base": _sized(ModernBertConfig, 22, 768, 50368, intermediate_size=1152),
  "modernbert-large": _sized(ModernBertConfig, 28, 1024, 50368, intermediate_size=2624),
}
