"""Measures against cases that can be worked out by hand, and against slow calculations of their own."""

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.data.labelled import Labelled
from bert_jax.data.squad import Question
from bert_jax.inference.predictions import Prediction
from bert_jax.transfer import metrics, squad_metrics
from bert_jax.transfer.kinds.base import Kind
from bert_jax.transfer.kinds.classification import Classification

pytest.importorskip("sklearn", reason="needs the extra demo")


def test_classes() -> None:
  found = metrics.classification(["0", "1", "1", "0"], ["0", "1", "0", "0"])
  assert found["accuracy"] == 0.75
  assert found["f1"] == pytest.approx(2 / 3), "of the second class"
  assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
  assert "f1" not in metrics.classification(["a", "b", "c"], ["a", "b", "c"])
  assert metrics.classification(["a", "a"], ["a", "a"])["matthews"] == 0


def test_labels() -> None:
  found = metrics.multi_label([["a", "b"], [], ["c"]], [["a"], [], ["c", "b"]])
  assert found == {
    "micro_f1": pytest.approx(2 / 3),
    "macro_f1": pytest.approx(2 / 3),
    "exact_match": pytest.approx(1 / 3),
  }
  assert metrics.multi_label([[]], [[]])["micro_f1"] == 1


def test_numbers() -> None:
  found = metrics.regression([1, 2, 3, 4], [2, 4, 6, 9])
  assert found["spearman"] == pytest.approx(1)
  assert 0.98 < found["pearson"] < 1
  constant = np.full(4, 0.1 + 0.2) + np.array([0, 1e-17, 0, 0])
  assert metrics.regression([1, 2, 3, 4], constant.tolist())["pearson"] == 0, "what never changes follows nothing"


def test_entities_count_whole() -> None:
  gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O"]]
  found = metrics.entities(gold, [["B-PER", "O", "O", "B-LOC"], ["O"]])
  assert found == {"f1": 0.5, "precision": 0.5, "recall": 0.5}
  assert metrics.entities(gold, [["O"] * 4, ["O"]])["f1"] == 0
  assert metrics.words(gold, [["B-PER", "O", "O", "B-LOC"], ["O"]])["accuracy"] == 0.8


def test_ranks() -> None:
  found = metrics.means(metrics.ranking([[0.9, 0.5, 0.1], [0.1, 0.7]], [[0, 1, 0], [0, 1]]))
  assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)
  assert found["ndcg"] == pytest.approx((1 / np.log2(3) + 1) / 2)
  assert metrics.ranking([[0.5] * 4], [[1, 0, 0, 0]])["mrr"] == [0.25], "saying the same of everything is worth nothing"


def test_an_interval_over_examples() -> None:
  values = np.random.default_rng(0).normal(3, 2, 400)
  low, high = metrics.bootstrap(lambda chosen: float(values[chosen].mean()), 400) or (0, 0)
  assert low < values.mean() < high
  assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.15)  # of a thousand resamples
  assert metrics.bootstrap(lambda chosen: 1.0, 400) is None
  assert metrics.bootstrap(lambda chosen: float(chosen.sum()), 1) is None


