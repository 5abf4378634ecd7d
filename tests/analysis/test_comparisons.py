"""From runs to verdicts: pairing by seed, void arms, missing and diverged runs."""

import json
import shutil
from pathlib import Path

import pytest
from etils import epath

from bert_jax import records
from bert_jax.analysis.comparisons import LOSS, Results, answer_measure, compute, task_measure
from bert_jax.analysis.runs import read_sweep
from bert_jax.analysis.statistics import PAIRS_FOR_A_SHARE
from bert_jax.results import Answer, Baselines, TaskResult
from tests.analysis.sweeps import LINE, evaluation, write_run, write_sweep


def results_of(folder: Path) -> Results:
  return compute(read_sweep(folder))


def test_differences_are_paired_by_seed_whatever_the_seeds_do_to_every_arm(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(3, 0, 11))
  for seed, loss in ((3, 5.0), (0, 6.0), (11, 5.5)):
    write_run(tmp_path, "a", seed, loss, tasks=("topics",))
    write_run(tmp_path, "b", seed, loss - 0.1 - seed * 1e-4, tasks=("topics",))
  (row,) = results_of(tmp_path).on(LOSS)
  assert row.seeds == (3, 0, 11)
  assert row.differences == pytest.approx((-0.1003, -0.1, -0.1011))
  assert row.verdict == "better"


def test_a_seed_that_one_arm_lacks_is_in_no_pair(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b", "c"), seeds=(0, 1, 2, 3))
  shutil.rmtree(tmp_path / "runs/b/seed-2")
  write_run(tmp_path, "b", 1, 5.0, status="diverged", mask_loss=float("nan"))
  write_run(tmp_path, "a", 3, 5.9, finished=False)
  (tmp_path / "runs/a/seed-3/result.json").unlink()
  results = results_of(tmp_path)
  assert [row.seeds for row in results.on(LOSS)] == [(0,), (0, 3)]
  assert results.on(LOSS)[0].verdict == "not shown"
  assert [run.status for run in results.arm("b").runs] == ["finished", "diverged", "not run", "finished"]
  assert results.arm("a").seeds_with("unfinished") == [3]
  assert results.arm("b").spreads["mask_loss"].n == 2


def test_a_loss_that_is_not_finite_is_a_diverged_run(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1))
  write_run(tmp_path, "b", 0, 5.0, mlm_loss=float("nan"), mask_loss=float("nan"))
  assert results_of(tmp_path).arm("b").seeds_with("diverged") == [0]


@pytest.mark.parametrize(("depth", "void"), [(0.019, True), (0.021, False)])
def test_one_run_that_learned_no_context_makes_its_arm_void_and_what_is_compared_with_it(
  tmp_path: Path, depth: float, void: bool
) -> None:
  write_sweep(tmp_path, arms=("a", "b", "c", "d"), seeds=(0, 1))
  loss = LINE - depth
  # Its lowest evaluation is what counts, and the noise of the made-up curve must not be that.
  run = write_run(tmp_path, "b", 1, loss, tasks=("wiki_topics",))
  (run / "metrics.jsonl").unlink()
  results = results_of(tmp_path)
  assert results.arm("b").void_seeds == ((1,) if void else ())
  verdicts = [row.verdict for row in results.on(LOSS)]
  assert [verdict == "void" for verdict in verdicts] == [void, void, False]
  assert (results.on(task_measure("wiki_topics"))[0].verdict == "void") == void
  assert (results.gain("b", "wiki_topics", "scratch").verdict == "void") == void


def test_an_arm_that_learned_and_forgot_is_not_void(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1))
  run = write_run(tmp_path, "b", 1, LINE)
  (run / "metrics.jsonl").write_text(records.line(evaluation(100, 7, LINE - 0.5)))
  assert not results_of(tmp_path).arm("b").is_void


def test_copying_is_not_learning(tmp_path: Path) -> None:
  """Over all places far below the line of token frequencies, at [MASK] on it: as a model that sees no context."""
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1))
  write_run(tmp_path, "b", 1, LINE, mlm_loss=LINE - 0.6)
  (tmp_path / "runs/b/seed-1/metrics.jsonl").unlink()
  results = results_of(tmp_path)
  assert results.arm("b").void_seeds == (1,)
  assert results.on(LOSS)[0].verdict == "void"


