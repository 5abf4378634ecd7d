"""What we know of the files of each architecture, a module for each: names of arrays, config.json, classes."""

from bert_jax.architectures import EncoderConfig
from bert_jax.interop.families.albert import ALBERT
from bert_jax.interop.families.base import Family
from bert_jax.interop.families.bert import BERT
from bert_jax.interop.families.deberta import DEBERTA, DEBERTA_V2
from bert_jax.interop.families.distilbert import DISTILBERT
from bert_jax.interop.families.electra import ELECTRA
from bert_jax.interop.families.modernbert import MODERNBERT
from bert_jax.interop.families.roberta import ROBERTA
from bert_jax.interop.families.xlnet import XLNET

FAMILIES: dict[str, Family] = {
  family.config_class.kind: family
  for family in (BERT, ROBERTA, DISTILBERT, ALBERT, ELECTRA, XLNET, DEBERTA, DEBERTA_V2, MODERNBERT)
}
# Every model_type that a config.json may have: the architectures' own names first, then their other names.
BY_MODEL_TYPE: dict[str, Family] = FAMILIES | {name: family for family in FAMILIES.values() for name in family.stems}


def family_of(config: EncoderConfig) -> Family:
  """The family of a model's architecture.

  Raises:
    ValueError: there is none, since transformers has no class for it.
  """
  if config.kind not in FAMILIES:
    raise ValueError(
      f"model={config.kind} cannot be a Hugging Face folder: transformers has no class for it (its authors' own is code"
      " beside the weights); keep bert_jax's own format: bert_jax.load opens the run, and Model.save writes a folder"
    )
  return FAMILIES[config.kind]
