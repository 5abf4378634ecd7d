"""ALBERT's files."""

from collections.abc import Iterator

from bert_jax.architectures import AlbertConfig
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.families.base import MODEL, Family, Head, classifier, dense, embeddings, mlm_head
from bert_jax.interop.families.bert import BERT_KEYS


def _encoder(c: AlbertConfig, network: str) -> Iterator[Entry]:
  del network
  root = Place(("encoder",), "")
  yield from embeddings(root, c)
  yield from root.dense("projection", "encoder.embedding_hidden_mapping_in")
  for group in range(c.num_groups):
    for block in range(c.blocks_per_group):
      theirs = f"encoder.albert_layer_groups.{group}.albert_layers.{block}."
      yield from _block(Place(("encoder", f"group_{group}", f"block_{block}"), theirs))


def _block(place: Place) -> Iterator[Entry]:
  for name in ("query", "key", "value"):
    yield from place.dense(name, f"attention.{name}")
  yield from place.dense("attention_output", "attention.dense")
  yield from place.norm("attention_norm", "attention.LayerNorm")
  yield from place.dense("intermediate", "ffn")
  yield from place.dense("output", "ffn_output")
  yield from place.norm("output_norm", "full_layer_layer_norm")


_POOLER = dense("pooler.dense", "albert.pooler")  # is a Linear, where BERT's contains one
_MLM_HEAD = mlm_head("predictions.dense", "predictions.LayerNorm", "predictions.bias")
_TIED = {
  "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
  "predictions.decoder.bias": "predictions.bias",
}

ALBERT = Family(
  config_class=AlbertConfig,
  stems={"albert": "Albert"},
  prefix="albert",
  encoder=_encoder,
  heads={
    "encoder": Head(MODEL),
    "pooled_encoder": Head(MODEL, dense("pooler.dense", "pooler")),
    "sequence_classification": Head("ForSequenceClassification", _POOLER + classifier()),
    "token_classification": Head("ForTokenClassification", classifier()),
    "question_answering": Head("ForQuestionAnswering", classifier("qa_outputs")),
    "pretraining": Head("ForPreTraining", _MLM_HEAD + _POOLER + dense("nsp_head", "sop_classifier.classifier"), _TIED),
    "masked_lm": Head("ForMaskedLM", _MLM_HEAD, _TIED),
    "multiple_choice": Head("ForMultipleChoice", _POOLER + classifier()),
  },
  keys=BERT_KEYS
  | {
    "head_dropout": "classifier_dropout_prob",
    "embedding_size": "embedding_size",
    "num_groups": "num_hidden_groups",
    "blocks_per_group": "inner_group_num",
  },
  defaults={"albert": {"hidden_size": 4096, "num_heads": 64, "intermediate_size": 16384, "vocab_size": 30000}},
  required={"position_embedding_type": ("absolute",)},
  lowercases=True,
)
