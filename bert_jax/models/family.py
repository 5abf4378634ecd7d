"""What each architecture consists of, by the class of its settings. What needs no network stands with the settings."""

import dataclasses
import functools
from typing import Any

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
from bert_jax.models.albert import AlbertEncoder
from bert_jax.models.bert import BertEncoder, DistilBertPooler, MlmHead, Pooler, RobertaPooler
from bert_jax.models.crammed_bert import CrammedBertEncoder, CrammedBertMlmHead, CrammedBertPooler
from bert_jax.models.deberta import ContextPooler, DebertaDiscriminatorHead, DebertaEncoder, DebertaV2Encoder
from bert_jax.models.electra import DiscriminatorHead, ElectraEncoder, ElectraPooler, ElectraSpanHead
from bert_jax.models.modernbert import ModernBertEncoder, ModernBertPooler, PredictionLayer
from bert_jax.models.mosaic_bert import MosaicBertEncoder
from bert_jax.models.xlnet import XlnetEncoder, XlnetPooler, XlnetSpanHead


@dataclasses.dataclass(frozen=True)
class Architecture:
  """The modules of one architecture.

  Attributes:
    encoder: `Inputs` → `Encoded`.
    pooler: hidden states → one vector for a text, before dropout and a task's linear layer.
    mlm_head: (hidden states, word table) → `VocabularyScores`.
    token_layer: hidden states → what a task's linear layer reads of each token; None where it reads them as they are.
    span_head: scores spans with the end given the start, where the architecture has such a head.
    enhanced: whether the encoder has an enhanced mask decoder.
    discriminator_head: hidden states → a logit for each token, whether it was replaced.
  """

  encoder: Any
  pooler: Any
  mlm_head: Any = MlmHead
  token_layer: Any = None
  span_head: Any = None
  enhanced: bool = False
  discriminator_head: Any = DiscriminatorHead


_ARCHITECTURES: dict[type[EncoderConfig], Architecture] = {
  BertConfig: Architecture(BertEncoder, Pooler),
  RobertaConfig: Architecture(BertEncoder, RobertaPooler),
  DistilBertConfig: Architecture(BertEncoder, DistilBertPooler),
  AlbertConfig: Architecture(AlbertEncoder, Pooler),
  ElectraConfig: Architecture(ElectraEncoder, ElectraPooler, span_head=ElectraSpanHead),
  XlnetConfig: Architecture(XlnetEncoder, XlnetPooler, span_head=XlnetSpanHead),
  DebertaConfig: Architecture(DebertaEncoder, ContextPooler, enhanced=True),
  DebertaV2Config: Architecture(
    DebertaV2Encoder, ContextPooler, enhanced=True, discriminator_head=DebertaDiscriminatorHead
  ),
  ModernBertConfig: Architecture(
    ModernBertEncoder,
    ModernBertPooler,
    mlm_head=functools.partial(MlmHead, use_bias=False),
    token_layer=PredictionLayer,
  ),
  CrammedBertConfig: Architecture(CrammedBertEncoder, CrammedBertPooler, mlm_head=CrammedBertMlmHead),
  MosaicBertConfig: Architecture(MosaicBertEncoder, Pooler),
}


def architecture_of(config: EncoderConfig) -> Architecture:
  """The modules for a model's settings."""
  return _ARCHITECTURES[type(config)]
