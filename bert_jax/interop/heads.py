"""Hugging Face's names and shapes of every head's arrays."""

from collections.abc import Iterator

from bert_jax.architectures import AlbertConfig
from bert_jax.config import EncoderConfig
from bert_jax.interop.encoders import PREFIX
from bert_jax.interop.entries import Entry, Place
from bert_jax.models.family import architecture_of

_ROOT = Place((), "")


def _mlm_head(c: EncoderConfig, enhanced: bool) -> Iterator[Entry]:
  name = architecture_of(c).name
  dense, norm, bias = {
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "distilbert": ("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    "albert": ("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
    "electra": ("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
    "modernbert": ("head.dense", "head.norm", "decoder.bias"),
  }.get(name, ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"))
  if enhanced:
    dense, norm, bias = (f"lm_predictions.lm_head.{part}" for part in ("dense", "LayerNorm", "bias"))
  biased = name != "modernbert"
  yield from _ROOT.dense("mlm_head.dense", dense, biased)
  yield from _ROOT.norm("mlm_head.layer_norm", norm, biased)
  yield _ROOT.array("mlm_head.bias", bias)


# Theirs of the layer that makes a vector of a text for a task.
_POOLERS = {
  "roberta": "classifier.dense",
  "distilbert": "pre_classifier",
  "electra": "classifier.dense",
  "xlnet": "sequence_summary.summary",
  "deberta": "pooler.dense",
  "deberta-v2": "pooler.dense",
}


def _pooler(c: EncoderConfig, network: str) -> Iterator[Entry]:
  name = architecture_of(c).name
  if name == "modernbert":
    yield from _ROOT.dense("pooler.layer.dense", "head.dense", bias=False)
    yield from _ROOT.norm("pooler.layer.layer_norm", "head.norm", bias=False)
  elif name in ("bert", "albert") or (name == "roberta" and network != "sequence_classification"):
    yield from pretrained_pooler(c, PREFIX[name] + ".")
  elif name == "electra" and network == "multiple_choice":
    yield from _ROOT.dense("pooler.dense", "sequence_summary.summary")
  else:
    yield from _ROOT.dense("pooler.dense", _POOLERS[name])


def pretrained_pooler(c: EncoderConfig, prefix: str) -> Iterator[Entry]:
  """The arrays of the pooler that BERT, RoBERTa's class and ALBERT keep inside the encoder's prefix."""
  # ALBERT's pooler is a Linear itself, the others' holds one.
  yield from _ROOT.dense("pooler.dense", prefix + ("pooler" if isinstance(c, AlbertConfig) else "pooler.dense"))


def _classifier(c: EncoderConfig, network: str) -> Iterator[Entry]:
  name = architecture_of(c).name
  theirs = "classifier"
  if network == "question_answering":
    theirs = "classifier" if name == "modernbert" else "qa_outputs"
  elif network == "sequence_classification" and name in ("roberta", "electra"):
    theirs = "classifier.out_proj"
  elif network in ("sequence_classification", "multiple_choice") and name == "xlnet":
    theirs = "logits_proj"
  yield from _ROOT.dense("classifier", theirs)


def head(c: EncoderConfig, network: str) -> Iterator[Entry]:
  """Of all that stands beside the encoder in a network."""
  name = architecture_of(c).name
  if network in ("pretraining", "masked_lm", "enhanced_masked_lm"):
    yield from _mlm_head(c, network == "enhanced_masked_lm")
  if network in ("pretraining", "sentence_pairs"):
    yield from pretrained_pooler(c, PREFIX[name] + ".")
    yield from _ROOT.dense("nsp_head", "sop_classifier.classifier" if name == "albert" else "cls.seq_relationship")
  elif network == "replaced_tokens":
    yield from _ROOT.dense("discriminator_head.dense", "discriminator_predictions.dense")
    yield from _ROOT.dense("discriminator_head.output", "discriminator_predictions.dense_prediction")
  elif network == "permutation_lm":
    yield _ROOT.array("lm_bias", "lm_loss.bias")
  elif network in ("sequence_classification", "multiple_choice"):
    yield from _pooler(c, network)
    yield from _classifier(c, network)
  elif network in ("token_classification", "question_answering"):
    if name == "modernbert":
      yield from _ROOT.dense("token_layer.dense", "head.dense", bias=False)
      yield from _ROOT.norm("token_layer.layer_norm", "head.norm", bias=False)
    yield from _classifier(c, network)
  elif network == "spans":
    yield from _ROOT.dense("span_head.start", "start_logits.dense")
    yield from _ROOT.dense("span_head.end", "end_logits.dense_0")
    yield from _ROOT.norm("span_head.end_norm", "end_logits.LayerNorm")
    yield from _ROOT.dense("span_head.end_output", "end_logits.dense_1")
    yield from _ROOT.dense("span_head.answer", "answer_class.dense_0")
    yield from _ROOT.dense("span_head.answer_output", "answer_class.dense_1", bias=False)
