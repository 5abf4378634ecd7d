"""XLNet's files.

D hidden size, H heads, C = D / H.
"""

from collections.abc import Iterator

import numpy as np

from bert_jax.architectures import XlnetConfig
from bert_jax.interop import rules
from bert_jax.interop.arrays import Entry, Place
from bert_jax.interop.families.base import MODEL, Family, Head, Values, array, classifier, dense, norm


def _encoder(c: XlnetConfig, network: str) -> Iterator[Entry]:
  del network
  root = Place(("encoder",), "")
  yield root.array("words", "word_embedding.weight")
  yield root.array("mask_embedding", "mask_emb")
  heads = (c.num_heads, c.hidden_size // c.num_heads)

  def into(x: np.ndarray) -> np.ndarray:  # [D, H, C] → [D, D]
    return x.reshape(x.shape[0], -1)

  def back(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0], *heads)

  for layer in range(c.num_layers):
    place = Place(("encoder", "layers"), f"layer.{layer}.", layer)
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("position", "r")):
      yield place.array(f"{ours}.kernel", f"rel_attn.{theirs}", into, back)
    yield place.array(  # theirs is [D, H, C] with the output first
      "attention_output.kernel", "rel_attn.o", lambda x: into(x).T, lambda x: back(np.ascontiguousarray(x.T))
    )
    for ours, theirs in (("content", "w"), ("position", "r"), ("segment", "s")):
      yield place.array(f"{ours}_bias", f"rel_attn.r_{theirs}_bias")
    yield place.array("segments", "rel_attn.seg_embed")
    yield from place.norm("attention_norm", "rel_attn.layer_norm")
    yield from place.dense("intermediate", "ff.layer_1")
    yield from place.dense("output", "ff.layer_2")
    yield from place.norm("output_norm", "ff.layer_norm")


def _write(config: XlnetConfig, values: Values) -> Values:
  if config.head_dropout is None:  # which its class does not take
    values = {name: value for name, value in values.items() if name != "summary_last_dropout"}
  return values | {"attn_type": "bi", "untie_r": True}


_POOLER = dense("pooler.dense", "sequence_summary.summary")
_SPANS = (
  dense("span_head.start", "start_logits.dense")
  + dense("span_head.end", "end_logits.dense_0")
  + norm("span_head.end_norm", "end_logits.LayerNorm")
  + dense("span_head.end_output", "end_logits.dense_1")
  + dense("span_head.answer", "answer_class.dense_0")
  + dense("span_head.answer_output", "answer_class.dense_1", bias=False)
)
_TIED = {"lm_loss.weight": "transformer.word_embedding.weight"}

XLNET = Family(
  config_class=XlnetConfig,
  stems={"xlnet": "XLNet"},
  prefix="transformer",
  encoder=_encoder,
  heads={
    "encoder": Head(MODEL),
    "sequence_classification": Head("ForSequenceClassification", _POOLER + classifier("logits_proj")),
    "token_classification": Head("ForTokenClassification", classifier()),
    "permutation_lm": Head("LMHeadModel", array("lm_bias", "lm_loss.bias"), _TIED),
    "question_answering": Head("ForQuestionAnsweringSimple", classifier("qa_outputs")),
    "spans": Head("ForQuestionAnswering", _SPANS),
    "multiple_choice": Head("ForMultipleChoice", _POOLER + classifier("logits_proj")),
  },
  keys={
    "vocab_size": "vocab_size",
    "num_layers": "n_layer",
    "hidden_size": "d_model",
    "num_heads": "n_head",
    "intermediate_size": "d_inner",
    "activation": "ff_activation",
    "layer_norm_eps": "layer_norm_eps",
    "hidden_dropout": "dropout",
    "attention_dropout": "dropout",
    "head_dropout": "summary_last_dropout",
    "initializer_range": "initializer_range",
    "clamp_length": "clamp_len",
    "memory_length": "mem_len",
    "reuse_length": "reuse_len",
  },
  defaults={
    "xlnet": {"vocab_size": 32000, "num_layers": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096}
  },
  required={
    "attn_type": ("bi",),
    "bi_data": (False,),
    "same_length": (False,),
    "summary_type": ("last",),
    "summary_activation": ("tanh",),
    "summary_use_proj": (True,),
  },
  rules={"d_head": rules.whole(1, 10_000)},
  write=_write,
)
