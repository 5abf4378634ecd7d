"""The command line of an experiment file, which declares an `Experiment` and calls `main`.

Nothing heavy is imported before the command line is read, so that a wrong flag costs a second.
"""

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from bert_jax import console, preemption, recipes, settings
from bert_jax import flags as setting_flags
from bert_jax.config import MODEL_SETTINGS, Config
from bert_jax.experiment import ARM, SCALES, Experiment, Plan, Scale, needs
from bert_jax.settings import lookup
from bert_jax.training.peers import Processes
from bert_jax.validation import validate

FLAGS = flags.FLAGS
OWN_FLAGS = (
  *("scale", "recipe", "arms", "seeds", "workdir", "platform", "print_settings"),
  *("parallel_runs", "cores_per_run", "coordinator", "num_processes", "process_index", "handshake_seconds"),
)


def main(
  experiment: Experiment,
  run: Callable[[Plan], int] | None = None,
  usual_scale: Scale = "demo",
  more_flags: Sequence[str] = (),
) -> None:
  """Reads the command line and runs an experiment; the body of every experiment file.

  Args:
    run: what is done with the plan; by default, its sweep. It returns the exit status.
    usual_scale: without --scale, where the experiment has it.
    more_flags: names of flags that the caller has defined.
  """
  scales = [scale for scale in SCALES if scale in experiment.sizes]
  default = usual_scale if usual_scale in scales else scales[0]
  flags.DEFINE_string("scale", default, f"how big: {', '.join(scales)}; bert_jax/scales.py has what they set")
  flags.DEFINE_string("recipe", experiment.recipe, f"what all arms start from: {', '.join(recipes.RECIPES)}")
  flags.DEFINE_list(
    "arms", None, f"of {', '.join(arm.name for arm in experiment.arms)}; as the scale says where not given"
  )
  flags.DEFINE_list("seeds", None, "such as 0,1,2; as the scale says where not given")
  flags.DEFINE_string("workdir", None, f"folder for everything; runs/{experiment.name}-SCALE where not given")
  flags.DEFINE_enum("platform", None, ["cpu", "gpu", "tpu"], "what must be there; what JAX finds where not given")
  flags.DEFINE_string("parallel_runs", "auto", "runs at a time; auto: as many as cores or accelerators; smoke: one")
  flags.DEFINE_integer("cores_per_run", None, "CPU cores of each run; its share of all where not given", lower_bound=1)
  flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where several train as one; auto on a TPU pod")
  flags.DEFINE_integer("num_processes", None, "processes that train as one, each with this command")
  flags.DEFINE_integer("process_index", None, "which of them this is, from 0")
  flags.DEFINE_integer("handshake_seconds", 300, "until all processes have to have come", lower_bound=1)
  flags.DEFINE_bool("print_settings", False, "print the settings of every arm, as flags, and stop")
  setting_flags.define_settings()
  names = (*more_flags, *OWN_FLAGS)
  app.run(
    lambda left: sys.exit(_main(experiment, left[1:], run)), flags_parser=lambda given: _parse(experiment, given, names)
  )


def study(run: Callable[[], int], required: Sequence[str] = ()) -> None:
  """Reads the command line of an experiment that trains nothing from scratch, and runs it; its flags are its own.

  Args:
    run: returns the exit status.
    required: flags without which there is nothing to do.
  """

  def checked(left: list[str]) -> int:
    console.log_own_lines_only()
    try:
      if left[1:]:
        raise ValueError(f"{' '.join(left[1:])!r} is no flag; --help lists them")
      for name in required:
        if FLAGS[name].value is None:
          raise ValueError(f"--{name} is needed: {FLAGS[name].help}")
      return run()
    except (ValueError, OSError, ImportError) as error:
      console.raise_what_is_no_users(error)
      print(f"error: {error}", file=sys.stderr)
      return 1
    except preemption.Preempted as stopped:
      print(stopped, file=sys.stderr)
      return preemption.EXIT_PREEMPTED

  def parsed(arguments: list[str]) -> list[str]:
    asked = [argument for argument in arguments if argument in ("--help", "-help", "-h", "-?")]
    try:
      left = FLAGS([argument for argument in arguments if argument not in asked])
    except flags.Error as error:
      print(f"error: {error}", file=sys.stderr)
      sys.exit(1)
    if asked:
      main_module = sys.modules["__main__"]
      own = FLAGS.flags_by_module_dict().get(sys.argv[0], []) or FLAGS.get_key_flags_for_module(main_module)
      lines = "\n".join(
        f"  --{flag.name}={flag.value if flag.value is not None else ''}\n      {flag.help}" for flag in own
      )
      print(f"{(main_module.__doc__ or '').strip()}\n\nflags:\n{lines}")
      sys.exit(0)
    return left

  app.run(lambda left: sys.exit(checked(left)), flags_parser=parsed)


