"""One absl flag for each setting: `--optim.peak_lr=1e-4`, `--data.masking.rate=0.4`."""

import types
import typing
from typing import Any, Literal

from absl import flags

from bert_jax import settings

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
  """Defines a flag for every setting of `Config`. Its absence means: as the recipe says."""
  for leaf in settings.leaves():
    flags.DEFINE(_SettingParser(leaf), leaf.path, None, leaf.help, allow_override=True)


def given_settings() -> dict[str, Any]:
  """Dotted path → value, for the settings that the command line names.

  A text `none` is a value too, so presence is what counts, not the value.
  """
  return {leaf.path: FLAGS[leaf.path].value for leaf in settings.leaves() if FLAGS[leaf.path].present}
