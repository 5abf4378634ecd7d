"""The smallest runs that do everything: generated text, a network of one layer, a sweep of two arms.

Run as a program it is an experiment: `python -m tests.tiny --scale=smoke --data.source=text:FOLDER --workdir=W`.
"""

import contextlib
import dataclasses
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax import recipes, settings
from bert_jax.command_line import main
from bert_jax.config import Config
from bert_jax.data import sources, tasks
from bert_jax.experiment import Arm, Experiment, Plan, Size

ROOT = Path(__file__).parent.parent

ASSIGNMENTS: dict[str, Any] = {
  "model.num_layers": 1,
  "model.hidden_size": 24,
  "model.num_heads": 3,
  "model.intermediate_size": 40,
  "model.max_positions": 32,
  "data.max_seq_len": 20,
  "data.eval_fraction": 0.2,
  "data.segmentations": 2,
  "data.tokenizer.vocab_size": 150,
  "data.masking.max_predictions": None,
  "optim.peak_lr": 5e-3,
  "optim.warmup_steps": 3,
  "train.phases": None,
  "train.steps": 20,
  "train.batch_size": 8,
  "evaluation.every_steps": 5,
  "evaluation.batch_size": 16,
  "evaluation.max_examples": 103,
  "transfer.tasks": "",
  "runtime.scan_layers": True,  # quick to compile
  "runtime.num_workers": 1,
  "runtime.log_every_steps": 3,
  "runtime.save_every_steps": 10,
}

EXPERIMENT = Experiment(
  name="tiny",
  question="Does everything run?",
  arms=(
    Arm(name="bert", change="static masks", assignments={"data.masking.policy": "static"}),
    Arm(
      name="faster",
      parent="bert",
      change="twice the learning rate",
      assignments={"optim.peak_lr": lambda c: 2 * c.optim.peak_lr},
    ),
  ),
  sizes={"smoke": Size(ASSIGNMENTS, seeds=(0,), note="Nothing.")},
)


def config(source: str, **groups: dict[str, Any]) -> Config:
  """The sweep's base config: `config(source, train={"steps": 7})`."""
  given = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
  return settings.assign(recipes.recipe("bert_base"), {**ASSIGNMENTS, "data.source": source, **given})


def plan(source: str, workdir: Path, *, experiment: Experiment | None = None, **options: Any) -> Plan:
  """What a command line would make of the sweep: `assignments` are its settings, `arms` names, `seeds` numbers."""
  experiment = experiment or EXPERIMENT
  given = options.get("assignments", {})
  base = settings.assign(config(source), given)
  arms = tuple(arm for arm in experiment.arms if arm.name in options.get("arms", [a.name for a in experiment.arms]))
  configs = experiment.configs(base, given, "smoke")
  seeds = options.get("seeds", (0,))
  return Plan(experiment, "smoke", base, arms, configs, seeds, str(workdir), None, given=given)


def write_text(folder: Path, documents: int = 180) -> str:
  """A folder of text with some order in it, for a model to learn; returns the `data.source` of it."""
  draws = np.random.default_rng(3)
  words = ["".join(draws.choice(list("abcdefghij"), draws.integers(2, 6))) for _ in range(60)]
  folder.mkdir(parents=True, exist_ok=True)
  for number in range(documents):
    sentences = []
    for _ in range(draws.integers(3, 9)):
      first = draws.integers(len(words))
      sentences.append(" ".join(words[(first + 7 * i) % len(words)] for i in range(draws.integers(4, 11))) + ".")
    (folder / f"{number:03}.txt").write_text(" ".join(sentences))
  return f"text:{folder}"


def label_texts(patch: Callable[[Any, str, Any], None] = setattr) -> None:
  """From now on every text file has a label of the task `parity`, by its number: for transfer, which asks for one."""
  iterate = sources.FileSource.__iter__

  def labelled(source: sources.FileSource) -> Iterator[sources.Document]:
    for document in iterate(source):
      number = int(Path(document.name).stem)
      yield dataclasses.replace(document, label=f"parity/{'odd' if number % 2 else 'even'}")

  patch(sources.FileSource, "__iter__", labelled)
  for module in (sources, tasks):
    patch(module, "labelled_tasks", lambda _: ("parity",))


def command(source: str, workdir: Path, *flags: str) -> list[str]:
  """The sweep's command line."""
  program = [sys.executable, "-m", "tests.tiny", "--scale=smoke", f"--data.source={source}", f"--workdir={workdir}"]
  return [*program, *flags]


def environment(cache: Path, devices: int = 1) -> dict[str, str]:
  """For subprocesses: fake devices, and a folder for compiled programs."""
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # each number of devices is a program to compile
    "TINY_LABELS": "1",
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
  }


def run(arguments: list[str], env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
  return subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, **options)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
  """No file of this process can grow beyond `size` bytes: a write fails as on a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def clear_failed_save(checkpoints: Path) -> None:
  """Removes what a failed save of this very process left, once its threads have stopped writing there."""
  for _ in range(300):
    for left_over in checkpoints.glob("*.orbax-checkpoint-tmp*"):
      shutil.rmtree(left_over, ignore_errors=True)
    if not list(checkpoints.glob("*.orbax-checkpoint-tmp*")):
      return
    time.sleep(0.1)
  raise AssertionError(f"{checkpoints} is still written to")


if __name__ == "__main__":
  if "TINY_LABELS" in os.environ:
    label_texts()
  main(EXPERIMENT)
