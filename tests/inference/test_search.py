"""An index answers as comparing all texts in float64 would, and what it reads is what was written."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from bert_jax import records
from bert_jax.inference import search
from bert_jax.inference.model import Model
from bert_jax.inference.search import About, Entry, Index
from tests.interop import small

TEXTS = [
  "Snow is white.",
  "The cat sat on the mat.",
  "the sea\u2028is cold",
  "Paris.",
  "Snow is white.",
  "France\n2019",
]
ENTRIES = [Entry(f"n{number}", text) for number, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def model() -> Model:
  return small.make("bert", tokenizer=small.tokenizer_of())


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
  """An index of TEXTS."""
  Index.build(model, ENTRIES, tmp_path / "I", name="M")
  return tmp_path / "I"


def of_vectors(vectors: np.ndarray) -> Index:
  total, dimensions = vectors.shape
  about = About(search.FORMAT, "", None, "", "", "mean", None, "windows", None, total, dimensions, {})
  return Index(epath.Path("I"), about, vectors, np.zeros(0, np.uint8))


def all_compared(vectors: np.ndarray, query: np.ndarray) -> list[float]:
  """The cosines of unit vectors and a query, each product and each sum rounded once."""
  unit = search.unit(query[None])[0].tolist()
  return [math.fsum(a * b for a, b in zip(vector, unit, strict=True)) for vector in vectors.tolist()]


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_those_of_comparing_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
  """Among vectors that are equal, or differ by less than float32 can tell."""
  draw = np.random.default_rng(seed)
  dimensions, different, total, asked = (int(draw.integers(*sizes)) for sizes in ((1, 40), (1, 9), (1, 70), (1, 12)))
  base = draw.normal(size=(different, dimensions))[draw.integers(0, different, total)]
  base *= 1 + 1e-7 * draw.integers(-1, 2, base.shape)
  vectors, queries = search.unit(base), draw.normal(0, 30, (asked, dimensions))
  monkeypatch.setattr(search, "_BLOCK", dimensions * int(draw.integers(1, total + 2)))
  monkeypatch.setattr(search, "_QUERIES", int(draw.integers(1, asked + 2)))
  top_k = int(draw.integers(1, total + 5))
  scores, positions = of_vectors(vectors).search(queries, top_k)
  assert scores.shape == positions.shape == (asked, min(top_k, total))
  for query, found, places in zip(queries, scores, positions, strict=True):
    expected = np.array(all_compared(vectors, query))
    if dimensions > 2:  # in fewer, different vectors have equal cosines but for rounding
      np.testing.assert_array_equal(places, np.argsort(-expected, kind="stable")[:top_k])
    np.testing.assert_allclose(found, -np.sort(-expected)[:top_k], rtol=0, atol=1e-14)


def test_equal_vectors_come_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(search, "_BLOCK", 37 * 53)
  draw = np.random.default_rng(1)
  vector, queries = search.unit(draw.normal(size=(1, 53))), draw.normal(size=(19, 53))
  scores, positions = of_vectors(np.repeat(vector, 101, axis=0)).search(queries, 23)
  assert positions.tolist() == [list(range(23))] * 19
  assert [len(set(row)) for row in scores.tolist()] == [1] * 19


def test_vectors_and_texts_are_written_in_parts(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  embed, sizes = Model.embed, []

  def counted(self: Model, texts: Any, *arguments: Any, **options: Any) -> np.ndarray:
    sizes.append(len(texts))
    return embed(self, texts, *arguments, **options)

  monkeypatch.setattr(search, "_PART", 4)
  monkeypatch.setattr(Model, "embed", counted)
  index = Index.build(model, iter(ENTRIES), tmp_path / "I", pooling="max")
  assert sizes == [4, 2]
  assert sorted(path.name for path in tmp_path.iterdir()) == ["I"]
  assert sorted(path.name for path in (tmp_path / "I").iterdir()) == ["index.json", "texts.jsonl", "vectors.npy"]
  np.testing.assert_allclose(np.load(tmp_path / "I" / "vectors.npy"), embed(model, TEXTS, "max", True), rtol=1e-5)
  assert [index.entry(position) for position in range(len(TEXTS))] == ENTRIES
  lines = (tmp_path / "I" / "texts.jsonl").read_text().split("\n")
  assert [json.loads(line) for line in lines[:-1]] == [entry._asdict() for entry in ENTRIES]


def test_an_index_that_is_opened_answers_as_the_one_that_was_built(model: Model, tmp_path: Path) -> None:
  built = Index.build(model, ENTRIES, tmp_path / "I")
  (tmp_path / "I").rename(tmp_path / "J")
  opened = Index.open(tmp_path / "J")
  queries = ["snow", "The cat sat on the mat."]
  assert opened.ask(model, queries, 3) == built.ask(model, queries, 3)
  (first, *_), (second, *_) = opened.ask(model, [TEXTS[0], TEXTS[1]])
  assert first[1:] == (0, "n0", TEXTS[0])  # and not its equal at 4
  assert second[1:] == (1, "n1", TEXTS[1])
  assert first.score == pytest.approx(1, abs=1e-6)
  assert len(opened.ask(model, queries, 99)[0]) == len(TEXTS)


def test_each_side_has_its_prompt(tmp_path: Path) -> None:
  stated = {"prompts": {"query": "the sea: ", "passage": "Paris: ", "other": "cat "}, "default_prompt_name": "other"}
  plain = small.make("bert", tokenizer=small.tokenizer_of())
  model = small.make("bert", tokenizer=small.tokenizer_of())
  model.files["config_sentence_transformers.json"] = json.dumps(stated).encode()
  for name, words in ((None, "Paris: "), ("", ""), ("other", "cat ")):
    index = Index.build(model, ENTRIES, tmp_path / f"I{name}", prompt=name)
    expected = plain.embed([words + text for text in TEXTS], normalize=True)
    np.testing.assert_allclose(index.vectors, expected, rtol=1e-5, atol=1e-6)
    for asked, before in ((None, "the sea: "), ("", ""), ("passage", "Paris: ")):
      found = index.embed(model, ["snow"], prompt=asked)
      np.testing.assert_allclose(found, plain.embed([f"{before}snow"], normalize=True), rtol=1e-5, atol=1e-6)


# ---- what is refused ----


@pytest.mark.parametrize("name", ["vectors.npy", "texts.jsonl", "index.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "remove"])
def test_a_damaged_file_is_refused_by_its_name(folder: Path, name: str, damage: str) -> None:
  content = (folder / name).read_bytes()
  middle = len(content) // 2
  (folder / name).write_bytes(
    {
      "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
      "cut": content[:-9],
      "longer": content + b"}\n",
      "remove": b"",
    }[damage]
  )
  if damage == "remove":
    (folder / name).unlink()
  with pytest.raises(ValueError, match=rf"{name}.* bert-jax search index"):
    Index.open(folder)


def edit(folder: Path, **values: Any) -> None:
  path = epath.Path(folder / "index.json")
  records.write_json(path, records.require_json(path, "") | values)


def test_an_index_of_another_version_or_form_is_refused(folder: Path, tmp_path: Path) -> None:
  with pytest.raises(ValueError, match=r"is no index, as it has no index\.json"):
    Index.open(tmp_path)
  with pytest.raises(ValueError, match="is in a bucket"):
    Index.open("gs://bucket/I")
  for values, message in (
    ({"num_texts": 7}, r"vectors.npy is float32 \(6, 24\), and index.json says float32 \(7, 24\)"),
    ({"dimensions": 12}, r"says float32 \(6, 12\)"),
    ({"num_texts": "6"}, "does not hold what an index says of itself"),
    ({"new": 1}, "does not hold what an index says of itself"),
    ({"format": 2}, "is of format 2, and this version of bert_jax reads 1"),
  ):
    before = (folder / "index.json").read_bytes()
    edit(folder, **values)
    with pytest.raises(ValueError, match=message):
      Index.open(folder)
    (folder / "index.json").write_bytes(before)
  Index.open(folder)


def test_another_model_is_refused_with_both_values(folder: Path, model: Model) -> None:
  index = Index.open(folder)
  other = small.make("bert", tokenizer=model.tokenizer)
  other.params["encoder"]["embeddings"]["layer_norm"]["bias"][0] += 1
  with pytest.raises(ValueError, match=r"another model \(M\): the sha256 of its weights is \w{64}, .* one's \w{64};"):
    index.ask(other, ["snow"])
  cased = dataclasses.replace(model, tokenizer=small.tokenizer_of(lowercase=False))
  with pytest.raises(ValueError, match=r"the sha256 of its tokenizer is \w{64}, and that of this one's \w{64};"):
    index.ask(cased, ["snow"])


def test_what_cannot_be_indexed_leaves_nothing(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  def broken():
    yield from ENTRIES
    raise ValueError("line 7 is broken")

  monkeypatch.setattr(search, "_PART", 4)
  with pytest.raises(ValueError, match="line 7"):
    Index.build(model, broken(), tmp_path / "I")
  with pytest.raises(ValueError, match="there is no text to index"):
    Index.build(model, [], tmp_path / "I")
  for value in (np.nan, np.inf, 0):
    vectors = np.ones((4, 24), np.float32)
    vectors[2] = value
    monkeypatch.setattr(Model, "embed", lambda *_, found=vectors, **__: found / np.linalg.norm(found[0]))
    with pytest.raises(ValueError, match="text with id 'n2' a vector that is zero or no number"):
      Index.build(model, ENTRIES, tmp_path / "I")
  assert list(tmp_path.iterdir()) == []
  (tmp_path / "I").mkdir()
  (tmp_path / "I" / "mine").write_text("")
  with pytest.raises(ValueError, match="is there already"):
    Index.build(model, ENTRIES, tmp_path / "I")


def test_bad_queries_are_refused() -> None:
  index = of_vectors(search.unit(np.random.default_rng(0).normal(size=(5, 3))))
  for shape in ((3,), (2, 4), (1, 2, 3)):
    with pytest.raises(ValueError, match=r"queries must have shape \(Q, 3\), as the index has. Got "):
      index.search(np.ones(shape))
  for value in (0, np.nan, np.inf):
    with pytest.raises(ValueError, match="query 1 is zero or no number"):
      index.search(np.array([[1, 2, 3], [value] * 3]))
  with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
    index.search(np.ones((1, 3)), 0)
  assert index.search(np.ones((0, 3)), 2)[1].shape == (0, 2)
