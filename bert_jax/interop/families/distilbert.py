"""DistilBERT's files."""

from collections.abc import Iterator

from bert_jax.architectures import DistilBertConfig
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.families.base import MODEL, Family, Head, Values, classifier, dense, embeddings, mlm_head


def _encoder(c: DistilBertConfig, network: str) -> Iterator[Entry]:
  del network
  yield from embeddings(Place(("encoder",), ""), c)
  for layer in range(c.num_layers):
    place = Place(("encoder", "layers"), f"transformer.layer.{layer}.", layer)
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("attention_output", "out")):
      yield from place.dense(ours, f"attention.{theirs}_lin")
    yield from place.norm("attention_norm", "sa_layer_norm")
    yield from place.dense("intermediate", "ffn.lin1")
    yield from place.dense("output", "ffn.lin2")
    yield from place.norm("output_norm", "output_layer_norm")


def _write(config: DistilBertConfig, values: Values) -> Values:
  del config
  return values | {"sinusoidal_pos_embds": False}


_POOLER = dense("pooler.dense", "pre_classifier")
_TIED = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}

DISTILBERT = Family(
  config_class=DistilBertConfig,
  stems={"distilbert": "DistilBert"},
  prefix="distilbert",
  encoder=_encoder,
  heads={
    "encoder": Head(MODEL),
    "sequence_classification": Head("ForSequenceClassification", _POOLER + classifier()),
    "token_classification": Head("ForTokenClassification", classifier()),
    "question_answering": Head("ForQuestionAnswering", classifier("qa_outputs")),
    "masked_lm": Head("ForMaskedLM", mlm_head("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"), _TIED),
    "multiple_choice": Head("ForMultipleChoice", _POOLER + classifier()),
  },
  keys={
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
  defaults={"distilbert": {"vocab_size": 30522}},
  write=_write,
  lowercases=True,
)
