"""Which settings are tried in fine-tuning: the grids that the papers published, and what comes of trying them.

A setting is tried with several seeds, and settings are compared by their median on the dev set: on small tasks some
seeds of large models do not learn at all (Devlin et al. 2018, 4.1; Clark et al. 2020 report medians).
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Grid:
  """Settings to try: all combinations of the first three, with the others as they are.

  Attributes:
    peak_lr, batch_size, epochs: several values each.
    fixed: other settings of a fine-tuning, see `making.Asked`.
    source: where that stands.
  """

  peak_lr: tuple[float, ...]
  batch_size: tuple[int, ...]
  epochs: tuple[int, ...]
  fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
  source: str = ""

  def settings(self) -> list[dict[str, Any]]:
    """One for each combination."""
    names = ("peak_lr", "batch_size", "epochs")
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(getattr(self, n) for n in names))]


SEEDS_FOR_AN_INTERVAL = 5

# Warm-up is a tenth where nothing else stands. Optimizers: AdamW with bias correction, as `finetuning.run_config` says.
RECIPES = {
  "bert": Grid((5e-5, 4e-5, 3e-5, 2e-5), (32,), (3,), source="Devlin et al. 2018, 4.1 (GLUE)"),
  "bert_any_task": Grid((5e-5, 3e-5, 2e-5), (16, 32), (2, 3, 4), source="Devlin et al. 2018, A.3"),
  "bert_miniatures": Grid(
    (3e-4, 1e-4, 5e-5, 3e-5), (8, 16, 32, 64, 128), (4,), source="Turc et al. 2019; google-research/bert, README"
  ),
  "roberta": Grid(
    (1e-5, 2e-5, 3e-5),
    (16, 32),
    (10,),
    {"warmup_fraction": 0.06, "weight_decay": 0.1, "beta2": 0.98, "clip_norm": 0.0},
    "Liu et al. 2019, table 10; fairseq, examples/roberta/README.glue.md",
  ),
  "electra_base": Grid(
    (1e-4,), (32,), (3,), {"layer_decay": 0.8}, "google-research/electra, configure_finetuning.py (small and base)"
  ),
  "electra_large": Grid(
    (5e-5,), (32,), (3,), {"layer_decay": 0.9}, "google-research/electra, configure_finetuning.py (large)"
  ),
  "deberta_base": Grid((1.5e-5, 2e-5, 3e-5, 4e-5), (16, 32, 48, 64), (10,), source="He et al. 2021, table 9 (base)"),
  "modernbert": Grid((1e-5, 3e-5, 5e-5, 8e-5), (64,), (1, 2, 3), {"weight_decay": 5e-6}, "Warner et al. 2024, table 6"),
}


@dataclasses.dataclass(frozen=True)
class Tried:
  """One fine-tuning.

  Attributes:
    setting: what was tried.
    seed: of it.
    score: on the dev set, by the measure that the task is about; None where the loss was not finite.
    failed: whether it has learned nothing: no finite loss, or not above the trivial.
  """

  setting: dict[str, Any]
  seed: int
  score: float | None
  failed: bool


@dataclasses.dataclass(frozen=True)
class Summary:
  """All seeds of a setting.

  Attributes:
    setting: what was tried.
    median, low, high: of the scores; one without a finite loss counts as 0, or as the lowest of all if that is less.
    seeds: how many there are.
    failed: how many of them have learned nothing.
    interval: of the median, 95 %, by bootstrap over the seeds; None where there are fewer than five, or they agree.
  """

  setting: dict[str, Any]
  median: float
  low: float
  high: float
  seeds: int
  failed: int
  interval: tuple[float, float] | None = None

  def line(self, shown: Any) -> str:
    """In words; shown: how a score is printed."""
    values = ", ".join(f"{name} {value:g}" for name, value in self.setting.items())
    failed = f", {self.failed} failed" if self.failed else ""
    spread = f" ({shown(self.low)} to {shown(self.high)})" if self.seeds > 1 else ""
    if self.interval is not None:
      low, high = self.interval
      spread = f"{spread[:-1]}; 95 % over other seeds: {shown(low)} to {shown(high)})"
    return f"{values}: median of {self.seeds} {shown(self.median)}{spread}{failed}"


def summaries(tried: Sequence[Tried]) -> list[Summary]:
  """Each setting's, the best first; of equals the one that was tried first."""
  from bert_jax.transfer import metrics  # not above: the command line reads RECIPES before anything heavy is there

  groups: dict[tuple[Any, ...], list[Tried]] = {}
  for one in tried:
    groups.setdefault(tuple(one.setting.items()), []).append(one)
  found, lowest = [], min([0.0, *(one.score for one in tried if one.score is not None)])
  for runs in groups.values():
    scores = [lowest if run.score is None else run.score for run in runs]
    failed = sum(run.failed for run in runs)
    median, interval = statistics.median(scores), None
    if len(scores) >= SEEDS_FOR_AN_INTERVAL:
      interval = metrics.bootstrap(lambda chosen, of=scores: statistics.median(of[i] for i in chosen), len(scores))
    found.append(Summary(runs[0].setting, median, min(scores), max(scores), len(runs), failed, interval))
  return sorted(found, key=lambda summary: -summary.median)


def best_seed(tried: Sequence[Tried], setting: dict[str, Any]) -> int:
  """The seed of a setting's best run."""
  runs = [run for run in tried if run.setting == setting]
  return max(runs, key=lambda run: (-math.inf if run.score is None else run.score, -run.seed)).seed
