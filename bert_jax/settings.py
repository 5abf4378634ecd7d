"""Configs as trees of settings: list them, read, replace and store them by dotted path; standard library only."""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

from bert_jax.config import Config, lookup

CONFIG_VERSION = 1


# ---- leaves ----


@dataclasses.dataclass(frozen=True)
class Leaf:
  """One setting: its dotted path, type, default and line of help."""

  path: str
  type: Any
  default: Any
  help: str


def leaves(config_class: type = Config, prefix: str = "") -> Iterator[Leaf]:
  """Every setting of a config class, in order of declaration."""
  hints = typing.get_type_hints(config_class)
  for field in dataclasses.fields(config_class):
    path, kind = prefix + field.name, hints[field.name]
    if dataclasses.is_dataclass(kind):
      yield from leaves(typing.cast(type, kind), path + ".")
    else:
      yield Leaf(path, kind, field.default, field.metadata["help"])


Assignments = Mapping[str, Any]


def assign(config: Config, assignments: Assignments) -> Config:
  """A config with some settings replaced.

  Args:
    config: what to start from.
    assignments: dotted path → value, or → a function of `config` that gives the value (`lambda c:
      4 * c.train.batch_size`), so that a change can be relative to where it starts.

  Raises:
    ValueError: a path that is no setting, or a value of another type.
  """
  known = {leaf.path: leaf for leaf in leaves(type(config))}
  result = config
  for path, value in assignments.items():
    if path not in known:
      raise ValueError(f"there is no setting {path!r}; see --help for all of them")
    if isinstance(value, Callable):
      value = value(config)
    result = _replace(result, path.split("."), check_type(known[path], value))
  return result


def _replace(node: Any, names: list[str], value: Any) -> Any:
  if len(names) > 1:
    value = _replace(getattr(node, names[0]), names[1:], value)
  return dataclasses.replace(node, **{names[0]: value})


def check_type(leaf: Leaf, value: Any) -> Any:
  """`value` as the leaf's type (an int becomes a float where one is wanted).

  Raises:
    ValueError: the value is of another type, or not among the choices.
  """
  options = typing.get_args(leaf.type) if isinstance(leaf.type, types.UnionType) else (leaf.type,)
  for option in options:
    if typing.get_origin(option) is Literal:
      if value in typing.get_args(option):
        return value
    elif option is float and isinstance(value, int) and not isinstance(value, bool):
      return float(value)
    elif isinstance(value, option) and not (option is int and isinstance(value, bool)):
      return value
  raise ValueError(f"{leaf.path}={value!r} must be {describe_type(leaf.type)}")


def describe_type(kind: Any) -> str:
  """A setting's type in words, for messages and help."""
  if isinstance(kind, types.UnionType):
    return " or ".join(describe_type(option) for option in typing.get_args(kind))
  if typing.get_origin(kind) is Literal:
    return "one of " + ", ".join(map(str, typing.get_args(kind)))
  return "none" if kind is type(None) else kind.__name__


# ---- on disk ---------------------------------------------------------------------------------------------


def to_dict(config: Any) -> dict[str, Any]:
  """A config as plain nested dicts, for JSON."""
  return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any], config_class: Any = Config) -> Any:
  """The config, of a class, that `to_dict` wrote.

  Raises:
    ValueError: a setting is missing or unknown: the file was written by another version.
  """
  return _from_dict(config_class, values, "")


def _from_dict(config_class: Any, values: Mapping[str, Any], prefix: str) -> Any:
  names = {field.name for field in dataclasses.fields(config_class)}
  if names != set(values):
    raise ValueError(
      f"the stored config differs from this version's (CONFIG_VERSION {CONFIG_VERSION}) at {prefix or 'its root'}: "
      f"missing {sorted(names - set(values))}, unknown {sorted(set(values) - names)}; go on with the"
      " version that wrote it, or give another --workdir"
    )
  hints = typing.get_type_hints(config_class)
  return config_class(
    **{
      name: _from_dict(hints[name], values[name], f"{prefix}{name}.")
      if dataclasses.is_dataclass(hints[name])
      else values[name]
      for name in names
    }
  )


def fingerprint(values: Any) -> str:
  """A short hash of a (part of a) config or of any JSON value: equal settings, equal text."""
  if dataclasses.is_dataclass(values):
    values = to_dict(values)
  text = json.dumps(values, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
  """Dotted path → the two values, for every setting in which two configs differ."""
  paths = (leaf.path for leaf in leaves())
  return {path: (lookup(one, path), lookup(other, path)) for path in paths if lookup(one, path) != lookup(other, path)}


def require_same(what: str, there: Config, here: Config, groups: Collection[str]) -> None:
  """Refuses to go on with something that was made with other settings.

  Args:
    what: that thing, for the message.
    there: its config.
    here: the config of now.
    groups: of `Config`; settings of other groups may differ.

  Raises:
    ValueError: with both values of each setting that differs.
  """
  different = {
    path: values
    for path, values in differences(there, here).items()
    if path.split(".")[0] in groups
    and path != "data.store"  # a place, not content
    and not (path == "model.vocab_size" and None in values)  # not known before the tokenizer is
  }
  if different:
    listed = ", ".join(f"{path} is {old!r} there and {new!r} here" for path, (old, new) in different.items())
    raise ValueError(
      f"{what} was made with other settings: {listed}. Give the same settings to go on, or another --workdir to start"
      " anew"
    )
