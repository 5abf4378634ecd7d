"""CoNLL columns and CoNLL-U, and what sequences of tags mark."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.data import conll, tag_schemes
from bert_jax.data.tag_schemes import Scheme

TYPES = ("PER", "LOC")


def test_columns_and_documents(tmp_path: Path) -> None:
  path = tmp_path / "x.conll"
  path.write_text("-DOCSTART- -X- O\n\nParis NNP B-LOC\nsleeps VBZ O\n\n\nIt PRP O\n-DOCSTART- -X- O\nSnow NN O\n")
  found = conll.read(path).sentences
  assert [(s.words, s.tags, s.document) for s in found] == [
    (("Paris", "sleeps"), ("B-LOC", "O"), 0), (("It",), ("O",), 0), (("Snow",), ("O",), 1)
  ]  # fmt: skip
  assert conll.read(path, tag="2").sentences[0].tags == ("NNP", "VBZ")
  assert conll.read(path, word="2", tag="1").sentences[1].words == ("PRP",)
  assert next(conll.sentences(path, tagged=False)).tags == ()


def test_without_marks_each_sentence_is_a_document(tmp_path: Path) -> None:
  path = tmp_path / "x.conll.gz"
  path.write_bytes(gzip.compress(b"\xef\xbb\xbfSt. Paul\tB-LOC\r\n\r\nis\tO\r\n"))
  found = conll.read(path).sentences
  assert [(s.words, s.document) for s in found] == [(("St. Paul",), 0), (("is",), 1)], "tabs let words hold spaces"


def test_conllu_leaves_out_what_is_no_word(tmp_path: Path) -> None:
  path = tmp_path / "x.conllu"
  row = "{}\t{}\tlemma\t{}\tXP\t_\t0\troot\t_\t_\n"
  words = [
    ("1-2", "don't", "_"),
    ("1", "do", "AUX"),
    ("2", "n't", "PART"),
    ("2.1", "gone", "VERB"),
    ("3", "go", "VERB"),
  ]
  body = "".join(row.format(*word) for word in words)
  path.write_text(f"# newdoc id = a\n# text = don't go\n{body}\n# newdoc\n{row.format('1', 'So', 'ADV')}\n")
  found = conll.read(path).sentences
  assert (found[0].words, found[0].tags) == (("do", "n't", "go"), ("AUX", "PART", "VERB"))
  assert [s.document for s in found] == [0, 1]
  assert conll.read(path, tag="deprel").sentences[0].tags == ("root",) * 3
  with pytest.raises(ValueError, match=r"--label=ner is no column .* CoNLL-U has id, form, lemma, upos"):
    conll.read(path, tag="ner")


@pytest.mark.parametrize(
  ("content", "arguments", "message"),
  [
    (
      b"Paris B-LOC\nsleeps\n",
      {},
      r"x.conll, line 2 has 1 columns \(sleeps\); --text and --label say which holds what",
    ),
    (b"Paris B-LOC\n", {"tag": "4"}, r"line 1 has 2 columns"),
    (b"\n\n", {}, r"has no word"),
    (b"Par\xe9s O\n", {}, r"is not UTF-8"),
    (b"Paris O\n", {"tag": "ner"}, r"--label=ner: the columns of .* have no names; give a number, from 1"),
  ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, arguments: dict[str, str], message: str) -> None:
  (tmp_path / "x.conll").write_bytes(content)
  with pytest.raises(ValueError, match=message):
    conll.read(tmp_path / "x.conll", **arguments)


# ---- schemes ----

Spans = list[tuple[str, int, int]]


@st.composite
def marked(draw: st.DrawFn) -> tuple[int, Spans]:
  """A length, and spans that do not overlap."""
  length, place, found = draw(st.integers(0, 12)), 0, []
  while place < length:
    if draw(st.booleans()):
      stop = draw(st.integers(place + 1, length))
      found.append((draw(st.sampled_from(TYPES)), place, stop))
      place = stop
    else:
      place += 1
  return length, found


def written(length: int, spans: Spans, scheme: Scheme) -> list[str]:
  tags, before = ["O"] * length, ("", -1)
  for kind, start, stop in spans:
    for place in range(start, stop):
      prefix = "B" if place == start else "I"
      if scheme == "IOB1" and place == start and before != (kind, start):
        prefix = "I"
      if scheme == "BIOES" and place == stop - 1:
        prefix = "S" if stop - start == 1 else "E"
      tags[place] = f"{prefix}-{kind}"
    before = (kind, stop)
  return tags


@given(marked(), st.sampled_from(["IOB1", "IOB2", "BIOES"]))
def test_spans_come_back_from_every_scheme(of: tuple[int, Spans], scheme: Scheme) -> None:
  tags = written(*of, scheme)
  assert tag_schemes.first_break(tags, scheme) is None
  assert tag_schemes.spans(tags) == of[1]


@given(st.lists(st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in TYPES)]), max_size=9))
def test_broken_tags_are_read_as_seqeval_reads_them(tags: list[str]) -> None:
  scheme = pytest.importorskip("seqeval.metrics.sequence_labeling", reason="needs the extra demo")
  wanted = [(kind, start, stop + 1) for kind, start, stop in scheme.get_entities(tags)]
  assert tag_schemes.spans(tags) == wanted


def test_a_break_is_found_and_said_once() -> None:
  good, bad = ["B-PER", "I-PER", "O"], ["O", "I-PER", "I-LOC"]
  assert tag_schemes.broken("x", [good]) == ()
  assert tag_schemes.broken("x", [["I-PER", "O"], ["I-LOC", "B-LOC"]]) == (), "that is IOB1"
  (said,) = tag_schemes.broken("x.conll", [good, bad, ["B-LOC"]])
  assert said.startswith("x.conll: 1 of 3 sentences break IOB2, the first is sentence 2 (O I-PER I-LOC, at word 2)")
  assert tag_schemes.broken("x", [["NOUN", "VERB"]]) == ()
  assert tag_schemes.broken("x", [["B-PER", "E-PER"], ["S-LOC", "I-LOC"]])[0].startswith(
    "x: 1 of 2 sentences break BIOES"
  )


def test_parts_of_speech_are_no_scheme() -> None:
  assert tag_schemes.scheme_of(["NOUN", "X-Y"]) is None
  assert tag_schemes.spans(["NOUN", "VERB"]) == [("NOUN", 0, 1), ("VERB", 1, 2)]
