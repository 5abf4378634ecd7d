"""Experiments as data, and their command line; `sweep.py` runs them.

An experiment file declares an `Experiment` and calls `main`. Nothing heavy is imported before the command line is
read, so that a wrong flag costs a second.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from absl import app, flags

from bert_jax import console, recipes, settings
from bert_jax import flags as setting_flags
from bert_jax.config import Config, num_prediction_slots, validate

FLAGS = flags.FLAGS
Scale = Literal["smoke", "demo", "night", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "demo", "night", "paper")


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
    assignments: settings over the recipe's.
    seeds: run where --seeds is not given.
    note: what this size can and cannot show, for the report.
    arms: by arm, settings at this size over the arm's own, where a factor that suits one size suits not another.
  """

  assignments: settings.Assignments
  seeds: tuple[int, ...]
  note: str
  arms: Mapping[str, settings.Assignments] = dataclasses.field(default_factory=dict)


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
      if "data.masking.rate" in arm.assignments:
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


# ---- command line ---------------------------------------------------------------------------------------------------


def main(experiment: Experiment) -> None:
  """Reads the command line and runs an experiment; the body of every experiment file."""
  scales = [scale for scale in SCALES if scale in experiment.sizes]
  flags.DEFINE_enum("scale", "demo" if "demo" in scales else scales[0], scales, "how big; see README.md")
  flags.DEFINE_string("recipe", experiment.recipe, f"what all arms start from: {', '.join(recipes.RECIPES)}")
  flags.DEFINE_list("arms", None, f"of {', '.join(arm.name for arm in experiment.arms)}; all where not given")
  flags.DEFINE_list("seeds", None, "such as 0,1,2; as the scale says where not given")
  flags.DEFINE_string("workdir", None, f"folder for everything; runs/{experiment.name}-SCALE where not given")
  flags.DEFINE_enum("platform", None, ["cpu", "gpu", "tpu"], "what must be there; what JAX finds where not given")
  setting_flags.define_settings()
  app.run(lambda arguments: sys.exit(_main(experiment, arguments[1:])))


def _main(experiment: Experiment, arguments: Sequence[str]) -> int:
  """The exit status: 0 done, 1 an error of the user's or the machine's, 75 stopped by a signal and saved."""
  console.log_own_lines_only()
  try:
    if arguments:
      raise ValueError(f"{' '.join(arguments)!r} is no flag; flags look like --scale=smoke, and --help lists them")
    plan = _plan(experiment)
    from bert_jax import sweep  # heavy, and of no use before the command line is known to be right

    return sweep.run(plan)
  except (ValueError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1


@dataclasses.dataclass(frozen=True)
class Plan:
  """An experiment with everything that the command line decides."""

  experiment: Experiment
  scale: Scale
  base: Config
  arms: tuple[Arm, ...]
  configs: Mapping[str, Config]
  seeds: tuple[int, ...]
  workdir: str
  platform: str | None


def _plan(experiment: Experiment) -> Plan:
  """Recipe, then scale, then command line, then arm; each over the one before. All rules are checked here.

  Raises:
    ValueError: an unknown recipe or arm, a seed that is no number, a setting that breaks a rule.
  """
  size = experiment.sizes[FLAGS.scale]
  given = setting_flags.given_settings()
  if "train.seed" in given:
    raise ValueError(f"--train.seed={given['train.seed']}: use --seeds={given['train.seed']}, each seed is a run")
  base = settings.assign(settings.assign(recipes.recipe(FLAGS.recipe), size.assignments), given)
  known = [arm.name for arm in experiment.arms]
  names = FLAGS.arms or known
  for name in names:
    if name not in known:
      raise ValueError(f"--arms={name}: there is no such arm; there are {', '.join(known)}")
  try:
    seeds = tuple(int(seed) for seed in FLAGS.seeds) if FLAGS.seeds else size.seeds
  except ValueError as error:
    raise ValueError(f"--seeds={','.join(FLAGS.seeds)} must be numbers, such as 0,1,2") from error
  if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
    raise ValueError(f"--seeds={','.join(FLAGS.seeds)} must be numbers from 0 to 2^32 - 1, each once")
  configs = {name: config for name, config in experiment.configs(base, given, FLAGS.scale).items() if name in names}
  for name, config in configs.items():
    try:
      validate(config)
    except ValueError as error:
      raise ValueError(f"arm {name}: {error}") from error
  arms = tuple(arm for arm in experiment.arms if arm.name in names)
  workdir = FLAGS.workdir or os.path.join("runs", f"{experiment.name}-{FLAGS.scale}")
  return Plan(experiment, FLAGS.scale, base, arms, configs, seeds, workdir, FLAGS.platform)
