"""From runs to verdicts: pairing by seed, void arms, missing and diverged runs."""

import json
import shutil
from pathlib import Path

import pytest
from etils import epath

from bert_jax import records
from bert_jax.analysis.comparisons import (
  LEARNED_MARGIN,
  LOSS,
  Results,
  answer_measure,
  compute,
  task_measure,
  transition,
)
from bert_jax.analysis.runs import Evaluation, Run, read_sweep
from bert_jax.results import Answer, Baselines, TaskResult
from tests.analysis.sweeps import LINE, TEXTS, evaluation, write_run, write_sweep


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


@pytest.mark.parametrize(("depth", "void"), [(0.49, True), (0.51, False)])
def test_two_arms_on_the_plateau_are_not_compared_and_one_with_another_is(
  tmp_path: Path, depth: float, void: bool
) -> None:
  """One run that has not learned puts its arm on the plateau."""
  write_sweep(tmp_path, arms=("a", "b", "c", "d"), seeds=(0, 1, 2), effects=(0.0,) * 4)
  for arm in ("b", "c"):
    # Its lowest evaluation is what counts, and the noise of the made-up curve must not be that.
    run = write_run(tmp_path, arm, 1, LINE - depth, tasks=("wiki_topics",))
    (run / "metrics.jsonl").unlink()
  results = results_of(tmp_path)
  assert results.arm("b").void_seeds == ((1,) if void else ())
  assert [row.verdict == "void" for row in results.on(LOSS)] == [False, void, False]
  assert [row.plateau for row in results.on(LOSS)] == ([("b",), ("c", "b"), ("c",)] if void else [()] * 3)
  assert (results.on(task_measure("wiki_topics"))[1].verdict == "void") == void
  assert results.on(LOSS)[0].corrected is not None
  assert results.gain("b", "wiki_topics", "random").verdict == "better", "what it is worth is measured all the same"


def test_an_arm_on_the_plateau_lends_its_spread_to_no_other(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b", "c", "d"), seeds=(0, 1, 2))
  before = results_of(tmp_path).on(LOSS)[0].errors[0]
  for seed, loss in enumerate((LINE - 0.49, LINE + 2.0, LINE - 0.3)):
    (write_run(tmp_path, "d", seed, loss) / "metrics.jsonl").unlink()
  row = results_of(tmp_path).on(LOSS)[0]
  assert row.errors[0].degrees_of_freedom < before.degrees_of_freedom
  assert row.errors[0].standard_error < 3 * before.standard_error


def test_a_generators_loss_is_not_compared_with_a_whole_models(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("mlm", "electra", "fifteen"), seeds=(0, 1), effects=(0.0, 0.4, 0.3))
  for arm, loss in (("electra", 5.6), ("fifteen", 5.9)):
    for seed in (0, 1):
      write_run(tmp_path, arm, seed, loss + 0.01 * seed, replaced_loss=0.2)
  first, second = results_of(tmp_path).on(LOSS)
  assert (first.arm, first.verdict) == ("electra", "not measured")
  assert second.verdict == "worse", "two generators are compared"


def test_the_plateau_is_left_between_two_evaluations_in_proportion() -> None:
  def left(*losses: float) -> float | None:
    evaluations = tuple(Evaluation(10 * n, 1000.0 * n, loss) for n, loss in enumerate(losses, 1))
    return transition(Run("a", 0, "finished", {"context_free_mask_loss": LINE}, {}, evaluations))

  wanted = LINE - LEARNED_MARGIN
  assert left(wanted + 0.1, wanted + 0.1) is None
  assert left(wanted + 0.3, wanted - 0.1, wanted + 1) == pytest.approx(1000 + 750)
  assert left(wanted - LEARNED_MARGIN) == pytest.approx(500)
  assert transition(Run("a", 0, "finished", {}, {}, ())) is None


def test_the_plateau_of_an_arm_is_left_by_all_its_runs_or_not_at_all(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1), effects=(-0.5, 0.0))
  before = {name: results_of(tmp_path).arm(name).spreads["transition"] for name in "ab"}
  assert before["a"].n == before["b"].n == 2
  write_run(tmp_path, "b", 1, LINE)
  after = results_of(tmp_path)
  assert after.arm("a").spreads["transition"] == before["a"]
  assert "transition" not in after.arm("b").spreads


