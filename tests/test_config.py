"""Every rule of `validate` refuses what it says, with name, value, rule and a way out."""

import re
import typing
from typing import Any

import pytest

from bert_jax import recipes, settings
from bert_jax.architectures import BertConfig, ElectraConfig, XlnetConfig
from bert_jax.config import Config, num_prediction_slots
from bert_jax.objective_configs import (
  ClassificationConfig,
  MaskedTokensConfig,
  PermutationConfig,
  ReplacedTokensConfig,
  SimilarityConfig,
)
from bert_jax.validation import validate

# A recipe of every kind of model and objective, so that every setting is of one of them.
KINDS = [recipes.recipe(name) for name in recipes.RECIPES] + [
  Config(XlnetConfig(), objective=ReplacedTokensConfig()),
  Config(objective=ClassificationConfig()),
  Config(objective=SimilarityConfig()),
]
KERNEL = {"runtime.attention": "cudnn", "runtime.compute_dtype": "bfloat16", "model.attention_dropout": 0.0}
NUMBERS = {
  leaf.path: (config, leaf)
  for config in KINDS
  for leaf in settings.leaves(config)
  if {int, float} & {leaf.type, *typing.get_args(leaf.type)}
}


def test_every_setting_is_of_one_of_these_configs() -> None:
  assert {leaf.path for config in KINDS for leaf in settings.leaves(config)} == {
    leaf.path for leaf in settings.leaves(Config)
  }


@pytest.mark.parametrize("path", NUMBERS)
def test_a_number_beyond_its_bounds_is_refused(path: str) -> None:
  """Each end that a setting declares is one that holds, and no number is without any."""
  config, leaf = NUMBERS[path]
  bounds, whole = leaf.bounds, float not in {leaf.type, *typing.get_args(leaf.type)}
  least = 1 if whole else 1e-9
  wrong: list[Any] = [] if whole else [float("nan"), float("inf")]
  wrong += [bounds.at_least - least] if bounds.at_least is not None else []
  wrong += [bounds.above, bounds.above - least] if bounds.above is not None else []
  wrong += [bounds.at_most + (1 if whole else bounds.at_most * 1e-9)] if bounds.at_most is not None else []
  wrong += [bounds.below] if bounds.below is not None else []
  assert bounds.at_least is not None or bounds.above is not None, "a number has a least"
  for value in wrong:
    value = int(value) if whole else float(value)
    with pytest.raises(ValueError, match=f"^{re.escape(path)}={re.escape(str(value))} must be ") as error:
      validate(settings.assign(config, {path: value}))
    assert str(bounds) in str(error.value)
    assert (", or none" in str(error.value)) == (type(None) in typing.get_args(leaf.type))


LARGE = [path for path, (_, leaf) in NUMBERS.items() if leaf.type is int and leaf.bounds.at_most is not None]


@pytest.mark.parametrize("path", LARGE)
def test_what_no_machine_could_hold_is_refused(path: str) -> None:
  with pytest.raises(ValueError, match=rf"{re.escape(path)}=1{'0' * 12} must be .*at most [\d,]+"):
    validate(settings.assign(NUMBERS[path][0], {path: 10**12}))


@pytest.mark.parametrize("path", ["train.batch_size", "evaluation.batch_size", "transfer.batch_size"])
def test_a_batch_has_a_limit_of_tokens(path: str) -> None:
  config = settings.assign(recipes.recipe("roberta_large"), {"transfer.max_seq_len": 512})
  validate(settings.assign(config, {path: 1 << 19}))
  with pytest.raises(ValueError, match=rf"{path}=524289 times .*=512 are 268,435,968 tokens a batch.*; try 524,288"):
    validate(settings.assign(config, {path: (1 << 19) + 1}))


