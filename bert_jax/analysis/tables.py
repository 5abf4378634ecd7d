"""Results as files for other programs: results.csv, times.csv, results.json; equal runs give equal bytes."""

import csv
import io
import json
from typing import Any

from bert_jax.analysis.comparisons import Comparison, Results
from bert_jax.analysis.runs import COUNTS, TIMES, TRANSFER_PARTS, Sweep
from bert_jax.analysis.statistics import CONFIDENCE


def results_csv(sweep: Sweep) -> str:
  """One row for each run that has ended (arms as declared, then seeds), without times; empty: not measured.

  A diverged run has its row too, so that nobody averages over the others unknowingly; its losses may be empty.
  """
  columns = [*sweep.measures(), *(f"{task}.{part}" for task in sweep.tasks() for part in TRANSFER_PARTS)]
  rows = [
    [run.arm, str(run.seed), run.status, *(_cell(column, run.values.get(column)) for column in columns)]
    for run in sweep.runs
    if run.status in ("finished", "diverged")
  ]
  return _csv(["arm", "seed", "status", *columns], rows)


def times_csv(sweep: Sweep) -> str:
  """One row for each run that has told its times: seconds, token/s, and the share of time spent waiting for data."""
  rows = [
    [run.arm, str(run.seed), *(_cell(column, run.times.get(column)) for column in TIMES)]
    for run in sweep.runs
    if run.times
  ]
  return _csv(["arm", "seed", *TIMES], rows)


def results_json(results: Results) -> str:
  """Per arm: n, mean, standard deviation of every measure; per comparison: differences, errors, intervals, verdict."""
  sweep = results.sweep
  content = {
    "experiment": sweep.experiment,
    "question": sweep.question,
    "scale": sweep.scale,
    "runs_planned": len(sweep.runs),
    "runs_finished": sum(run.status == "finished" for run in sweep.runs),
    "confidence": CONFIDENCE,
    "arms": [
      {
        "arm": result.arm.name,
        "parent": result.arm.parent,
        "runs": {str(run.seed): run.status for run in result.runs},
        "void_seeds": list(result.void_seeds),
        "measures": {
          key: {"n": seen.n, "mean": seen.mean, "standard_deviation": seen.sd} for key, seen in result.spreads.items()
        },
      }
      for result in results.arms
    ],
    "comparisons": [_comparison(comparison) for comparison in results.comparisons],
    "gains_over_baselines": [_comparison(gain) for gain in results.gains],
  }
  return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _comparison(comparison: Comparison) -> dict[str, Any]:
  return {
    "arm": comparison.arm,
    "against": comparison.against,
    "measure": comparison.measure.key,
    "higher_is_better": comparison.measure.is_share,
    "differences": {
      str(seed): difference for seed, difference in zip(comparison.seeds, comparison.differences, strict=True)
    },
    "n": len(comparison.seeds),
    "mean": comparison.mean,
    "standard_errors": {
      error.source: {"value": error.standard_error, "degrees_of_freedom": error.degrees_of_freedom}
      for error in comparison.errors
    },
    "interval": comparison.interval,
    "p": comparison.p,
    "corrected_interval": comparison.corrected,
    "corrected_p": comparison.corrected_p,
    "verdict": comparison.verdict,
    "on_the_plateau": list(comparison.plateau),
    "paper_direction": comparison.direction,
    "paper": {1: "better", -1: "worse", 0: "no claim"}[comparison.direction],
    "agreement": comparison.agreement,
  }


def _cell(column: str, value: float | None) -> str:
  if value is None:
    return ""
  return str(int(value)) if column.rpartition(".")[2] in COUNTS else f"{value:.6f}"


def _csv(header: list[str], rows: list[list[str]]) -> str:
  file = io.StringIO()
  csv.writer(file, lineterminator="\n").writerows([header, *rows])
  return file.getvalue()
