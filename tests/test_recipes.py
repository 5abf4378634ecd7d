"""The recipes' shapes, by the published parameter counts."""

import dataclasses

import jax
import pytest

from bert_jax import scales, settings
from bert_jax.config import Config
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


def test_the_crammed_bert_has_as_many_parameters_as_its_layers_add_up_to():
  words, norm, layers = 32768 * 768, 2 * 768, 16
  feed_forward = 768 * 3072 + 1536 * 768
  encoder = words + 1 + norm + layers * (4 * 768 * 768 + feed_forward + 2 * norm) + norm
  pooler, classifier = 768 * 1024 + 1024, 1024 * 2 + 2
  counted = counts("crammed_bert", 32768, ("masked_lm", "sequence_classification"))
  assert counted == (encoder, encoder + pooler + classifier)


def test_mosaic_bert_base_has_as_many_parameters_as_its_layers_add_up_to():
  """BERT-base without positions, with three matrices in the feed-forward part: 137 million, as published."""
  embeddings, norm, layers = (30528 + 2) * 768, 2 * 768, 12
  attention, feed_forward = 4 * (768 * 768 + 768), 768 * 2 * 3072 + 3072 * 768 + 768
  encoder = embeddings + norm + layers * (attention + feed_forward + 2 * norm)
  head, pooler, classifier = 768 * 768 + 768 + norm + 30528, 768 * 768 + 768, 768 * 2 + 2
  counted = counts("mosaic_bert_base", 30528, ("masked_lm", "sequence_classification"))
  assert counted == (encoder + head, encoder + pooler + classifier)
  assert round(counted[0] / 1e6) == 137


def test_little_compute_is_spent_as_published():
  """Sequences in all; MosaicBERT's are max_duration in its yaml."""
  crammed, mosaic = recipe("crammed_bert"), recipe("mosaic_bert_base")
  assert crammed.train.steps * crammed.train.batch_size == pytest.approx(85e6, rel=1e-4)
  assert mosaic.train.steps * mosaic.train.batch_size == 286_720_000
  assert mosaic.optim.weight_decay * mosaic.optim.peak_lr == pytest.approx(1e-5)
  assert (mosaic.optim.warmup_steps, crammed.optim.warmup_steps) == (4200, 0)


@pytest.mark.parametrize(
  "scale", [scales.SMOKE, scales.DEMO, scales.HOUR, scales.NIGHT], ids=["smoke", "demo", "hour", "night"]
)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid_at_every_scale(name: str, scale: settings.Assignments):
  """And has a warm-up exactly where it is published with one."""
  scaled = validate(settings.assign_shared(with_teacher(name), scale))
  assert bool(scaled.optim.warmup_steps) == bool(recipe(name).optim.warmup_steps)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid(name: str):
  config = with_teacher(name)
  assert validate(config) is config


def with_teacher(name: str) -> Config:
  """The recipe, which must be whole, but for a teacher, which is the user's to give."""
  config = recipe(name)
  if config.objective.kind != "distillation":
    return config
  with pytest.raises(ValueError, match=r"objective\.teacher=None has to name"):
    validate(config)
  return settings.assign(config, {"objective.teacher": "somewhere"})


def test_an_unknown_recipe_is_refused_with_those_that_exist():
  with pytest.raises(ValueError, match=r"bert_bose.*bert_base"):
    recipe("bert_bose")
