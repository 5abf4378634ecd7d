"""The files of RoBERTa, and of XLM-RoBERTa and CamemBERT, which have the same network."""

import dataclasses
from typing import Any

import numpy as np

from bert_jax.architectures import MOST_POSITIONS, RobertaConfig
from bert_jax.interop import rules
from bert_jax.interop.families.base import MODEL, Family, Head, Parameters, Values, classifier, dense, mlm_head
from bert_jax.interop.families.bert import BERT_KEYS, bert_encoder


def _read(values: Values, found: Values, origin: str) -> Values:
  """The positions and their offset: position 0 is the row after that of the padding's id."""
  offset, rows = values.get("pad_token_id", 1) + 1, found.get("max_positions", 512)
  if rows <= offset:
    raise ValueError(
      f"{origin} is of no model that can be built: {offset} rows before position 0 leave {rows - offset} positions"
    )
  return {"position_offset": offset, "max_positions": rows - offset}


def _write(config: RobertaConfig, values: Values) -> Values:
  return values | {"max_position_embeddings": config.max_positions + config.position_offset}


def _fit(config: RobertaConfig, arrays: Parameters, padding: int) -> tuple[RobertaConfig, Parameters]:
  """The positions moved to where Hugging Face's class looks for them: from the row after that of the padding's id."""
  offset, path = padding + 1, "encoder/embeddings/positions"
  if offset == config.position_offset:
    return config, arrays
  learned = arrays[path][config.position_offset :]
  moved = np.concatenate([np.zeros((offset, config.hidden_size), np.float32), learned])
  return dataclasses.replace(config, position_offset=offset), arrays | {path: moved}


_MLM_HEAD = mlm_head("lm_head.dense", "lm_head.layer_norm", "lm_head.bias")
_TIED = {"lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"}
# Hugging Face's defaults are BERT's, except for the size of the vocabulary.
_DEFAULTS: dict[str, Any] = {"vocab_size": 30522, "layer_norm_eps": 1e-12, "type_vocab_size": 2}

ROBERTA = Family(
  config_class=RobertaConfig,
  stems={"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"},
  prefix="roberta",
  encoder=bert_encoder,
  heads={
    "encoder": Head(MODEL),
    "pooled_encoder": Head(MODEL, dense("pooler.dense", "pooler.dense")),
    "sequence_classification": Head(
      "ForSequenceClassification", dense("pooler.dense", "classifier.dense") + classifier("classifier.out_proj")
    ),
    "token_classification": Head("ForTokenClassification", classifier()),
    "question_answering": Head("ForQuestionAnswering", classifier("qa_outputs")),
    "masked_lm": Head("ForMaskedLM", _MLM_HEAD, _TIED),
    "multiple_choice": Head("ForMultipleChoice", dense("pooler.dense", "roberta.pooler.dense") + classifier()),
  },
  keys=BERT_KEYS,
  defaults={
    "roberta": _DEFAULTS | {"vocab_size": 50265},
    "xlm-roberta": _DEFAULTS,
    "camembert": _DEFAULTS,
  },
  # Their head for masked tokens has GELU whatever the config says; ours has the config's activation.
  required={"position_embedding_type": ("absolute",), "hidden_act": ("gelu", "gelu_python")},
  rules={
    "pad_token_id": rules.whole(0, rules.MOST),
    "max_position_embeddings": rules.whole(1, 2 * MOST_POSITIONS),  # including the rows before position 0
  },
  read=_read,
  write=_write,
  fit=_fit,
)
