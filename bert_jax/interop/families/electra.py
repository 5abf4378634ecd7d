"""ELECTRA's files."""

from collections.abc import Iterator

from bert_jax.architectures import ElectraConfig
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.families.base import MODEL, Family, Head, classifier, dense, embeddings, mlm_head
from bert_jax.interop.families.bert import BERT_KEYS, bert_blocks


def _encoder(c: ElectraConfig, network: str) -> Iterator[Entry]:
  del network
  root = Place(("encoder",), "")
  yield from embeddings(root, c)
  if c.embedding_size != c.hidden_size:
    yield from root.dense("projection", "embeddings_project")
  yield from bert_blocks(c)


_MLM_HEAD = mlm_head("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias")
_DISCRIMINATOR = dense("discriminator_head.dense", "discriminator_predictions.dense") + dense(
  "discriminator_head.output", "discriminator_predictions.dense_prediction"
)
_TIED = {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}

ELECTRA = Family(
  config_class=ElectraConfig,
  stems={"electra": "Electra"},
  prefix="electra",
  encoder=_encoder,
  heads={
    "encoder": Head(MODEL),
    "sequence_classification": Head(
      "ForSequenceClassification", dense("pooler.dense", "classifier.dense") + classifier("classifier.out_proj")
    ),
    "token_classification": Head("ForTokenClassification", classifier()),
    "question_answering": Head("ForQuestionAnswering", classifier("qa_outputs")),
    "replaced_tokens": Head("ForPreTraining", _DISCRIMINATOR),
    "masked_lm": Head("ForMaskedLM", _MLM_HEAD, _TIED),
    "multiple_choice": Head("ForMultipleChoice", dense("pooler.dense", "sequence_summary.summary") + classifier()),
  },
  keys=BERT_KEYS | {"embedding_size": "embedding_size"},
  defaults={
    "electra": {
      "vocab_size": 30522,
      "hidden_size": 256,
      "num_heads": 4,
      "intermediate_size": 1024,
      "embedding_size": 128,
      "initializer": "normal",  # as in Hugging Face's class; the authors' one is truncated
    }
  },
  required={
    "position_embedding_type": ("absolute",),
    # Their heads have GELU whatever the config says; ours have the config's activation.
    "hidden_act": ("gelu", "gelu_python"),
    "summary_type": ("first",),
    "summary_activation": ("gelu",),
    "summary_use_proj": (True,),
  },
  lowercases=True,
)