def _parse(experiment: Experiment, arguments: list[str], names: Sequence[str]) -> list[str]:
  """What is left of the command line once its flags are read; answers a call for help and a wrong flag, and ends."""
  asked = [argument for argument in arguments if argument in ("--help", "-help", "-h", "-?")]
  try:
    left = FLAGS([argument for argument in arguments if argument not in asked])
    if asked:
      print(_help(experiment, names))
      sys.exit(0)
    return left
  except flags.UnrecognizedFlagError as error:
    found = setting_flags.meant(error.flagname, names)
    meant = f"; did you mean {' or '.join(f'--{name}' for name in found)}?" if found else ";"
    print(f"error: --{error.flagname} is no flag{meant} --help lists them", file=sys.stderr)
  except (flags.Error, ValueError) as error:
    print(f"error: {error}", file=sys.stderr)
  sys.exit(1)


def _help(experiment: Experiment, names: Sequence[str]) -> str:
  """The experiment's flags, and every setting with the value that it has in this command before an arm changes it."""
  arms: dict[str, list[str]] = {}
  for arm in experiment.arms:
    for path in {**arm.assignments, **experiment.sizes[_scale(experiment)].arms.get(arm.name, {})}:
      arms.setdefault(path, []).append(arm.name)
  notes = {
    path: f"set by {'the arm' if len(names) == 1 else 'arms'} {', '.join(names)}" for path, names in arms.items()
  }
  own = "\n".join(f"  --{name}={setting_flags.shown(FLAGS[name].value)}\n      {FLAGS[name].help}" for name in names)
  return (
    f"{(sys.modules['__main__'].__doc__ or experiment.question).strip()}\n\nflags:\n{own}\n\nsettings, as"
    f" --recipe={FLAGS.recipe} --scale={FLAGS.scale} has them:\n{setting_flags.describe(_base(experiment), notes)}\n\n"
    "--helpfull lists the flags of libraries too."
  )


def _main(experiment: Experiment, arguments: Sequence[str], run: Callable[[Plan], int] | None) -> int:
  """The exit status: 0 done, 1 an error of the user's or the machine's, 75 stopped by a signal and saved."""
  console.log_own_lines_only()
  try:
    if arguments:
      raise ValueError(f"{' '.join(arguments)!r} is no flag; flags look like --scale=smoke, and --help lists them")
    plan = _plan(experiment)
    if FLAGS.print_settings:
      print(settings_of(plan))
      return 0
    if run is not None:
      return run(plan)
    from bert_jax import sweep  # heavy, and of no use before the command line is known to be right

    return sweep.run(plan)
  except (ValueError, OSError, ImportError) as error:
    console.raise_what_is_no_users(error)
    print(f"error: {error}", file=sys.stderr)
    return 1


def settings_of(plan: Plan) -> str:
  """Each arm's settings as flags: an arm beside its parent by what differs, any other in full."""
  lines = []
  for arm in plan.arms:
    config = plan.configs[arm.name]
    parent = plan.configs.get(arm.parent or "")
    changed = settings.differences(parent, config) if parent else None
    lines.append(f"# {arm.name}: {arm.change}" + (f"; as {arm.parent}, but for" if changed is not None else ""))
    # Of an arm with another architecture or objective, which no flag sets, in words.
    lines += [
      f"# {path} is {kind}" for path, (_, kind) in (changed or {}).items() if path.endswith(f".{settings.KIND}")
    ]
    paths = [leaf.path for leaf in settings.leaves(config)]
    paths = [path for path in paths if (path in changed if changed is not None else path != "train.seed")]
    lines += [f"--{path}={shlex.quote(setting_flags.shown(lookup(config, path)))}" for path in paths]
    lines.append("")
  return "\n".join([*lines, f"# seeds {', '.join(map(str, plan.seeds))}; workdir {plan.workdir}"])


