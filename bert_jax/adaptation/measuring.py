"""What an adaptation is measured on beside its domain: general text, and tasks with labels."""

import dataclasses

from bert_jax.adaptation.asked import TASKS
from bert_jax.config import DataConfig, TransferConfig
from bert_jax.data import sources, tasks

NONE = "none"
# Where labels come from. So many of its texts are held out to test on, as `scales.DEMO` has it.
LABELLED = DataConfig(source="demo", eval_fraction=0.12)


def split(domain: DataConfig) -> DataConfig:
  """The domain with the share of documents that is held out; where tasks test on these, as much as they hold out."""
  fraction = LABELLED.eval_fraction if domain.source == LABELLED.source else domain.eval_fraction
  return dataclasses.replace(domain, eval_fraction=fraction)


@dataclasses.dataclass(frozen=True)
class Measuring:
  """What is measured beside the loss on the domain.

  Attributes:
    general: other text, to see what is forgotten on; None where there is none.
    tasks: names of the demo's.
    notes: what is left out, and why.
  """

  general: DataConfig | None
  tasks: tuple[str, ...]
  notes: tuple[str, ...]

  @classmethod
  def of(cls, domain: DataConfig, general: str | None, named: str | None) -> "Measuring":
    """What the flags ask for; where they say nothing, the demo's text and tasks, if these are installed.

    Args:
      domain: what is adapted to.
      general: --general: a source, `none`, or None for the default.
      named: --tasks: names separated by commas, `none`, or None for the default.

    Raises:
      ValueError: what is asked for is not there.
    """
    text, about_text = _text(domain, general)
    chosen, about_tasks = _tasks(named)
    return cls(text, chosen, tuple(filter(None, (about_text, about_tasks))))


def _text(domain: DataConfig, asked: str | None) -> tuple[DataConfig | None, str]:
  """The general text, and a note where it is left out though nobody asked for that."""
  if asked == NONE:
    return None, ""
  source = asked or LABELLED.source
  if source == domain.source and asked:
    raise ValueError(f"--general={asked} is what the model is adapted to; give other text, or --general={NONE}")
  if source == domain.source:
    return None, "general text is left out: the demo's is the domain itself; --general=SOURCE names other text"
  text = dataclasses.replace(domain, source=source)
  try:
    sources.check(text)
  except ValueError as error:
    if asked:
      raise ValueError(f"--general={asked}: {error}") from error
    return None, f"general text is left out: {error}; --general=SOURCE names other text"
  return text, ""


def _tasks(asked: str | None) -> tuple[tuple[str, ...], str]:
  """The tasks, and a note where they are left out though nobody asked for that."""
  if asked == NONE:
    return (), ""
  chosen = TASKS if asked is None else tasks.task_names(TransferConfig(tasks=asked))
  try:
    tasks.check(LABELLED, TransferConfig(tasks=",".join(chosen)))
    sources.check(LABELLED)
    tasks.require_sklearn()
  except ValueError as error:
    if asked is not None:
      raise ValueError(f"--tasks={asked}: {error}") from error
    return (), f"tasks are left out: {error}"
  return tuple(chosen), ""