@pytest.mark.parametrize(
  ("assignments", "message"),
  [
    ({"model.hidden_size": 131}, "model.hidden_size=131 must be divisible by model.num_heads=2; try 130"),
    ({"model.hidden_size": 1}, "model.hidden_size=1 must be divisible by model.num_heads=2; try 2"),
    ({"data.max_seq_len": 513}, "data.max_seq_len=513 is more than model.max_positions=512; shorten the one or"),
    ({"data.max_seq_len": 7}, "data.max_seq_len=7 must be at least 8"),
    ({"data.masking.random_prob": 0.3}, "data.masking.random_prob=0.3 and data.masking.mask_prob=0.8 add up to more"),
    ({"data.masking.max_predictions": 129}, "data.masking.max_predictions=129 is more than data.max_seq_len=128"),
    ({"transfer.finetuned_draws": 21}, "transfer.finetuned_draws=21 is more than transfer.draws=20; lower the one"),
    ({"train.steps": 10_000}, "optim.warmup_steps=10000 must be below train.steps=10000; try 1000"),
    ({"optim.decay_steps": 9}, "optim.decay_steps=9 is of the schedule warmup_stable_decay alone"),
    ({"optim.schedule": "warmup_stable_decay"}, "over how many steps it falls; try optim.decay_steps=100000"),
    (
      {"optim.schedule": "warmup_stable_decay", "optim.decay_steps": 990_001},
      "optim.decay_steps=990001 is more than what warm-up leaves of train.steps=1000000; try 99000",
    ),
    (
      {"optim.schedule": "inverse_sqrt", "optim.final_share": 0.1},
      "optim.final_share=0.1 is not for optim.schedule=inv",
    ),
    (
      {"runtime.accumulation_steps": 3},
      "train.batch_size=256 must be divisible by runtime.accumulation_steps=3; try 255 or 258",
    ),
    ({"data.format": "full_sentences"}, "objective.sentence=nsp needs pairs, and data.format=full_sentences has"),
    ({"data.format": "doc_sentences"}, "set objective.sentence=none or data.format=segment_pair"),
    (
      {"model.type_vocab_size": 1},
      "data.format=segment_pair has pairs, and model=bert tells 1 segments apart; set data.format=full_sentences, or"
      " model.type_vocab_size=2",
    ),
    ({"objective.sentence": "sop"}, "objective.sentence=sop asks another question than data.pairs=random answers; set"),
    ({"data.pairs": "swapped"}, "objective.sentence=nsp asks another question than data.pairs=swapped answers"),
    ({"data.masking.prediction_rate": 0.4}, "must be at most data.masking.rate=0.15, or a multiple of it; try 0.45"),
    (
      {"data.masking.prediction_rate": 0.3, "data.masking.unit": "span"},
      "is above data.masking.rate=0.15, which takes masks of single tokens; set data.masking.unit=token",
    ),
    ({"data.masking.prediction_rate": 0.45}, "is to be divided into the 3 copies of each example that"),
    ({"train.phases": "1*128,0*64"}, "train.phases=1*128,0*64 leaves '0*64' without one of train.steps=1000000"),
    ({"train.phases": "0.5*128,0.4*64"}, "has shares of 0.9 together, which must be 1"),
    ({"train.phases": "0.5*128,0.5"}, "must be like 0.9*128,0.1*512 or 1*128x256. Got '0.5'"),
    (
      {"train.phases": "0.5*64,0.5*100"},
      "data.max_seq_len=128 must be the largest of train.phases=0.5*64,0.5*100; set",
    ),
    ({"train.phases": "0.5*64x8,0.5*128x32"}, "train.batch_size=256 must be the largest of train.phases="),
    ({"objective.boundary": True}, "is for single segments, and objective.sentence=nsp; set objective.sentence=none"),
    ({"objective.enhanced_decoder": True}, "is DeBERTa's, and model=bert has none; set it to false"),
    ({"runtime.attention": "fused"}, "runtime.attention=fused has no dropout, and model.attention_dropout=0.1; set"),
    (
      {"runtime.attention": "cudnn", "model.attention_dropout": 0.0},
      "runtime.attention=cudnn is of short numbers, and runtime.compute_dtype=float32; set",
    ),
    (
      KERNEL | {"model.hidden_size": 24, "model.num_heads": 2},
      "at most 256, and model.hidden_size by model.num_heads is 12; set",
    ),
  ],
  ids=str,
)
def test_a_rule_between_settings_is_refused(assignments: dict[str, Any], message: str) -> None:
  one_length = {"train.phases": None, "data.max_seq_len": 128}
  config = settings.assign(recipes.recipe("bert_tiny"), one_length | assignments)
  with pytest.raises(ValueError, match=re.escape(message)):
    validate(config)


