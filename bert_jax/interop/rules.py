"""Rules for the values in a stranger's JSON: each is a test, and the rule in words."""

import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from bert_jax.settings import Bounds, Leaf

Rule = tuple[Callable[[Any], bool], str]  # whether a value obeys, and what it must be
MOST = 10_000_000  # for whole numbers without a limit of their own; published models stay far below
_LONGEST_LIST = 1_000


def whole(least: int, most: int) -> Rule:
  return lambda value: type(value) is int and least <= value <= most, f"a whole number from {least} to {most:,}"


def number(bounds: Bounds) -> Rule:
  return lambda value: is_number(value) and bounds.hold(value), f"a number, {bounds}"


def or_null(rule: Rule) -> Rule:
  return lambda value: value is None or rule[0](value), f"{rule[1]}, or null"


def one_of(values: tuple[Any, ...]) -> Rule:
  return lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}"


def is_number(value: Any) -> bool:
  return type(value) in (int, float) and abs(value) < 1e300  # false for NaN too


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and len(value) <= 200


def _are_texts(value: Any) -> bool:
  return isinstance(value, list) and len(value) <= _LONGEST_LIST and all(map(_is_text, value))


def _names_texts(value: Any) -> bool:
  return isinstance(value, dict) and len(value) <= 1_000_000 and all(isinstance(x, str) for x in value.values())


FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
TEXT: Rule = (_is_text, "a text of at most 200 characters")
TEXTS: Rule = (_are_texts, "a list of texts")
TEXT_OR_TEXTS: Rule = (lambda value: _is_text(value) or _are_texts(value), "a text or a list of texts")
OBJECT: Rule = (lambda value: isinstance(value, dict), "an object")
OBJECT_OF_TEXTS: Rule = (_names_texts, "an object of texts")
NAMES: Rule = (  # of classes
  lambda value: isinstance(value, list) and len(value) <= 1_000_000 and all(isinstance(x, str) for x in value),
  "a list of texts",
)
COUNT: Rule = whole(1, 1_000_000)  # of classes


def of(leaf: Leaf) -> Rule:
  """The rule for one of our settings, from its type and bounds."""
  options = typing.get_args(leaf.type) if isinstance(leaf.type, types.UnionType) else (leaf.type,)
  if typing.get_origin(options[0]) is Literal:
    rule = one_of(typing.get_args(options[0]))
  elif options[0] is bool:
    rule = FLAG
  elif options[0] is int:
    least, most = leaf.bounds.at_least, leaf.bounds.at_most
    assert least is not None, leaf.path
    assert most is not None, leaf.path
    rule = whole(int(least), int(most))
  else:
    assert options[0] is float, leaf.path
    rule = number(leaf.bounds)
  return or_null(rule) if type(None) in options else rule