@pytest.mark.parametrize(
  ("measure", "classes"), [("accuracy", 3), ("macro_f1", 2), ("macro_f1", 4), ("matthews", 3), ("f1", 2)]
)
def test_an_interval_of_classes_is_that_of_resampled_examples(
  measure: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(Classification, "rounds", 40)
  draw, kind = np.random.default_rng(3), Classification()
  labels = tuple(str(number) for number in draw.integers(0, classes, 30))
  answers = [Prediction(label if draw.random() < 0.6 else "1", 1.0, np.ones(1, np.float32)) for label in labels]
  examples = Labelled("x", labels, labels)
  wanted = Kind.interval(kind, examples, answers, measure)
  assert wanted is not None
  assert kind.interval(examples, answers, measure) == pytest.approx(wanted, rel=1e-12)


# ---- SQuAD ----


def question(name: str, *answers: str, impossible: bool = False) -> Question:
  return Question(name, "?", "", tuple((answer, 0) for answer in answers), impossible, "")


@pytest.mark.parametrize(
  ("golds", "predicted", "exact", "f1"),
  [
    (["the Seine"], "Seine.", 1, 1),  # articles and punctuation
    (["An apple a day"], "apple  day", 1, 1),
    (["Theatre"], "the atre", 0, 0),  # an article is a word
    (["U.S.A."], "USA", 1, 1),
    (["well-known"], "well known", 0, 0),  # punctuation goes without leaving a space
    (["cat", "black cat"], "the black cat", 1, 1),  # the best of several
    (["black cat"], "cat", 0, 2 / 3),
    (["cat cat dog"], "cat bird cat", 0, 2 / 3),  # words count as often as they come
    (["Seine"], "", 0, 0),
    (["“Seine”"], "Seine", 0, 0),  # punctuation beyond ASCII stays
    (["Köln"], "KÖLN", 1, 1),
  ],
)
def test_an_answer_is_scored_as_the_official_evaluation_scores_it(
  golds: list[str], predicted: str, exact: float, f1: float
) -> None:
  found = squad_metrics.score([question("q", *golds)], {"q": predicted})
  assert found == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_no_answer_is_an_answer_in_the_second_version() -> None:
  questions = [
    question("a", "Seine"),
    question("b", impossible=True),
    question("c", impossible=True),
    question("d", "the", "x y"),
  ]
  found = squad_metrics.score(questions, {"a": "Seine", "b": "", "c": "Rome", "d": "x"})
  assert found["exact_match"] == 2 / 4
  assert found["f1"] == pytest.approx((1 + 1 + 0 + 2 / 3) / 4)
  assert (found["no_answer_f1"], found["has_answer_exact_match"]) == (1 / 2, 1 / 2)
  assert found["has_answer_f1"] == pytest.approx((1 + 2 / 3) / 2), "an answer of an article alone is none"
  assert squad_metrics.score(questions[:1], {})["f1"] == 0, "a question that is left out is answered wrongly"


def brute_force(scores: list[float], empty: list[float], odds: list[float]) -> float:
  best = 0.0
  for threshold in [min(odds) - 1, *odds]:
    best = max(best, np.mean([e if odd > threshold else s for s, e, odd in zip(scores, empty, odds, strict=True)]))
  return float(best)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-3, 3)), min_size=1, max_size=9))
def test_the_best_threshold_is_that_of_all_tried_in_turn(rows: list[tuple[bool, bool, int]]) -> None:
  """Each row: whether there is an answer, whether it is right, and the odds that there is none."""
  questions = [question(str(i), *(["x"] if has else []), impossible=not has) for i, (has, _, _) in enumerate(rows)]
  predicted = {str(i): "x" if right else "y" for i, (_, right, _) in enumerate(rows)}
  odds = {str(i): float(odd) for i, (_, _, odd) in enumerate(rows)}
  found = squad_metrics.best(questions, predicted, odds)
  scores = [float(has and right) for has, right, _ in rows]
  wanted = brute_force(scores, [float(not has) for has, _, _ in rows], list(odds.values()))
  assert found["best_exact_match"] == pytest.approx(wanted)
  # The threshold reaches it.
  threshold = found["best_f1_threshold"]
  chosen = {name: "" if odds[name] > threshold else text for name, text in predicted.items()}
  assert squad_metrics.score(questions, chosen)["f1"] == pytest.approx(found["best_f1"])


@given(st.text(alphabet=f"an the{string.punctuation}é ", max_size=12), st.text(alphabet="aan the.x ", max_size=12))
def test_another_calculation_agrees(one: str, other: str) -> None:
  def words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return [w for w in re.split(r"\s+", re.sub(r"(?<!\w)(the|an|a)(?!\w)", " ", kept)) if w]

  a, b = words(one), words(other)
  same = sum((Counter(a) & Counter(b)).values())
  wanted = float(a == b) if not a or not b else 2 * same / (len(a) + len(b))
  assert squad_metrics.f1(one, other) == pytest.approx(wanted)
  assert squad_metrics.exact(one, other) == float(a == b)
