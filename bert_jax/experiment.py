"""Experiments as data: a question, its arms and its sizes. `command_line.py` reads them, `sweep.py` runs them."""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from bert_jax import settings
from bert_jax.config import MODEL_SETTINGS, Config, num_prediction_slots
from bert_jax.training.peers import Processes

Scale = Literal["smoke", "demo", "hour", "night", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "demo", "hour", "night", "paper")


ARM = "arm:"  # before the name of another arm, in a setting that names a model: its run with the same seed


def needs(config: Config) -> tuple[str, ...]:
  """The arms whose runs have to be finished before a run of this config can begin."""
  paths = [leaf.path for leaf in settings.leaves(config) if leaf.path in MODEL_SETTINGS]
  values = [settings.lookup(config, path) for path in paths]
  return tuple(dict.fromkeys(value.removeprefix(ARM) for value in values if value and value.startswith(ARM)))


@dataclasses.dataclass(frozen=True)
class Arm:
  """One line of the report: the experiment's recipe with a few settings assigned.

  Attributes:
    name: for --arms, folders and tables.
    change: what it changes against its parent, in words.
    assignments: settings, against the parent; a value may be a function of the parent's config.
    parent: the arm that it is compared with, and whose settings it starts from; None for the first.
    expects: what the papers found, with the source.
    direction: that finding as a sign for the arm against its parent: 1 better, -1 worse, 0 neither or unknown.
  """

  name: str
  change: str
  assignments: settings.Assignments
  parent: str | None = None
  expects: str = ""
  direction: Literal[-1, 0, 1] = 0


@dataclasses.dataclass(frozen=True)
class Size:
  """One --scale of an experiment: settings over the recipe, seeds, and what it can say.

  Attributes:
    assignments: settings over the recipe's; those that the recipe's architecture lacks are left out.
    seeds: run where --seeds is not given.
    note: what this size can and cannot show, for the report.
    arms: by arm, settings at this size over the arm's own, where a factor that suits one size suits not another.
    runs: the arms that are run where --arms is not given; all where that is empty.
  """

  assignments: settings.Assignments
  seeds: tuple[int, ...]
  note: str
  arms: Mapping[str, settings.Assignments] = dataclasses.field(default_factory=dict)
  runs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A question, its arms, and its sizes.

  Attributes:
    name: of the file.
    question: the report's title.
    arms: the first has no parent; each other's parent stands before it.
    sizes: by scale.
    recipe: the published recipe that all arms start from.
  """

  name: str
  question: str
  arms: tuple[Arm, ...]
  sizes: Mapping[Scale, Size]
  recipe: str = "bert_base"

  def configs(self, base: Config, given: Mapping[str, Any], scale: Scale) -> dict[str, Config]:
    """Each arm's config, from the base that recipe, scale and command line make.

    Raises:
      ValueError: the command line sets what an arm assigns, or limits it, so that arms would not differ in what they
        name.
    """
    configs: dict[str, Config] = {}
    for arm in self.arms:
      for path, value in arm.assignments.items():
        if path in given and not callable(value):
          raise ValueError(
            f"--{path}={given[path]} cannot be set: the arm {arm.name} of {self.name} is about it. Leave the flag out,"
            " or run experiments/pretrain.py with it"
          )
      parent = configs[arm.parent] if arm.parent else base
      config = settings.assign(parent, {**arm.assignments, **self.sizes[scale].arms.get(arm.name, {})})
      if {"data.masking.rate", "data.masking.prediction_rate"} & set(arm.assignments):
        _require_all_predictions(arm, config)
      configs[arm.name] = config
    return configs


def _require_all_predictions(arm: Arm, config: Config) -> None:
  """Refuses a limit of predictions under which an arm about the masking rate would not predict at that rate.

  Raises:
    ValueError: with the rate and the limit.
  """
  data = config.data
  without_limit = dataclasses.replace(data, masking=dataclasses.replace(data.masking, max_predictions=None))
  allowed, wanted = num_prediction_slots(data), num_prediction_slots(without_limit)
  if allowed < wanted:
    raise ValueError(
      f"data.masking.max_predictions={allowed} is fewer than the {wanted} of {data.max_seq_len} tokens that the arm"
      f" {arm.name} is about (data.masking.rate={data.masking.rate}); set it to none"
    )


@dataclasses.dataclass(frozen=True)
class Plan:
  """An experiment with everything that the command line decides.

  Attributes:
    parallel_runs: runs at a time, each in a process of its own; auto: as many as there are cores or accelerators.
    cores_per_run: CPU cores of each; None: its share of those there are.
    command: names one start of the command, for what failed under it not to be tried again and again.
    is_worker: whether this process is one of several that share the runs of a command.
    given: the settings that the command line names, by their paths.
  """

  experiment: Experiment
  scale: Scale
  base: Config
  arms: tuple[Arm, ...]
  configs: Mapping[str, Config]
  seeds: tuple[int, ...]
  workdir: str
  platform: str | None
  processes: Processes = Processes()
  parallel_runs: int | Literal["auto"] = 1
  cores_per_run: int | None = None
  command: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
  is_worker: bool = False
  given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