@pytest.mark.parametrize(
  ("recipe", "assignments", "message"),
  [
    (
      "mosaic_bert_base",
      KERNEL,
      "=cudnn adds nothing to the products of queries and keys, and model=mosaic-bert does",
    ),
    ("electra_small", {"model.num_heads": 3}, "model.hidden_size=256 must be divisible by model.num_heads=3; try 255"),
    ("albert_base", {"model.num_groups": 13}, "model.num_groups=13 must be at most model.num_layers=12"),
    ("deberta_v2_xlarge", {"model.convolution_size": 4}, "model.convolution_size=4 must be odd"),
    ("deberta_v2_xlarge", {"model.convolution_groups": 7}, "model.convolution_groups=7 must divide model.hidden_size"),
    ("deberta_v2_xlarge", {"model.position_buckets": 1}, "model.position_buckets=1 must be at least 2"),
    ("deberta_v2_xlarge", {"model.max_distance": 60}, "model.position_buckets=256 must be at least 2, and its half"),
    ("modernbert_base", {"model.num_heads": 256}, "rotary angles need an even width"),
    ("distilbert_base", {"data.format": "segment_pair"}, "data.format=segment_pair has pairs, and model=distilbert"),
    ("electra_small", {"model.type_vocab_size": 1}, "tells 1 segments apart"),
    ("bert_base", {"data.preceding_tokens": 9}, "data.preceding_tokens=9 is the memory of permutations alone, and the"),
    ("xlnet_base", {"data.packing": 8}, "data.packing=8 is not for model=xlnet, which puts"),
    (
      "deberta_v2_xlarge",
      {"data.packing": 8},
      "data.packing=8 is not for model.convolution_size=3, which reaches",
    ),
    (
      "deberta_v3_base",
      {"data.packing": 8},
      "with model=deberta-v2, whose head reads the first token of a row",
    ),
    (
      "xlnet_base",
      {"data.masking.rate": 0.2},
      "data.masking.rate=0.2 is of masks, and objective=permutation shows all",
    ),
    ("xlnet_base", {"data.pairs": "swapped"}, "data.pairs=swapped puts what follows before it, so that"),
    ("xlnet_base", {"model.memory_length": 383}, "data.preceding_tokens=384 is more than model.memory_length=383"),
  ],
  ids=str,
)
def test_a_rule_of_an_architecture_is_refused(recipe: str, assignments: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=re.escape(message)):
    validate(settings.assign(recipes.recipe(recipe), assignments))


@pytest.mark.parametrize(
  ("model", "objective", "message"),
  [
    (BertConfig(), PermutationConfig(), "objective=permutation does not fit model=bert; masked tokens fit every"),
    (BertConfig(), ReplacedTokensConfig(), "objective=replaced_tokens does not fit model=bert"),
    (
      ElectraConfig(),
      MaskedTokensConfig(sentence="nsp"),
      "needs the head of a pair of texts, and model=electra has none",
    ),
  ],
  ids=str,
)
def test_an_objective_that_does_not_fit_the_model_is_refused(model: Any, objective: Any, message: str) -> None:
  with pytest.raises(ValueError, match=re.escape(message)):
    validate(Config(model, objective=objective))


@pytest.mark.parametrize(
  ("rate", "length", "slots"), [(0.15, 128, 20), (0.15, 20, 3), (0.8, 20, 16), (1.0, 20, 20), (0.01, 20, 1)]
)
def test_prediction_slots_hold_what_the_rate_asks_for(rate: float, length: int, slots: int) -> None:
  data = settings.assign(Config(), {"data.masking.rate": rate, "data.max_seq_len": length}).data
  assert num_prediction_slots(data) == slots
