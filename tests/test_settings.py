"""Configs as trees: assigned by path, stored and read back, compared."""

import json
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax import architectures, recipes, settings
from bert_jax.config import Config
from bert_jax.objective_configs import Objective
from bert_jax.settings import lookup

CONFIG = recipes.recipe("bert_tiny")
LEAVES = list(settings.leaves(CONFIG))
ALL = list(settings.leaves(Config))


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
  assert settings.from_dict(stored, Config) == config
  assert settings.fingerprint(stored) == settings.fingerprint(config)


def test_every_setting_has_a_line_of_help_and_a_default_of_its_type() -> None:
  assert len({leaf.path for leaf in ALL}) == len(ALL) > 90
  for leaf in ALL:
    assert leaf.help, leaf.path
    assert settings.check_type(leaf, leaf.default) == leaf.default
  for leaf in settings.leaves(Config()):
    assert lookup(Config(), leaf.path) == (leaf.default if leaf.path != "objective.sentence" else "nsp")


def test_settings_of_one_name_have_one_type_whatever_the_kind() -> None:
  """One flag stands for them."""
  for name, kinds in (("model", architectures.ARCHITECTURES.values()), ("objective", typing.get_args(Objective))):
    types: dict[str, set[Any]] = {}
    for kind in kinds:
      for leaf in settings.leaves(kind, f"{name}."):
        types.setdefault(leaf.path, set()).add(leaf.type)
    assert all(len(found) == 1 for found in types.values()), types


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_kind_of_config_survives_json(name: str) -> None:
  config = recipes.recipe(name)
  stored = json.loads(json.dumps(settings.to_dict(config)))
  assert (stored["model"]["kind"], stored["objective"]["kind"]) == (config.model.kind, config.objective.kind)
  assert settings.from_dict(stored, Config) == config
  for group in ("model", "objective"):
    with pytest.raises(ValueError, match=rf"{group}.kind='gpt', and this version .* knows"):
      settings.from_dict(stored | {group: stored[group] | {"kind": "gpt"}}, Config)


def test_a_setting_of_another_kind_is_refused_by_name_with_those_there_are() -> None:
  for path, kind in (("model.num_groups", "bert"), ("objective.temperature", "masked_tokens")):
    with pytest.raises(ValueError, match=rf"^{path} is no setting of {kind}; of the group .*, {kind} has [a-z_, ]+$"):
      settings.assign(CONFIG, {path: 1})
  shared = settings.assign_shared(CONFIG, {"model.num_groups": 2, "model.num_layers": 7})
  assert settings.differences(CONFIG, shared) == {"model.num_layers": (2, 7)}
  with pytest.raises(ValueError, match=r"no setting 'model\.layers'"):
    settings.assign_shared(CONFIG, {"model.layers": 2})


def test_configs_of_other_kinds_differ_by_their_kind() -> None:
  found = settings.differences(CONFIG, recipes.recipe("roberta_base"))
  assert found["model.kind"] == ("bert", "roberta")
  assert found["model.position_offset"] == (None, 2)
  with pytest.raises(ValueError, match=r"model\.kind is 'bert' there and 'roberta' here"):
    settings.require_same("W", CONFIG, recipes.recipe("roberta_base"), ("model",))


def test_what_a_setting_decides_is_said_where_it_stands() -> None:
  assert "data.tokenizer.vocab_size" in settings.deciding(CONFIG, "store")
  assert settings.deciding(CONFIG.data, "examples").keys() >= {"format", "pairs", "max_seq_len", "short_seq_prob"}
  order = settings.deciding(CONFIG, "order")
  assert order["train.seed"] == 0
  assert "data.masking.rate" not in {**order, **settings.deciding(CONFIG, "store", "examples", "evaluation")}


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


def test_another_kind_keeps_what_was_set_and_takes_its_own_defaults() -> None:
  changed = settings.assign(
    CONFIG, {"model.kind": "roberta", "objective.kind": "replaced_tokens", "objective.weight": 7.0}
  )
  assert (changed.model.kind, changed.model.num_layers, changed.model.hidden_size) == ("roberta", 2, 128)
  assert (changed.model.layer_norm_eps, changed.model.initializer) == (1e-5, "normal"), "BERT's defaults are not kept"
  assert changed.objective.weight == 7.0
  assert settings.assign(CONFIG, {"model.kind": "bert"}) == CONFIG
  with pytest.raises(ValueError, match=r"objective\.kind=masked must be one of .*masked_tokens"):
    settings.assign(CONFIG, {"objective.kind": "masked"})


def test_an_unknown_path_is_refused() -> None:
  for path in ("optim.peak_rate", "optim", "model.num_layers.more"):
    with pytest.raises(ValueError, match=f"no setting '{path}'"):
      settings.assign(CONFIG, {path: 1})


def test_a_config_of_another_version_is_refused_by_name() -> None:
  stored = settings.to_dict(CONFIG)
  stored["optim"]["momentum"] = stored["optim"].pop("beta1")
  with pytest.raises(ValueError, match=r"at optim.: missing \['beta1'\], unknown \['momentum'\]"):
    settings.from_dict(stored, Config)


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
