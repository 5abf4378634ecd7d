"""What stands in the families' files fits the settings and the networks that it is about."""

import dataclasses
from collections import defaultdict

import jax
import pytest
from flax import traverse_util

from bert_jax import settings
from bert_jax.architectures import ARCHITECTURES
from bert_jax.interop.array_names import entries
from bert_jax.interop.families import BY_MODEL_TYPE, FAMILIES
from bert_jax.models import networks
from tests.interop import small


def test_every_architecture_has_a_family_or_no_class() -> None:
  of_files = {kind: family.config_class for kind, family in FAMILIES.items()}
  assert of_files | {kind: type(config) for kind, config in small.OWN_CONFIGS.items()} == ARCHITECTURES
  assert not set(of_files) & set(small.OWN_CONFIGS)
  for name, family in BY_MODEL_TYPE.items():
    assert name in family.stems
    assert name in family.defaults
    assert next(iter(family.stems)) == family.config_class.kind


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_are_those_of_the_architecture(name: str) -> None:
  family = FAMILIES[name]
  known = {leaf.path for leaf in settings.leaves(family.config_class)}
  assert set(family.keys) <= known
  for defaults in family.defaults.values():
    assert set(defaults) <= known
    assert "vocab_size" in defaults  # a model has one, and our settings have none


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_of_every_network_is_one_array(name: str) -> None:
  config = dataclasses.replace(small.CONFIGS[name], vocab_size=61)
  for network, head in FAMILIES[name].heads.items():
    shapes = traverse_util.flatten_dict(jax.eval_shape(networks.initial(network, config)))
    found = entries(config, network)
    assert len({entry.key for entry in found}) == len(found), network
    layers = defaultdict(list)
    for entry in found:
      layers[entry.path].append(entry.layer)
    assert set(layers) == set(shapes), network
    for path, rows in layers.items():
      assert rows == [None] or sorted(rows) == list(range(shapes[path].shape[0])), (network, path)
    assert set(head.tied.values()) <= {entry.key for entry in found}, network
