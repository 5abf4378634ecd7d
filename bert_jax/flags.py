"""One absl flag for each setting: `--optim.peak_lr=1e-4`, `--data.masking.rate=0.4`."""

import difflib
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from absl import flags

from bert_jax import settings
from bert_jax.config import Config
from bert_jax.settings import lookup

FLAGS = flags.FLAGS


class _SettingParser(flags.ArgumentParser):
  """Reads one setting from text; `none` where the setting allows it."""

  def __init__(self, leaf: settings.Leaf):
    super().__init__()
    self.leaf = leaf

  def parse(self, argument: Any) -> Any:
    leaf = self.leaf
    options = typing.get_args(leaf.type) if isinstance(leaf.type, types.UnionType) else (leaf.type,)
    for option in sorted(options, key=lambda kind: kind is not type(None)):  # any text could be a `str`
      try:
        return settings.check_type(leaf, _read(str(argument), option))
      except ValueError:
        continue
    raise ValueError(f"must be {settings.describe_type(leaf.type)}")

  def flag_type(self) -> str:
    return settings.describe_type(self.leaf.type)


def _read(text: str, kind: Any) -> Any:
  """`text` as a value of `kind`, or ValueError."""
  if kind is type(None):
    if text.lower() == "none":
      return None
    raise ValueError
  if kind is bool:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
  if kind is str or typing.get_origin(kind) is Literal:
    return text
  if kind is int:
    return int(text.replace("_", ""))
  return kind(text)


def define_settings() -> None:
  """Defines a flag for every setting of every kind of `Config`. Its absence means: as the recipe says."""
  for leaf in settings.leaves(Config):
    boolean = leaf.type is bool  # `--runtime.remat` and `--noruntime.remat` do without a value
    flags.DEFINE(_SettingParser(leaf), leaf.path, None, leaf.help, allow_override=True, boolean=boolean)


def given_settings() -> dict[str, Any]:
  """Dotted path → value, for the settings that the command line names.

  A text `none` is a value too, so presence is what counts, not the value.
  """
  return {leaf.path: FLAGS[leaf.path].value for leaf in settings.leaves(Config) if FLAGS[leaf.path].present}


# ---- in words ------------------------------------------------------------------------------------------------------


def describe(base: Config, notes: Mapping[str, str]) -> str:
  """Every setting: its flag, type or choices, default, and meaning.

  Args:
    base: the config whose values are the defaults.
    notes: by path, what to add to a setting.
  """
  lines, group = [], ""
  for leaf in settings.leaves(base):
    if (now := leaf.path.partition(".")[0]) != group:
      group, kind = now, getattr(lookup(base, now), settings.KIND, "")
      lines.append(f"\n{group}, {kind}:" if kind else f"\n{group}:")
    lines.append(f"  --{leaf.path}={shown(lookup(base, leaf.path))}   ({settings.describe_type(leaf.type)})")
    meaning = leaf.help + (f" [{notes[leaf.path]}]" if leaf.path in notes else "")
    lines += textwrap.wrap(meaning, 100, initial_indent="      ", subsequent_indent="      ")
  return "\n".join(lines)


def shown(value: Any) -> str:
  """A setting's value as its flag takes it."""
  return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def meant(name: str, others: Sequence[str] = ()) -> list[str]:
  """The flags that somebody who wrote `--name` may have meant, the likeliest first, at most four.

  A setting is found by its last name, by its whole path, by the beginnings of its words (`eval_every` for
  `evaluation.every_steps`), by a word of its last name, by what its help calls it, and by likeness.

  Args:
    name: without dashes.
    others: flags that are no settings.
  """
  leaves = {leaf.path: leaf for leaf in settings.leaves(Config)}
  last = {path: path.rpartition(".")[2] for path in leaves}
  wanted = name.rpartition(".")[2].replace("-", "_")
  found = [path for path in leaves if last[path] == wanted]
  found += difflib.get_close_matches(name, [*leaves, *others], 2, 0.8)
  if "_" in wanted:
    found += [path for path in leaves if _begins(wanted.split("_"), re.split(r"[._]", path))]
  found += [path for path in leaves if wanted in last[path].split("_")]
  found += [path for path in leaves if "_" in wanted and leaves[path].help.startswith(wanted.replace("_", " "))]
  if not found:
    alike = difflib.get_close_matches(wanted, {*last.values(), *others}, 2)
    found = [path for name in alike for path in [*others, *leaves] if last.get(path, path) == name]
  return list(dict.fromkeys(found))[:4]


def _begins(parts: Sequence[str], words: Sequence[str]) -> bool:
  """Whether each part begins some word."""
  return all(any(word.startswith(part) for word in words) for part in parts if part)


def near(name: str, known: Sequence[str]) -> str:
  """`; did you mean X?` for the known name that is like `name`, or nothing."""
  found = difflib.get_close_matches(name, known, 1)
  return f"; did you mean {found[0]}?" if found else ""
