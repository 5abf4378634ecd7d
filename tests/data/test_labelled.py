"""Labelled texts from tables, and as a model reads them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.config import TokenizerConfig
from bert_jax.data import frames, labelled, tokenizers
from bert_jax.data.frames import Frame
from bert_jax.data.labelled import Columns, Labelled
from bert_jax.data.tokenizers import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
  return tokenizers.train(["a b c d " * 50], TokenizerConfig(vocab_size=64))


def of(*rows: tuple[str, str], origin: str = "x.csv") -> Labelled:
  return Labelled(origin, tuple(text for text, _ in rows), tuple(label for _, label in rows))


@pytest.mark.parametrize("row", ["one, ", " ,yes"])
def test_an_empty_cell_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
  (tmp_path / "x.csv").write_text(f"text,label\none,yes\n{row}\n")
  with pytest.raises(ValueError, match=r"x.csv, line 3: the column '\w+' is empty; fill it, or remove the row"):
    list(labelled.rows(tmp_path / "x.csv", Columns()))


def test_what_cannot_be_learned_is_refused() -> None:
  train = of(("a", "yes"), ("b", "no"))
  rows = ("c", "may"), ("d", "yes"), ("e", "may"), ("f", "be")
  for origin, message in (
    ("dev.csv", r"labels that x\.csv does not have: 'may' \(2\), 'be' \(1\); remove"),
    ("x.csv", r"in the part that is held out: 'may' \(2\), 'be' \(1\); add more"),
  ):
    dev = of(*rows, origin=origin)
    with pytest.raises(ValueError, match=message):
      labelled.check_classes(train, dev, train.labels, dev.labels)
  with pytest.raises(ValueError, match="has one class only, 'yes'"):
    labelled.check_classes(of(("a", "yes")), train, ("yes",), train.labels)
  with pytest.raises(ValueError, match="has no label at all"):
    labelled.check_classes(of(("a", "none")), train, (), ())


def test_texts_in_both_are_counted(caplog: pytest.LogCaptureFixture) -> None:
  caplog.set_level("WARNING", logger="absl")
  labelled.warn_of_shared(of(("a", "yes"), ("b", "no")), of(("b", "no"), ("c", "no"), ("b", "yes"), origin="dev.csv"))
  assert "2 of the 3 examples of dev.csv are in x.csv too" in caplog.text


def test_classes_that_are_numbers_are_in_their_order() -> None:
  assert labelled.classes_of(["10", "9", "-1"]) == ("-1", "9", "10")
  assert labelled.classes_of(["10", "9x"]) == ("10", "9x")


def test_a_part_is_held_out_by_text() -> None:
  rows = [(f"text {number % 300}", str(number % 2)) for number in range(600)]
  train, dev = labelled.hold_out(of(*rows), 0.2)
  assert len(train.texts) + len(dev.texts) == 600
  assert not set(train.texts) & set(dev.texts), "equal texts are in one part"
  assert 0.1 < len(dev.texts) / 600 < 0.3
  assert labelled.hold_out(of(*reversed(rows)), 0.2)[1].texts == tuple(reversed(dev.texts)), "whatever their order"
  with pytest.raises(ValueError, match="leaves one part empty"):
    labelled.hold_out(of(("a", "yes")), 0.5)


def test_groups_are_not_divided() -> None:
  grouped = Labelled("x", tuple(range(200)), tuple(range(200)), tuple(str(i // 10) for i in range(200)))
  train, dev = labelled.hold_out(grouped, 0.3)
  assert not set(train.groups) & set(dev.groups)
  assert len(dev) % 10 == 0
  assert sorted([*train.texts, *dev.texts]) == list(range(200))


# ---- cutting ----


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 40))
def test_a_pair_is_cut_as_bert_cuts_it(one: int, other: int, room: int) -> None:
  """Token by token: from the longer, and from the second where they are equally long."""
  a, b = one, other
  while a + b > room:
    if a > b:
      a -= 1
    else:
      b -= 1
  assert frames.fit([one, other], room) == [a, b]


@pytest.mark.parametrize("frame", [Frame(), Frame(separators_between=2, num_segments=1), Frame(cls_last=True)])
def test_no_text_is_longer_than_asked_for(frame: Frame, tokenizer: Tokenizer) -> None:
  texts = ["a b", "a " * 50, ("a b c", "a"), ("a " * 30, "b " * 5), ("a " * 30, "b " * 31)]
  encoded = frames.encode(texts, frame, tokenizer, 12)
  assert encoded.cut == 3
  assert encoded.lengths.max() == 12
  assert [len(kinds) for kinds in encoded.segment_ids] == encoded.lengths.tolist()
  whole = frames.encode(texts, frame, tokenizer)
  assert whole.cut == 0
  np.testing.assert_array_equal(whole.token_ids[2], encoded.token_ids[2])
