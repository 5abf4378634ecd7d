"""The sizes of published checkpoints, as settings; standard library only."""

from typing import Any

from bert_jax.architectures import (
  AlbertConfig,
  BertConfig,
  DebertaConfig,
  DebertaV2Config,
  DistilBertConfig,
  ElectraConfig,
  EncoderConfig,
  ModernBertConfig,
  RobertaConfig,
  XlnetConfig,
)


def sized(kind: type[Any], layers: int, hidden: int, **more: object) -> Any:
  """A model of an architecture with heads of 64 and an inner width of 4 × hidden, unless said otherwise."""
  shape: dict[str, object] = {"num_layers": layers, "hidden_size": hidden}
  shape |= {"num_heads": hidden // 64, "intermediate_size": 4 * hidden}
  return kind(**(shape | more))


_XL = {"convolution_size": 3, "convolution_activation": "gelu"}

# Layers, widths and vocabularies as the checkpoints' own config.json has them.
PUBLISHED: dict[str, EncoderConfig] = {
  # google-research/bert README; Turc et al. 2019, table 1
  "bert-tiny": sized(BertConfig, 2, 128, vocab_size=30522),
  "bert-mini": sized(BertConfig, 4, 256, vocab_size=30522),
  "bert-small": sized(BertConfig, 4, 512, vocab_size=30522),
  "bert-medium": sized(BertConfig, 8, 512, vocab_size=30522),
  "bert-base-uncased": sized(BertConfig, 12, 768, vocab_size=30522),
  "bert-large-uncased": sized(BertConfig, 24, 1024, vocab_size=30522),
  "bert-base-cased": sized(BertConfig, 12, 768, vocab_size=28996),
  "bert-large-cased": sized(BertConfig, 24, 1024, vocab_size=28996),
  # Liu et al. 2019; Sanh et al. 2019
  "roberta-base": sized(RobertaConfig, 12, 768, vocab_size=50265),
  "roberta-large": sized(RobertaConfig, 24, 1024, vocab_size=50265),
  "distilroberta-base": sized(RobertaConfig, 6, 768, vocab_size=50265),
  "distilbert-base-uncased": sized(DistilBertConfig, 6, 768, vocab_size=30522),
  # Lan et al. 2019, table 1; heads as released
  "albert-base": sized(AlbertConfig, 12, 768, vocab_size=30000),
  "albert-large": sized(AlbertConfig, 24, 1024, vocab_size=30000),
  "albert-xlarge": sized(AlbertConfig, 24, 2048, vocab_size=30000, num_heads=16),
  "albert-xxlarge": sized(AlbertConfig, 12, 4096, vocab_size=30000),
  # Clark et al. 2020; google-research/electra, modeling.py and configure_pretraining.py
  "electra-small-discriminator": sized(ElectraConfig, 12, 256, vocab_size=30522, embedding_size=128),
  # full width, as released
  "electra-small-generator": sized(ElectraConfig, 12, 256, vocab_size=30522, embedding_size=128),
  "electra-base-discriminator": sized(ElectraConfig, 12, 768, vocab_size=30522),
  "electra-base-generator": sized(ElectraConfig, 12, 256, vocab_size=30522, embedding_size=768),
  "electra-large-discriminator": sized(ElectraConfig, 24, 1024, vocab_size=30522, embedding_size=1024),
  "electra-large-generator": sized(ElectraConfig, 24, 256, vocab_size=30522, embedding_size=1024),
  # Yang et al. 2019
  "xlnet-base-cased": sized(XlnetConfig, 12, 768, vocab_size=32000),
  "xlnet-large-cased": sized(XlnetConfig, 24, 1024, vocab_size=32000),
  # He et al. 2020 and 2021
  "deberta-base": sized(DebertaConfig, 12, 768, vocab_size=50265),
  "deberta-large": sized(DebertaConfig, 24, 1024, vocab_size=50265),
  "deberta-v2-xlarge": sized(DebertaV2Config, 24, 1536, vocab_size=128100, **_XL),
  "deberta-v2-xxlarge": sized(DebertaV2Config, 48, 1536, vocab_size=128100, **_XL),
  "deberta-v3-xsmall": sized(DebertaV2Config, 12, 384, vocab_size=128100),
  "deberta-v3-small": sized(DebertaV2Config, 6, 768, vocab_size=128100),
  "deberta-v3-base": sized(DebertaV2Config, 12, 768, vocab_size=128100),
  "deberta-v3-large": sized(DebertaV2Config, 24, 1024, vocab_size=128100),
  "mdeberta-v3-base": sized(DebertaV2Config, 12, 768, vocab_size=251000),
  # Warner et al. 2024, table 4
  "modernbert-base": sized(ModernBertConfig, 22, 768, vocab_size=50368, intermediate_size=1152),
  "modernbert-large": sized(ModernBertConfig, 28, 1024, vocab_size=50368, intermediate_size=2624),
}
