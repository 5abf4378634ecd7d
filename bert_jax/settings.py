"""Configs as trees of settings: declare them, list, read, replace, check and store them; standard library only.

A setting is a field of a frozen dataclass, declared by `setting` with its default, its line of help, its bounds and
what it decides. A field may be one of several dataclasses (`model: BertConfig | RobertaConfig`); which one it is, its
class attribute `kind` says, and each has settings of its own.
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

CONFIG_VERSION = 3
KIND = "kind"  # the key of a stored dataclass that is one of several

# ---- declaring ----


@dataclasses.dataclass(frozen=True)
class Bounds:
  """The range of a number; every end that is given holds."""

  at_least: float | None = None
  above: float | None = None
  at_most: float | None = None
  below: float | None = None

  def hold(self, value: float) -> bool:
    """Whether a number lies within; NaN and the infinities never do."""
    return (
      -math.inf < value < math.inf
      and (self.at_least is None or value >= self.at_least)
      and (self.above is None or value > self.above)
      and (self.at_most is None or value <= self.at_most)
      and (self.below is None or value < self.below)
    )

  def __str__(self) -> str:
    ends = [
      f"{name.replace('_', ' ')} {value:,}" for name, value in dataclasses.asdict(self).items() if value is not None
    ]
    return " and ".join(ends or ["finite"])


def setting(
  default: Any,
  help: str,
  *,
  at_least: float | None = None,
  above: float | None = None,
  at_most: float | None = None,
  below: float | None = None,
  decides: str = "",
) -> Any:
  """A dataclass field.

  Args:
    default: its value where nothing else is said.
    help: unit, meaning and source in a line; also the help of its flag.
    at_least, above, at_most, below: the bounds of a number.
    decides: in words, separated by spaces, what is made again where the setting differs; see `deciding`.
  """
  metadata = {"help": help, "bounds": Bounds(at_least, above, at_most, below), "decides": tuple(decides.split())}
  return dataclasses.field(default=default, metadata=metadata)


# ---- leaves ----


@dataclasses.dataclass(frozen=True)
class Leaf:
  """One setting: its dotted path, type, default, line of help, bounds, and what it decides."""

  path: str
  type: Any
  default: Any
  help: str
  bounds: Bounds = Bounds()
  decides: tuple[str, ...] = ()


def leaves(config: Any, prefix: str = "") -> Iterator[Leaf]:
  """Every setting, in order of declaration.

  Args:
    config: a config, for the settings that it has; or its class, for those of every config of that class, each path
      once.
  """
  config_class = config if isinstance(config, type) else type(config)
  hints, known = typing.get_type_hints(config_class), set()
  for field in dataclasses.fields(config_class):
    path = prefix + field.name
    kinds = kinds_of(hints[field.name])
    if not kinds:
      metadata = field.metadata
      yield Leaf(path, hints[field.name], field.default, metadata["help"], metadata["bounds"], metadata["decides"])
    for node in kinds if config is config_class else [getattr(config, field.name)] if kinds else ():
      for leaf in leaves(node, path + "."):
        if leaf.path not in known:
          known.add(leaf.path)
          yield leaf


def kinds_of(hint: Any) -> list[type]:
  """The dataclasses that a field of this type may be; none of a leaf."""
  options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
  return [option for option in options if dataclasses.is_dataclass(option) and isinstance(option, type)]


def lookup(config: Any, path: str) -> Any:
  """The value at a dotted path."""
  for name in path.split("."):
    config = getattr(config, name)
  return config


def deciding(config: Any, *what: str) -> dict[str, Any]:
  """Path → value of every setting that is declared to decide one of these things, such as the `store`."""
  return {leaf.path: lookup(config, leaf.path) for leaf in leaves(config) if set(what) & set(leaf.decides)}


Assignments = Mapping[str, Any]


def assign(config: Any, assignments: Assignments) -> Any:
  """A config with some settings replaced.

  Args:
    config: what to start from.
    assignments: dotted path → value, or → a function of `config` that gives the value (`lambda c:
      4 * c.train.batch_size`), so that a change can be relative to where it starts. A path such as `objective.kind`
      takes another of the dataclasses that may stand there, with those of its settings that were set before.

  Raises:
    ValueError: a path that is no setting, or none of this config's; or a value of another type.
  """
  result, known = config, {leaf.path: leaf for leaf in leaves(config)}
  for path, value in assignments.items():
    group, _, name = path.rpartition(".")
    if name == KIND and path not in known:  # a tokenizer's kind is a setting like any other
      result = _replace(result, group.split("."), _of_kind(result, group, value))
      known = {leaf.path: leaf for leaf in leaves(result)}
      continue
    if path not in known:
      raise ValueError(_unknown(result, path, known))
    if isinstance(value, Callable):
      value = value(config)
    result = _replace(result, path.split("."), check_type(known[path], value))
  return result


def _of_kind(config: Any, group: str, kind: str) -> Any:
  """The dataclass of this kind for a group, with what was set, away from its default, in the one that stands there."""
  before = lookup(config, group)
  options = kinds_of(typing.get_type_hints(type(config)).get(group))
  kinds = {option.kind: option for option in options}  # pyright: ignore[reportAttributeAccessIssue]
  if not kinds:
    raise ValueError(f"there is no setting '{group}.{KIND}'; see --help for all of them")
  if kind not in kinds:
    raise ValueError(f"{group}.{KIND}={kind} must be one of {', '.join(kinds)}")
  if kind == before.kind:
    return before
  names = {field.name for field in dataclasses.fields(kinds[kind])}
  values = {f.name: getattr(before, f.name) for f in dataclasses.fields(before) if f.name in names}
  defaults = {f.name: f.default for f in dataclasses.fields(before)}
  return kinds[kind](**{name: value for name, value in values.items() if value != defaults[name]})


def assign_shared(config: Any, assignments: Assignments) -> Any:
  """As `assign`, of settings that are meant for several kinds of config: those that this one lacks are left out.

  Raises:
    ValueError: a path that is no setting of any config of this class.
  """
  known = {leaf.path for leaf in leaves(config)}
  possible = known | {leaf.path for leaf in leaves(type(config))}
  return assign(config, {path: value for path, value in assignments.items() if path in known or path not in possible})


def _unknown(config: Any, path: str, known: Collection[str]) -> str:
  """Why a path is no setting: nowhere, or not of the kind that this config has there."""
  group, _, _ = path.rpartition(".")
  if path not in {leaf.path for leaf in leaves(type(config))}:
    return f"there is no setting {path!r}; see --help for all of them"
  kind = lookup(config, group).kind
  names = [other.removeprefix(group + ".") for other in known if other.startswith(group + ".")]
  return f"{path} is no setting of {kind}; of the group {group}, {kind} has {', '.join(names)}"


def _replace(node: Any, names: list[str], value: Any) -> Any:
  if len(names) > 1:
    value = _replace(getattr(node, names[0]), names[1:], value)
  return dataclasses.replace(node, **{names[0]: value})


# ---- types and bounds ----


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


def check_bounds(config: Any, prefix: str = "") -> None:
  """Checks every number against its bounds.

  Args:
    prefix: of the paths in the message, where `config` is a part of a config.

  Raises:
    ValueError: naming the setting, its value and the rule.
  """
  for leaf in leaves(config, prefix):
    value = lookup(config, leaf.path.removeprefix(prefix))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not leaf.bounds.hold(value):
      optional = type(None) in typing.get_args(leaf.type)
      raise ValueError(f"{leaf.path}={value} must be {leaf.bounds}{', or none' if optional else ''}")


# ---- on disk ---------------------------------------------------------------------------------------------


def to_dict(config: Any) -> dict[str, Any]:
  """A config as plain nested dicts, for JSON."""
  hints = typing.get_type_hints(type(config))
  values = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      several = len(kinds_of(hints[field.name])) > 1
      value = ({KIND: value.kind} if several else {}) | to_dict(value)  # pyright: ignore[reportAttributeAccessIssue]
    values[field.name] = value
  return values


def from_dict(values: Mapping[str, Any], config_class: Any, prefix: str = "") -> Any:
  """The config, or another frozen dataclass, that `to_dict` or `dataclasses.asdict` wrote.

  Raises:
    ValueError: a field is missing or unknown: the file was written by another version.
  """
  names = {field.name for field in dataclasses.fields(config_class)}
  if not isinstance(values, Mapping) or names != set(values):
    there = set(values) if isinstance(values, Mapping) else set()
    raise ValueError(
      f"what is stored differs from this version's (CONFIG_VERSION {CONFIG_VERSION}) at {prefix or 'its root'}: "
      f"missing {sorted(names - there)}, unknown {sorted(there - names)}; go on with the"
      " version that wrote it, or give another --workdir"
    )
  hints = typing.get_type_hints(config_class)
  return config_class(**{name: _value(values[name], hints[name], f"{prefix}{name}.") for name in names})


def _value(value: Any, hint: Any, prefix: str) -> Any:
  origin, parts = typing.get_origin(hint), typing.get_args(hint)
  if origin is tuple and isinstance(value, list):  # as JSON has it; all of one type
    return tuple(_value(part, parts[0], f"{prefix}{number}.") for number, part in enumerate(value))
  if origin is dict and isinstance(value, Mapping):
    return {name: _value(part, parts[1], f"{prefix}{name}.") for name, part in value.items()}
  kinds = kinds_of(hint)
  if not kinds:
    return value
  if len(kinds) == 1:
    return from_dict(value, kinds[0], prefix)
  by_name = {kind.kind: kind for kind in kinds}  # pyright: ignore[reportAttributeAccessIssue]
  value = dict(value) if isinstance(value, Mapping) else {}
  name = value.pop(KIND, None)
  if name not in by_name:
    raise ValueError(
      f"what is stored has {prefix}{KIND}={name!r}, and this version (CONFIG_VERSION {CONFIG_VERSION}) knows"
      f" {', '.join(by_name)}; go on with the version that wrote it, or give another --workdir"
    )
  return from_dict(value, by_name[name], prefix)


def fingerprint(values: Any) -> str:
  """A short hash of a (part of a) config or of any JSON value: equal settings, equal text."""
  if dataclasses.is_dataclass(values):
    values = to_dict(values)
  text = json.dumps(values, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()[:16]


# ---- comparing ----


def differences(one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
  """Dotted path → the two values, for every setting in which two configs differ; None where one lacks it."""

  def values(config: Any) -> dict[str, Any]:
    kinds = {}
    for field in dataclasses.fields(config):
      part = getattr(config, field.name)
      if kind := getattr(part, KIND, None):
        kinds[f"{field.name}.{KIND}"] = kind
    return kinds | {leaf.path: lookup(config, leaf.path) for leaf in leaves(config)}

  ours, theirs = values(one), values(other)
  paths = dict.fromkeys([*ours, *theirs])
  return {path: (ours.get(path), theirs.get(path)) for path in paths if ours.get(path) != theirs.get(path)}


def require_same(what: str, there: Any, here: Any, groups: Collection[str]) -> None:
  """Refuses to go on with something that was made with other settings.

  Args:
    what: that thing, for the message.
    there: its config.
    here: the config of now.
    groups: of the config; settings of other groups may differ.

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
      " again"
    )
