"""BERT's files."""

from collections.abc import Iterator

from bert_jax.architectures import BertConfig, EncoderConfig
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.families.base import (
  MODEL,
  Family,
  Head,
  after_attention,
  classifier,
  dense,
  embeddings,
  mlm_head,
)

BERT_KEYS = {
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
BERT_MLM_HEAD = mlm_head(
  "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"
)


def bert_encoder(c: EncoderConfig, network: str) -> Iterator[Entry]:
  del network
  yield from embeddings(Place(("encoder",), ""), c)
  yield from bert_blocks(c)


def bert_blocks(c: EncoderConfig) -> Iterator[Entry]:
  for layer in range(c.num_layers):
    place = Place(("encoder", "layers"), f"encoder.layer.{layer}.", layer)
    for name in ("query", "key", "value"):
      yield from place.dense(name, f"attention.self.{name}")
    yield from after_attention(place)


_POOLER = dense("pooler.dense", "bert.pooler.dense")
_PAIRS = dense("nsp_head", "cls.seq_relationship")
_TIED = {
  "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
  "cls.predictions.decoder.bias": "cls.predictions.bias",
}

BERT = Family(
  config_class=BertConfig,
  stems={"bert": "Bert"},
  prefix="bert",
  encoder=bert_encoder,
  heads={
    "encoder": Head(MODEL),
    "pooled_encoder": Head(MODEL, dense("pooler.dense", "pooler.dense")),
    "sequence_classification": Head("ForSequenceClassification", _POOLER + classifier()),
    "token_classification": Head("ForTokenClassification", classifier()),
    "question_answering": Head("ForQuestionAnswering", classifier("qa_outputs")),
    "pretraining": Head("ForPreTraining", BERT_MLM_HEAD + _POOLER + _PAIRS, _TIED),
    "sentence_pairs": Head("ForNextSentencePrediction", _POOLER + _PAIRS),
    "masked_lm": Head("ForMaskedLM", BERT_MLM_HEAD, _TIED),
    "multiple_choice": Head("ForMultipleChoice", _POOLER + classifier()),
  },
  keys=BERT_KEYS,
  defaults={"bert": {"vocab_size": 30522}},
  required={"position_embedding_type": ("absolute",)},
  lowercases=True,
)
