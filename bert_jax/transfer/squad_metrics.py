"""SQuAD's measures, by the definition of its official evaluations (Rajpurkar et al. 2016, 6.1; 2018, 5).

All are shares from 0 to 1; the official scripts print percent.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bert_jax.data.squad import Question

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
  """Lower case, without ASCII punctuation, the articles a, an and the, and spaces that do not part words."""
  text = text.lower().translate(_PUNCTUATION)
  return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact(gold: str, predicted: str) -> float:
  """1 where two answers are the same, normalized."""
  return float(normalized(gold) == normalized(predicted))


def f1(gold: str, predicted: str) -> float:
  """F1 of the words that two answers share; where one has none, 1 if the other has none either."""
  true, found = normalized(gold).split(), normalized(predicted).split()
  if not true or not found:
    return float(true == found)
  same = sum((Counter(true) & Counter(found)).values())
  if not same:
    return 0.0
  precision, recall = same / len(found), same / len(true)
  return 2 * precision * recall / (precision + recall)


def golds(question: Question) -> list[str]:
  """The answers that a prediction is compared with, the best of which counts; "" where there is none.

  As the evaluation of 2.0 does, answers that are nothing but articles and punctuation are left out.
  """
  return [text for text, _ in question.answers if normalized(text)] or [""]


def per_question(questions: Sequence[Question], predicted: Mapping[str, str]) -> dict[str, np.ndarray]:
  """exact_match and f1 of each question, float64 [N]; one without a prediction has 0, as in 1.1's evaluation.

  Args:
    predicted: see `score`.
  """
  rows = []
  for question in questions:
    text = predicted.get(question.id)
    answers = golds(question)
    rows.append([0.0, 0.0] if text is None else [max(score(gold, text) for gold in answers) for score in (exact, f1)])
  found = np.array(rows, np.float64).reshape(-1, 2)
  return {"exact_match": found[:, 0], "f1": found[:, 1]}


def score(questions: Sequence[Question], predicted: Mapping[str, str]) -> dict[str, float]:
  """exact_match and f1; where some questions have no answer, those of the questions with one and without one too.

  Args:
    predicted: id → answer; "" says that there is none.
  """
  matches, overlaps = per_question(questions, predicted).values()
  found = {"f1": float(overlaps.mean()), "exact_match": float(matches.mean())}
  answered = np.array([golds(question) != [""] for question in questions])
  if not answered.all():
    for name, which in (("has_answer", answered), ("no_answer", ~answered)):
      if which.any():
        found |= {f"{name}_f1": float(overlaps[which].mean()), f"{name}_exact_match": float(matches[which].mean())}
  return found


def best(
  questions: Sequence[Question], predicted: Mapping[str, str], null_odds: Mapping[str, float]
) -> dict[str, float]:
  """What choosing the threshold of "no answer" on these questions could reach: best_f1, best_exact_match, and where.

  Args:
    predicted: id → the best answer, never "".
    null_odds: id → how likely it is that there is none; above the threshold, the answer is "".
  """
  scored = per_question(questions, predicted)
  empty = np.array([float(golds(question) == [""]) for question in questions])
  odds = np.array([null_odds.get(question.id, 0.0) for question in questions])
  found = {}
  for name, scores in scored.items():
    found[f"best_{name}"], found[f"best_{name}_threshold"] = _best(scores, empty, odds)
  return found


def best_threshold(
  questions: Sequence[Question], predicted: Mapping[str, str], null_odds: Mapping[str, float]
) -> float:
  """The threshold with the best F1; see `best`."""
  return best(questions, predicted, null_odds)["best_f1_threshold"]


def _best(scores: np.ndarray, empty: np.ndarray, odds: np.ndarray) -> tuple[float, float]:
  """The best mean, and the threshold: of the questions in the order of their odds, the first k keep their answers."""
  order = np.argsort(odds, kind="stable")
  totals = np.concatenate([[0.0], np.cumsum((scores - empty)[order])]) + empty.sum()
  # Equal odds are on one side.
  sorted_odds = odds[order]
  allowed = np.concatenate([[True], np.append(sorted_odds[1:] != sorted_odds[:-1], True)])
  place = int(np.argmax(np.where(allowed, totals, -np.inf)))
  threshold = sorted_odds[place - 1] if place else sorted_odds[0] - 1.0
  return float(totals[place] / len(scores)), float(threshold)
