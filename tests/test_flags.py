"""One flag for each setting; text in, typed value out, and an error that names the flag."""

import typing
from typing import Any

import pytest
from absl import flags

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.flags import _SettingParser, define_settings, given_settings, meant


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch):
  """Parses a command line with flags of its own: `parse("--train.steps=3")` → what is given."""
  values = flags.FlagValues()
  monkeypatch.setattr("bert_jax.flags.FLAGS", values)
  monkeypatch.setattr("absl.flags._defines._flagvalues.FLAGS", values)
  for leaf in settings.leaves(Config):
    flags.DEFINE(_SettingParser(leaf), leaf.path, None, leaf.help, values, boolean=leaf.type is bool)

  def parsed(*arguments: str) -> dict[str, Any]:
    values(["program", *arguments])
    return given_settings()

  return parsed


def test_every_setting_has_its_flag_and_help() -> None:
  define_settings()
  for leaf in settings.leaves(Config):
    assert flags.FLAGS[leaf.path].help == leaf.help
    assert flags.FLAGS[leaf.path].default is None, "absent means: as the recipe says"


@pytest.mark.parametrize("leaf", list(settings.leaves(Config)), ids=lambda leaf: leaf.path)
def test_what_a_setting_prints_its_flag_reads(leaf: settings.Leaf, parse) -> None:
  assert parse(f"--{leaf.path}={leaf.default}") == {leaf.path: leaf.default}
  for choice in typing.get_args(leaf.type) if typing.get_origin(leaf.type) is typing.Literal else ():
    assert parse(f"--{leaf.path}={choice}") == {leaf.path: choice}


@pytest.mark.parametrize(
  ("argument", "value"),
  [
    ("--optim.peak_lr=1e-4", 1e-4),
    ("--optim.peak_lr=1", 1.0),
    ("--train.steps=1_000_000", 1_000_000),
    ("--runtime.scan_layers=false", False),
    ("--runtime.scan_layers=True", True),
    ("--runtime.scan_layers=0", False),
    ("--runtime.scan_layers", True),
    ("--noruntime.scan_layers", False),
    ("--model.num_groups=2", 2),
    ("--objective.sentence=sop", "sop"),
    ("--model.vocab_size=none", None),
    ("--model.vocab_size=77", 77),
    ("--data.tokenizer.path=None", None),
    ("--data.tokenizer.path=some/folder", "some/folder"),
    ("--data.source=text:a b/*.txt", "text:a b/*.txt"),
    ("--transfer.tasks=", ""),
  ],
)
def test_text_becomes_a_typed_value(argument: str, value: Any, parse) -> None:
  (found,) = parse(argument).values()
  assert found == value
  assert type(found) is type(value)


@pytest.mark.parametrize(
  ("argument", "rule"),
  [
    ("--optim.peak_lr=fast", "must be float"),
    ("--train.steps=1.5", "must be int"),
    ("--train.steps=", "must be int"),
    ("--train.steps=none", "must be int"),
    ("--runtime.scan_layers=maybe", "must be bool"),
    ("--model.vocab_size=many", "must be int or none"),
    ("--data.format=pairs", "must be one of segment_pair, sentence_pair, full_sentences, doc_sentences"),
  ],
)
def test_a_wrong_value_names_flag_value_and_rule(argument: str, rule: str, parse) -> None:
  name, value = argument.split("=")
  with pytest.raises(flags.IllegalFlagValueError, match=f"{name}={value}.*{rule}"):
    parse(argument)


@pytest.mark.parametrize(
  ("name", "first"),
  [
    ("optim.peek_lr", ["optim.peak_lr"]),
    ("lr", ["optim.peak_lr", "transfer.peak_lr"]),
    ("learning_rate", ["optim.peak_lr", "transfer.peak_lr"]),
    ("batch_size", ["train.batch_size", "evaluation.batch_size", "transfer.batch_size"]),
    ("batch-size", ["train.batch_size"]),
    ("train.lr", ["optim.peak_lr"]),
    ("layers", ["model.num_layers"]),
    ("seed", ["train.seed", "seeds"]),
    ("arm", ["arms"]),
    ("work_dir", ["workdir"]),
    ("stepz", ["train.steps"]),
    ("train.eval_every", ["evaluation.every_steps"]),
    ("mask_rate", ["data.masking.rate"]),
    ("xyzzy", []),
  ],
)
def test_a_wrong_flag_is_answered_with_what_was_meant(name: str, first: list[str]) -> None:
  found = meant(name, ("arms", "seeds", "workdir"))
  assert found[: len(first)] == first
  assert first or not found


def test_only_what_is_named_is_given(parse) -> None:
  assert parse() == {}
  assert parse("--model.vocab_size=none", "--train.steps=7") == {"model.vocab_size": None, "train.steps": 7}