def _scale(experiment: Experiment) -> Scale:
  """--scale.

  Raises:
    ValueError: the experiment has no such scale.
  """
  for scale in experiment.sizes:
    if FLAGS.scale == scale:
      return scale
  known = list(experiment.sizes)
  raise ValueError(f"--scale={FLAGS.scale} must be one of {', '.join(known)}{setting_flags.near(FLAGS.scale, known)}")


def _base(experiment: Experiment) -> Config:
  """Recipe, then scale, then what the run starts from, then command line."""
  given = setting_flags.given_settings()
  base = settings.assign_shared(recipes.recipe(FLAGS.recipe), experiment.sizes[_scale(experiment)].assignments)
  if given.get("train.start_from") is not None:
    from bert_jax.interop import start  # heavy, and needed here only

    model, of_tokenizer = start.settings_of(given["train.start_from"])
    base = settings.assign(dataclasses.replace(base, model=model), of_tokenizer)
  for path in MODEL_SETTINGS[1:]:  # whose tokenizer a run needs, and whose network it does not become
    if given.get(path) is not None:
      from bert_jax.interop import start

      base = settings.assign(base, start.settings_of(given[path], path)[1])
  return settings.assign(base, given)


def _plan(experiment: Experiment) -> Plan:
  """Recipe, scale, command line, arm: later ones override earlier ones. All rules are checked here.

  Raises:
    ValueError: an unknown recipe or arm, a seed that is no number, a setting that breaks a rule.
  """
  scale = _scale(experiment)
  size, base, given = experiment.sizes[scale], _base(experiment), setting_flags.given_settings()
  if "train.seed" in given:
    raise ValueError(f"--train.seed={given['train.seed']}: use --seeds={given['train.seed']}, each seed is a run")
  known = [arm.name for arm in experiment.arms]
  names = FLAGS.arms or size.runs or known
  for name in names:
    if name not in known:
      meant = setting_flags.near(name, known)
      raise ValueError(f"--arms={name}: there is no such arm{meant}; there are {', '.join(known)}")
  try:
    seeds = tuple(int(seed) for seed in FLAGS.seeds) if FLAGS.seeds else size.seeds
  except ValueError as error:
    raise ValueError(f"--seeds={','.join(FLAGS.seeds)} must be numbers, such as 0,1,2") from error
  if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
    raise ValueError(f"--seeds={','.join(FLAGS.seeds)} must be numbers from 0 to 2^32 - 1, each once")
  configs = {name: config for name, config in experiment.configs(base, given, scale).items() if name in names}
  for name, config in configs.items():
    try:
      validate(config)
    except ValueError as error:
      raise ValueError(f"arm {name}: {error}") from error
  for name, config in configs.items():
    for needed in needs(config):
      if needed not in known or needed == name:
        raise ValueError(
          f"arm {name}: {ARM}{needed} is no other arm of {experiment.name}; there are {', '.join(known)}"
        )
  arms = tuple(arm for arm in experiment.arms if arm.name in names)
  for name, config in configs.items():
    for needed in needs(config):
      if needed not in known:
        raise ValueError(f"arm {name}: there is no arm {needed}; there are {', '.join(known)}")
  workdir = FLAGS.workdir or os.path.join("runs", f"{experiment.name}-{scale}")
  processes = Processes(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_index, FLAGS.handshake_seconds)
  number = "auto" if FLAGS.parallel_runs == "auto" else int(FLAGS.parallel_runs) if FLAGS.parallel_runs.isdigit() else 0
  if number == 0:
    raise ValueError(f"--parallel_runs={FLAGS.parallel_runs} must be a number of runs from 1, or auto")
  return Plan(
    experiment,
    scale,
    base,
    arms,
    configs,
    seeds,
    workdir,
    FLAGS.platform,
    processes,
    number,
    FLAGS.cores_per_run,
    given=given,
  )
