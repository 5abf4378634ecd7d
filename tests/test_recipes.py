"""The recipes' shapes, by the published parameter counts."""

import dataclasses

import jax
import pytest

from bert_jax import settings
from bert_jax.models import networks
from bert_jax.recipes import RECIPES, recipe
from bert_jax.validation import validate
from tests.models.networks import leaf_count

# Counts of the released checkpoints: encoder with pooler, masked LM, both heads (RoBERTa has no second one).
BERT = {
  "tiny": (4_385_920, 4_416_698, 4_433_468),
  "mini": (11_170_560, 11_201_594, 11_267_900),
  "small": (28_763_648, 28_795_194, 29_058_876),
  "medium": (41_373_184, 41_404_730, 41_668_412),
  "base": (109_482_240, 109_514_298, 110_106_428),
  "large": (335_141_888, 335_174_458, 336_226_108),
}
ROBERTA = {"base": (124_645_632, 124_697_433), "large": (355_359_744, 355_412_057)}


def counts(name: str, vocab_size: int, kinds: tuple[str, ...]) -> tuple[int, ...]:
  """Parameters of some networks of a recipe's model."""
  model = dataclasses.replace(RECIPES[name].model, vocab_size=vocab_size)
  return tuple(leaf_count(jax.eval_shape(networks.initial(kind, model))) for kind in kinds)


@pytest.mark.parametrize("size", BERT)
def test_bert_has_the_published_number_of_parameters(size: str):
  assert counts(f"bert_{size}", 30522, ("pooled_encoder", "masked_lm", "pretraining")) == BERT[size]


@pytest.mark.parametrize("size", ROBERTA)
def test_roberta_has_the_published_number_of_parameters(size: str):
  assert counts(f"roberta_{size}", 50265, ("pooled_encoder", "masked_lm")) == ROBERTA[size]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid(name: str):
  config = recipe(name)
  if config.objective.kind == "distillation":
    with pytest.raises(ValueError, match=r"objective\.teacher=None has to name"):
      validate(config)
    config = settings.assign(config, {"objective.teacher": "somewhere"})
  assert validate(config) is config


def test_an_unknown_recipe_is_refused_with_those_that_exist():
  with pytest.raises(ValueError, match=r"bert_bose.*bert_base"):
    recipe("bert_bose")
