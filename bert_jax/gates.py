"""Proofs that the arms of a sweep share what they should: initial weights, order of the data, held-out examples."""

from typing import Any

from etils import epath

from bert_jax import settings
from bert_jax.config import Config, row_rate
from bert_jax.experiment import Plan
from bert_jax.results import Gate, Pretrained
from bert_jax.training.pretraining import read_config
from bert_jax.workdir import read_result, run_folder

# What each gate is about: the fingerprint of it is equal wherever no setting differs that decides it.
GATES = {"initialization": ("networks",), "data_order": ("store", "examples", "order"), "evaluation": ("evaluation",)}


def decided(config: Config, gate: str) -> Any:
  """The settings that decide what a gate is about."""
  if gate == "initialization":
    return config.model, config.train.seed, config.train.start_from, settings.deciding(config, *GATES[gate])
  return settings.deciding(config, *GATES[gate])


def check(workdir: epath.Path, plan: Plan) -> list[Gate]:
  """For each arm and its parent: do they share initial weights, data order and evaluation where they can?"""
  gates: list[Gate] = []
  for arm in plan.arms:
    for seed in plan.seeds:
      pair = [a for a in plan.arms if a.name in (arm.name, arm.parent)]
      folders = [run_folder(workdir, a.name, seed) for a in pair]
      found = [result.pretrained for result in map(read_result, folders) if result is not None]
      configs = [config for config in map(read_config, folders) if config is not None]
      if min(len(found), len(configs)) < 2:
        continue
      parent, mine = configs
      theirs, ours = found
      proofs = {"predictions": _predictions(parent, mine, theirs, ours)}
      for name in GATES:
        if decided(parent, name) == decided(mine, name):
          proofs[name] = _compared(getattr(theirs.fingerprints, name), getattr(ours.fingerprints, name))
      names = tuple(a.name for a in pair)
      gates += [Gate(name, names, seed, *proof) for name, proof in proofs.items() if proof is not None]
  return gates


def _compared(theirs: Any, ours: Any) -> tuple[bool, str] | None:
  """Whether two fingerprints are equal, and what they are; of networks with other heads, those of the shared parts.

  None where they share none.
  """
  if isinstance(ours, dict):
    both = [name for name in ours if name in theirs]
    if not both:
      return None
    theirs, ours = (", ".join(f"{name} {of[name]}" for name in both) for of in (theirs, ours))
  detail = f"fingerprint {ours}" if theirs == ours else f"{theirs} against {ours}"
  return theirs == ours, detail


# Rounding to whole predictions, and at least one of a short example, move the share of tokens that is predicted.
PREDICTIONS_TOLERANCE = 0.1


def _predictions(parent: Config, mine: Config, theirs: Pretrained, ours: Pretrained) -> tuple[bool, str] | None:
  """Where two arms differ in their masking rate, and in nothing else of how they mask: do they really predict so?"""
  rates = [row_rate(config.data.masking) for config in (parent, mine)]
  if rates[0] == rates[1]:
    return None
  shares = [(of.predicted_tokens or 0) / (of.tokens or 1) for of in (theirs, ours)]
  if not all(shares):
    return None
  holds = abs(shares[1] / shares[0] / (rates[1] / rates[0]) - 1) <= PREDICTIONS_TOLERANCE
  detail = f"{shares[1]:.1%} and {shares[0]:.1%} of the tokens predicted, at rates of {rates[1]:.0%} and {rates[0]:.0%}"
  return holds, detail
