"""CSV, TSV and JSON lines as people have them."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.data import tables

FIELD = st.text(st.characters(exclude_characters="\0\r\ufeff", exclude_categories=("Cs",)), min_size=1, max_size=12)


def values(path: Path, *columns: str) -> list[tuple[str, ...]]:
  return [row.values for row in tables.read(path, columns)]


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6), st.sampled_from([",", ";", "\t", "|"]))
def test_what_csv_writes_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str):
  """Quotes, separators and line breaks in fields, whatever separates them."""
  path = tmp_path_factory.mktemp("csv") / "x.csv"
  with path.open("w", newline="", encoding="utf-8") as file:
    csv.writer(file, delimiter=separator, lineterminator="\n").writerows([("the text", "label"), *rows])
  assert values(path, "label", "the text") == [(label, text) for text, label in rows]


def test_a_tsv_file_quotes_nothing(tmp_path: Path) -> None:
  path = tmp_path / "x.tsv"
  path.write_text('Quality\t#1 String\n1\t" The pie business\n0\tand "so\n')
  assert values(path, "#1 String", "Quality") == [('" The pie business', "1"), ('and "so', "0")]


def test_columns_without_a_header_are_numbers(tmp_path: Path) -> None:
  path = tmp_path / "x.tsv"
  path.write_text("gj04\t1\t\tThe sailors rode.\ncj99\t0\t*\tAs you eat.\n")
  assert values(path, "4", "2") == [("The sailors rode.", "1"), ("As you eat.", "0")]
  with pytest.raises(ValueError, match="has no column 5; it has 4, counted from 1"):
    values(path, "5")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_json_lines_with_numbers_and_a_byte_order_mark(tmp_path: Path, suffix: str) -> None:
  lines = [{"text": "a\nb", "label": 3}, {"label": 2.5, "text": "c", "more": None}]
  content = ("\ufeff" + "\n\n".join(json.dumps(line) for line in lines) + "\n").encode()
  path = tmp_path / f"x.jsonl{suffix}"
  path.write_bytes(gzip.compress(content) if suffix else content)
  assert values(path, "text", "label") == [("a\nb", "3"), ("c", "2.5")]


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("x.csv", "text,category\na,b\n", "has no column 'label'; it has 'text', 'category'"),
    ("x.csv", "label,label,text\na,b,c\n", "has 2 columns named 'label'; give each a name of its own"),
    ("x.csv", "text,label\na,b\nc,d,e\n", "line 3: 3 fields, where the first row has 2; quote fields"),
    ("x.csv", 'text,label\n"a,b\n', "line 2: unexpected end of data"),
    ("x.csv", "", "is empty"),
    ("x.csv", b"text,label\ncaf\xe9,b\n", "is not UTF-8 .0xe9.* iconv -f WINDOWS-1252"),
    ("x.jsonl", '{"text": "a"}\n', "line 1 has no field 'label'; it has 'text'"),
    ("x.jsonl", '{"text": "a", "label": null}\n', "line 1: label=None must be a text or a number"),
    ("x.jsonl", "[1]\n", "line 1 is a JSON list, and must be an object"),
    ("x.jsonl", "{\n", "line 1 is no JSON"),
    ("x.csv.gz", "text,label\n", "cannot be read: Not a gzipped file"),
    ("x.xlsx", "", r"must end in \.csv, \.tsv, \.jsonl, \.json"),
  ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
  (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
  with pytest.raises(ValueError, match=message):
    values(tmp_path / name, "text", "label")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
  with pytest.raises(ValueError, match=r"nowhere\.csv cannot be read"):
    values(tmp_path / "nowhere.csv", "text")