def test_an_arm_that_learned_and_forgot_is_not_void(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1))
  run = write_run(tmp_path, "b", 1, LINE)
  (run / "metrics.jsonl").write_text(records.line(evaluation(100, 7, LINE - 0.6)))
  assert not results_of(tmp_path).arm("b").is_void


def test_copying_is_not_learning(tmp_path: Path) -> None:
  """Over all places far below the line of token frequencies, at [MASK] on it: as a model that sees no context."""
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1))
  for arm in ("a", "b"):
    (write_run(tmp_path, arm, 1, LINE, mlm_loss=LINE - 0.6) / "metrics.jsonl").unlink()
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
  assert [error.source for error in row.errors] == ["seeds", "documents"]
  # What a document is in both arms, 0.3 nats, cancels; 0.01 of each run, over 40 documents and 2 seeds, stays.
  assert row.errors[1].standard_error == pytest.approx(0.01 * (2 / 2 / 40) ** 0.5, rel=0.4)
  path = tmp_path / "runs/b/seed-1/heldout.json"
  records.write_json(epath.Path(path), json.loads(path.read_text()) | {"count": [3] * 40})
  without = results_of(tmp_path).on(LOSS)[0]
  assert "documents" not in [error.source for error in without.errors]


def test_accuracy_is_better_when_higher_and_nsp_is_compared_where_both_have_it(tmp_path: Path) -> None:
  seeds = range(3)
  write_sweep(tmp_path, arms=("a", "b", "c"), seeds=seeds, directions=(0, 1, -1))
  for seed in seeds:
    for arm, accuracy in (("a", 0.5), ("b", 0.6), ("c", 0.4)):
      baselines = Baselines(0.3 + 0.001 * seed, 0.7, 0.65, 0.2, scratch=0.32 + 0.001 * seed)
      topics = TaskResult(accuracy + 0.001 * seed * (arm == "b"), baselines, 20, 500, 16, 5, 0.5, 2)
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
  assert results.gain("a", "topics", "random").verdict == "better"
  assert results.gain("a", "topics", "scratch").verdict == "better"
  assert results.gain("a", "topics", "tfidf").verdict == "worse"
  assert results.gain("c", "topics", "tfidf_cut").verdict == "worse"


def test_draws_and_texts_are_paired_and_part_of_the_error(tmp_path: Path) -> None:
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1))
  results = results_of(tmp_path)
  row = results.on(task_measure("wiki_topics"))[0]
  assert [error.source for error in row.errors] == ["seeds", "draws", "texts"]
  # Texts are hard or easy for both arms alike, by 0.2: as if each arm had texts of its own, the error would be larger.
  assert row.errors[2].standard_error < 0.8 * (2 * 0.61 * 0.39 / TEXTS) ** 0.5
  for run in (tmp_path / "runs").glob("*/*/fewlabels.json"):
    run.unlink()
  apart = results_of(tmp_path).on(task_measure("wiki_topics"))[0]
  assert [error.source for error in apart.errors] == ["seeds", "texts"]
  assert apart.errors[1].standard_error > row.errors[2].standard_error


def test_no_interval_has_width_zero(tmp_path: Path) -> None:
  """Two seeds that agree to the last text, as once said "worse, by −5.5 to −5.5"."""
  write_sweep(tmp_path, arms=("a", "b"), seeds=(0, 1), tasks=())
  for arm, accuracy in (("a", 0.5), ("b", 0.445)):
    for seed in (0, 1):
      topics = TaskResult(accuracy, Baselines(0.3, 0.7, 0.6, 0.2), 20, 110, 16, 5)
      write_run(tmp_path, arm, seed, 5.5, transfer={"topics": topics}, nsp_balanced_accuracy=0.5)
  results = results_of(tmp_path)
  rows = [*results.comparisons, *results.gains]
  assert len(rows) > 5
  for row in rows:
    for ends in (row.interval, row.corrected):
      assert ends is None or ends[1] - ends[0] > 1e-3, row
  assert results.on(task_measure("topics"))[0].verdict == "not shown"
  for path in (tmp_path / "runs").glob("*/*/heldout.json"):
    path.unlink()
  (alike,) = results_of(tmp_path).on(LOSS)
  assert alike.corrected is None
  assert alike.verdict == "not shown"


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
