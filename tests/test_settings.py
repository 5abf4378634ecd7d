"""Configs as trees: assigned by path, stored and read back, compared."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax import recipes, settings
from bert_jax.config import Config, lookup

CONFIG = recipes.recipe("bert_tiny")
LEAVES = list(settings.leaves())


def values(leaf: settings.Leaf) -> st.SearchStrategy[Any]:
  """Any value that a setting's type allows."""
  import types
  import typing

  options = typing.get_args(leaf.type) if isinstance(leaf.type, types.UnionType) else (leaf.type,)
  strategies: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**40), 2**40),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=20),
    bool: st.booleans(),
    type(None): st.none(),
  }
  return st.one_of(
    *(st.sampled_from(typing.get_args(o)) if typing.get_origin(o) is typing.Literal else strategies[o] for o in options)
  )


@given(st.data())
def test_a_config_survives_json(data: st.DataObject) -> None:
  chosen = data.draw(st.lists(st.sampled_from(LEAVES), max_size=8))
  config = settings.assign(CONFIG, {leaf.path: data.draw(values(leaf)) for leaf in chosen})
  stored = json.loads(json.dumps(settings.to_dict(config)))
  assert settings.from_dict(stored) == config
  assert settings.fingerprint(stored) == settings.fingerprint(config)


def test_every_setting_has_a_line_of_help_and_a_default_of_its_type() -> None:
  assert len({leaf.path for leaf in LEAVES}) == len(LEAVES) > 60
  for leaf in LEAVES:
    assert leaf.help, leaf.path
    assert settings.check_type(leaf, leaf.default) == leaf.default
    assert lookup(Config(), leaf.path) == leaf.default


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.path)
def test_a_value_of_another_type_is_refused(leaf: settings.Leaf) -> None:
  for wrong in ([], {}, object(), "no such choice" if leaf.type is not str and leaf.type != (str | None) else 3):
    with pytest.raises(ValueError, match=f"{leaf.path}=.* must be "):
      settings.assign(CONFIG, {leaf.path: wrong})
  if leaf.type is int:
    for wrong in (True, 1.5, None):
      with pytest.raises(ValueError, match="must be int"):
        settings.assign(CONFIG, {leaf.path: wrong})


def test_a_change_may_be_relative() -> None:
  config = settings.assign(CONFIG, {"train.batch_size": lambda c: 4 * c.train.batch_size})
  assert config.train.batch_size == 4 * CONFIG.train.batch_size
  assert settings.differences(CONFIG, config) == {"train.batch_size": (256, 1024)}


def test_all_relative_changes_start_from_where_the_arm_starts() -> None:
  config = settings.assign(
    CONFIG, {"train.steps": lambda c: c.train.steps // 4, "optim.warmup_steps": lambda c: c.train.steps // 100}
  )
  assert config.optim.warmup_steps == CONFIG.train.steps // 100


def test_an_unknown_path_is_refused() -> None:
  for path in ("optim.peak_rate", "optim", "model.num_layers.more"):
    with pytest.raises(ValueError, match=f"no setting '{path}'"):
      settings.assign(CONFIG, {path: 1})


def test_a_config_of_another_version_is_refused_by_name() -> None:
  stored = settings.to_dict(CONFIG)
  stored["optim"]["momentum"] = stored["optim"].pop("beta1")
  with pytest.raises(ValueError, match=r"at optim.: missing \['beta1'\], unknown \['momentum'\]"):
    settings.from_dict(stored)


def test_same_settings_are_asked_of_some_groups_only() -> None:
  other = settings.assign(CONFIG, {"runtime.prefetch_batches": 7, "data.store": "elsewhere", "model.vocab_size": 99})
  settings.require_same("W", CONFIG, other, ("model", "data", "optim"))
  wrong = settings.assign(other, {"optim.eps": 0.5, "train.steps": 3})
  with pytest.raises(ValueError, match=r"^W was made with other settings: optim.eps is 1e-06 there and 0.5 here. Give"):
    settings.require_same("W", CONFIG, wrong, ("model", "data", "optim"))
  two = settings.assign(CONFIG, {"model.vocab_size": 98})
  with pytest.raises(ValueError, match=r"model.vocab_size is 99 there and 98 here"):
    settings.require_same("W", other, two, ("model",))


def test_equal_settings_have_equal_fingerprints() -> None:
  stored = settings.to_dict(CONFIG)
  backwards = dict(reversed(stored.items()))
  assert settings.fingerprint(backwards) == settings.fingerprint(CONFIG)
  assert settings.fingerprint(settings.assign(CONFIG, {"train.seed": 1})) != settings.fingerprint(CONFIG)
