"""Which modules make up an architecture, by the class of its settings."""

import dataclasses
from typing import Any

from bert_jax.architectures import (
  AlbertConfig,
  DebertaConfig,
  DebertaV2Config,
  DistilBertConfig,
  ElectraConfig,
  ModernBertConfig,
  XlnetConfig,
)
from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.models.albert import AlbertEncoder
from bert_jax.models.bert import BertEncoder, DistilBertPooler, Pooler, RobertaPooler
from bert_jax.models.deberta import ContextPooler, DebertaEncoder, DebertaV2Encoder
from bert_jax.models.electra import ElectraEncoder, ElectraPooler, ElectraSpanHead
from bert_jax.models.modernbert import ModernBertEncoder, ModernBertPooler, PredictionLayer
from bert_jax.models.xlnet import XlnetEncoder, XlnetPooler, XlnetSpanHead


@dataclasses.dataclass(frozen=True)
class Architecture:
  """The parts of one architecture.

  Attributes:
    name: as Hugging Face's `model_type`.
    encoder: token ids → `Encoded`.
    pooler: hidden states → one vector for a text, before dropout and a task's linear layer.
    token_layer: hidden states → what a task's linear layer reads of each token; None where it reads them as they are.
    span_head: scores spans with the end given the start, where the architecture has such a head.
  """

  name: str
  encoder: Any
  pooler: Any
  token_layer: Any = None
  span_head: Any = None


_ROBERTA = Architecture("roberta", BertEncoder, RobertaPooler)
_ARCHITECTURES: dict[type, Architecture] = {
  ModelConfig: Architecture("bert", BertEncoder, Pooler),
  DistilBertConfig: Architecture("distilbert", BertEncoder, DistilBertPooler),
  AlbertConfig: Architecture("albert", AlbertEncoder, Pooler),
  ElectraConfig: Architecture("electra", ElectraEncoder, ElectraPooler, span_head=ElectraSpanHead),
  XlnetConfig: Architecture("xlnet", XlnetEncoder, XlnetPooler, span_head=XlnetSpanHead),
  DebertaConfig: Architecture("deberta", DebertaEncoder, ContextPooler),
  DebertaV2Config: Architecture("deberta-v2", DebertaV2Encoder, ContextPooler),
  ModernBertConfig: Architecture("modernbert", ModernBertEncoder, ModernBertPooler, token_layer=PredictionLayer),
}


def architecture_of(config: EncoderConfig) -> Architecture:
  """The architecture of a model's settings. RoBERTa's are BERT's with unused rows before position 0."""
  if type(config) is ModelConfig and config.position_offset:
    return _ROBERTA
  return _ARCHITECTURES[type(config)]


def settings_class(name: str) -> type[EncoderConfig]:
  """The class of an architecture's settings, by its name."""
  classes = {architecture.name: kind for kind, architecture in _ARCHITECTURES.items()} | {_ROBERTA.name: ModelConfig}
  return classes[name]
