"""Bundles that were made once and are kept: what they predicted then, they predict now.

They were made by `bert-jax finetune` from `tests.interop.small` and 200 examples of `test_kinds.WRITERS`. A change of
format that cannot read them fails here; give it a way to read them, and leave them as they are.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

import bert_jax

BUNDLES = Path(__file__).parent.parent / "testdata" / "bundles"


def test_a_classifier_says_what_it_said() -> None:
  rows = list(csv.DictReader((BUNDLES / "classification" / "predictions.csv").open(newline="")))
  found = bert_jax.load(BUNDLES / "classification").predict([row["text"] for row in rows])
  assert [answer.label for answer in found] == [row["predicted"] for row in rows]
  # As written, to six digits; float32 on another machine.
  np.testing.assert_allclose(
    [answer.probability for answer in found], [float(row["probability"]) for row in rows], atol=1e-5
  )


def test_a_tagger_says_what_it_said() -> None:
  sentences = [
    part.splitlines() for part in (BUNDLES / "tagging" / "predictions.conll").read_text().strip().split("\n\n")
  ]
  rows = [[line.split("\t") for line in lines] for lines in sentences]
  found = bert_jax.load(BUNDLES / "tagging").predict([[word for word, _, _ in row] for row in rows])
  assert [list(answer.tags) for answer in found] == [[tag for _, _, tag in row] for row in rows]
  assert found[0].spans[0].probability == pytest.approx(0.997283, abs=1e-5)
