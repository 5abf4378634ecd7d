"""Every rule of `validate` refuses what it says, with name, value, rule and a way out."""

import re
from typing import Any

import pytest

from bert_jax import recipes, settings
from bert_jax.config import LIMITS, Config, num_prediction_slots, validate


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_published_recipes_keep_the_rules(name: str) -> None:
  validate(recipes.recipe(name))


AT_LEAST_ONE = (
  "model.num_layers", "model.hidden_size", "model.num_heads", "model.intermediate_size", "model.max_positions",
  "model.type_vocab_size", "data.segmentations", "data.masking.duplicates", "train.steps", "train.batch_size",
  "train.max_nonfinite_steps", "evaluation.every_steps", "evaluation.batch_size", "evaluation.max_examples",
  "transfer.labels_per_class", "transfer.batch_size", "transfer.epochs", "transfer.max_test_texts",
  "runtime.accumulation_steps", "runtime.prefetch_batches", "runtime.log_every_steps", "runtime.keep_latest",
  "data.tokenizer.vocab_size", "data.tokenizer.train_characters",
)  # fmt: skip
NOT_NEGATIVE = (
  "model.position_offset", "optim.warmup_steps", "optim.clip_norm", "optim.weight_decay",
  "runtime.save_every_steps", "runtime.save_every_minutes",
)  # fmt: skip
ABOVE_ZERO = ("model.layer_norm_eps", "model.initializer_range", "optim.peak_lr", "optim.eps", "transfer.peak_lr")
BELOW_ONE = ("model.hidden_dropout", "model.attention_dropout", "optim.beta1", "optim.beta2", "data.eval_fraction")
SHARES = (
  "data.short_seq_prob", "data.random_next_prob", "data.masking.mask_prob", "data.masking.random_prob",
  "transfer.warmup_fraction",
)  # fmt: skip
SHARES_ABOVE_ZERO = ("data.train_fraction", "data.masking.rate")
NONE_OR_ONE = ("model.vocab_size", "data.masking.max_predictions", "runtime.num_devices", "runtime.num_workers")

SINGLE: list[tuple[str, Any, str]] = [
  *((path, 0, "must be at least 1") for path in AT_LEAST_ONE),
  *((path, -1, "must not be negative") for path in NOT_NEGATIVE),
  *((path, 0.0, "must be above 0") for path in ABOVE_ZERO),
  *((path, 1.0, "must be at least 0 and below 1") for path in BELOW_ONE),
  *((path, -0.1, "must be at least 0 and below 1") for path in BELOW_ONE),
  *((path, 1.1, "must lie between 0 and 1") for path in SHARES),
  *((path, 0.0, "must be above 0 and at most 1") for path in SHARES_ABOVE_ZERO),
  *((path, 1.5, "must be above 0 and at most 1") for path in SHARES_ABOVE_ZERO),
  *((path, -3, "must be at least 1, or none") for path in NONE_OR_ONE),
  *((path, 0, "must be at least 1, or none") for path in NONE_OR_ONE),
]


@pytest.mark.parametrize(("path", "value", "rule"), SINGLE)
def test_a_value_out_of_range_is_refused(path: str, value: Any, rule: str) -> None:
  with pytest.raises(ValueError, match=f"^{re.escape(path)}={re.escape(str(value))}") as error:
    validate(settings.assign(recipes.recipe("bert_tiny"), {path: value}))
  assert rule in str(error.value)


@pytest.mark.parametrize("path", LIMITS)
def test_what_no_machine_could_hold_is_refused(path: str) -> None:
  with pytest.raises(ValueError, match=rf"{path}=1{'0' * 12} must be at most [\d,]+$"):
    validate(settings.assign(recipes.recipe("bert_tiny"), {path: 10**12}))


@pytest.mark.parametrize("path", ["train.batch_size", "evaluation.batch_size", "transfer.batch_size"])
def test_a_batch_has_a_limit_of_tokens(path: str) -> None:
  config = settings.assign(recipes.recipe("roberta_large"), {"transfer.max_seq_len": 512})
  validate(settings.assign(config, {path: 1 << 19}))
  with pytest.raises(ValueError, match=rf"{path}=524289 times .*=512 are 268,435,968 tokens a batch.*; try 524,288"):
    validate(settings.assign(config, {path: (1 << 19) + 1}))


@pytest.mark.parametrize("path", [leaf.path for leaf in settings.leaves() if leaf.type in (int, float)])
def test_every_number_has_a_rule(path: str) -> None:
  leaf = next(leaf for leaf in settings.leaves() if leaf.path == path)
  for absurd in (float("nan"), float("inf")) if leaf.type is float else (-1,):
    with pytest.raises(ValueError, match=re.escape(path)):
      validate(settings.assign(recipes.recipe("bert_tiny"), {path: absurd}))


@pytest.mark.parametrize(
  ("assignments", "message"),
  [
    ({"model.hidden_size": 131}, "model.hidden_size=131 must be divisible by model.num_heads=2; try 130"),
    ({"model.hidden_size": 1}, "model.hidden_size=1 must be divisible by model.num_heads=2; try 2"),
    ({"data.max_seq_len": 513}, "data.max_seq_len=513 is more than model.max_positions=512; shorten the one or"),
    ({"data.max_seq_len": 7, "data.masking.max_predictions": None}, "data.max_seq_len=7 must be at least 8"),
    ({"data.masking.random_prob": 0.3}, "data.masking.random_prob=0.3 and data.masking.mask_prob=0.8 add up to more"),
    ({"data.masking.max_predictions": 129}, "data.masking.max_predictions=129 is more than data.max_seq_len=128"),
    ({"train.steps": 10_000}, "optim.warmup_steps=10000 must be below train.steps=10000; try 1000"),
    (
      {"runtime.accumulation_steps": 3},
      "train.batch_size=256 must be divisible by runtime.accumulation_steps=3; try 255 or 258",
    ),
    ({"data.format": "full_sentences"}, "train.sentence_objective=nsp needs pairs, and data.format=full_sentences has"),
    ({"data.format": "doc_sentences"}, "set train.sentence_objective=none or data.format=segment_pair"),
    ({"model.type_vocab_size": 1}, "model.type_vocab_size=1 must be 2 for the pairs of data.format=segment_pair"),
    ({"model.pooler": False}, "model.pooler=False is what train.sentence_objective=nsp reads; set it to true"),
    ({"runtime.attention": "fused"}, "runtime.attention=fused has no dropout, and model.attention_dropout=0.1; set"),
  ],
  ids=str,
)
def test_a_rule_between_settings_is_refused(assignments: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=re.escape(message)):
    validate(settings.assign(recipes.recipe("bert_tiny"), assignments))


@pytest.mark.parametrize(
  ("rate", "length", "slots"), [(0.15, 128, 20), (0.15, 20, 3), (0.8, 20, 16), (1.0, 20, 20), (0.01, 20, 1)]
)
def test_prediction_slots_hold_what_the_rate_asks_for(rate: float, length: int, slots: int) -> None:
  data = settings.assign(Config(), {"data.masking.rate": rate, "data.max_seq_len": length}).data
  assert num_prediction_slots(data) == slots
