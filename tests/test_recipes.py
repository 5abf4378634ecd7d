"""The recipes' shapes, by the published parameter counts."""

import dataclasses
from typing import Any

import jax
import pytest

from bert_jax.config import ModelConfig, validate
from bert_jax.recipes import RECIPES, bert_model, recipe, roberta_model
from bert_jax.training.step import init_params

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


def counts(model: ModelConfig) -> tuple[int, int, int]:
  """Parameters of the encoder with pooler, of the encoder with the MLM head, and of all."""

  def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))

  params = jax.eval_shape(lambda: init_params(dataclasses.replace(model, pooler=True), seed=0))
  encoder = count(params["encoder"])
  return encoder + count(params["pooler"]), encoder + count(params["mlm_head"]), count(params)


@pytest.mark.parametrize("size", BERT)
def test_bert_has_the_published_number_of_parameters(size: str):
  assert counts(dataclasses.replace(bert_model(size), vocab_size=30522)) == BERT[size]


@pytest.mark.parametrize("size", ROBERTA)
def test_roberta_has_the_published_number_of_parameters(size: str):
  assert counts(dataclasses.replace(roberta_model(size), vocab_size=50265))[:2] == ROBERTA[size]


def test_a_model_without_pooler_has_no_parameters_of_it():
  params = jax.eval_shape(lambda: init_params(dataclasses.replace(roberta_model("base"), vocab_size=50265), seed=0))
  assert set(params) == {"encoder", "mlm_head"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid(name: str):
  assert validate(recipe(name)) is RECIPES[name]


def test_an_unknown_recipe_is_refused_with_those_that_exist():
  with pytest.raises(ValueError, match=r"bert_bose.*bert_base"):
    recipe("bert_bose")