def test_an_arm_that_never_sees_mask_is_not_measured_there_and_not_void(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b", "c"), seeds=(0, 1))
  for seed in (0, 1):
    write_run(tmp_path, "b", seed, 5.9, mask_loss=None)
    (tmp_path / f"runs/b/seed-{seed}/metrics.jsonl").unlink()
  results = results_of(tmp_path)
  assert [row.verdict for row in results.on(LOSS)] == ["not measured", "not measured"]
  assert not results.arm("b").is_void
  assert results.arm("b").seeds_with("finished") == [0, 1]


def test_the_choice_of_documents_is_paired_like_the_runs(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1), noise=0.0)
  (row,) = results_of(tmp_path).on(LOSS)
  assert row.sampling_error is not None
  # What a document is in both arms, 0.3 nats, cancels; 0.01 of each run, over 40 documents and 2 seeds, stays.
  assert row.sampling_error == pytest.approx(0.01 * (2 / 2 / 40) ** 0.5, rel=0.4)
  path = tmp_path / "runs/b/seed-1/heldout.json"
  records.write_json(epath.Path(path), json.loads(path.read_text()) | {"count": [3] * 40})
  assert results_of(tmp_path).on(LOSS)[0].sampling_error is None


def test_accuracy_is_better_when_higher_and_nsp_is_compared_where_both_have_it(tmp_path: Path) -> None:
  seeds = range(PAIRS_FOR_A_SHARE)
  write_sweep(tmp_path, arms=("a", "b", "c"), seeds=seeds, directions=(0, 1, -1))
  for seed in seeds:
    for arm, accuracy in (("a", 0.5), ("b", 0.6), ("c", 0.4)):
      baselines = Baselines(scratch=0.3 + 0.001 * seed, tfidf=0.7 + 0.001 * seed, majority=0.2)
      topics = TaskResult(accuracy + 0.001 * seed * (arm == "b"), baselines, 500, 16, 5)
      write_run(
        tmp_path,
        arm,
        seed,
        5.5,
        transfer={"topics": topics},
        nsp_balanced_accuracy=None if arm == "c" else accuracy + 0.1,
      )
  results = results_of(tmp_path)
  assert [row.verdict for row in results.on(task_measure("topics"))] == ["better", "worse"]
  assert [(row.arm, row.agreement) for row in results.on(answer_measure(Answer("nsp", "NSP", "")))] == [
    ("b", "no claim")
  ]
  assert results.gain("a", "topics", "scratch").verdict == "better"
  assert results.gain("a", "topics", "tfidf").verdict == "worse"


def test_a_broken_plan_is_refused_by_name(tmp_path: Path) -> None:
  with pytest.raises(ValueError, match=r"has no sweep\.json"):
    read_sweep(tmp_path)
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0,))
  path = epath.Path(tmp_path) / "sweep.json"
  plan = json.dumps(records.read_json(path, ""))
  for old, new, message in (
    ('"parent": "a"', '"parent": "z"', "compared with z"),
    ('"name": "b"', '"name": "a"', "must stand once"),
    ('"direction": 0', '"direction": 2', "direction=2"),
    ('"hardware"', '"hard"', r"missing \['hardware'\], unknown \['hard'\]"),
  ):
    records.write_json(path, json.loads(plan.replace(old, new)))
    with pytest.raises(ValueError, match=message):
      read_sweep(tmp_path)


def test_half_a_line_of_metrics_is_left_out_and_a_step_that_ran_twice_counts_once(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a",), seeds=(0,))
  path = tmp_path / "runs/a/seed-0/metrics.jsonl"
  before = read_sweep(tmp_path).runs[0].evaluations
  path.write_text(path.read_text() + path.read_text()[:-30] + '\n{"kind": "eval", "st')
  assert read_sweep(tmp_path).runs[0].evaluations == before
