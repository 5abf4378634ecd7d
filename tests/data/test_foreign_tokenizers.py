"""A tokenizer from a stranger: patterns that end, texts that stay short, ids that fit, and the library's panics."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from bert_jax.config import TokenizerConfig
from bert_jax.data import foreign_tokenizers, tokenizers
from bert_jax.interop import tokenizer_files

SENTENCES = ("Paris is the capital of France.", "The cat sat on the mat, 2019.", "Snow is white; the sea is cold.")
# Of Llama 3, o200k, XLM-R and GPT-2, as published.
PUBLISHED = [
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)",
  r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\s+",
  " {2,}",
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
  r"[\[\]()*+]+|\(\*\+",
]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
  folder = tmp_path_factory.mktemp("bpe")
  tokenizers.train(SENTENCES * 50, TokenizerConfig(kind="bpe", vocab_size=300)).save(folder)
  return json.loads((folder / "tokenizer.json").read_text())


def split(pattern: str, content: dict[str, Any]) -> dict[str, Any]:
  step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
  return content | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [step, content["pre_tokenizer"]]}}


def load(content: dict[str, Any], folder: Path) -> tokenizers.Tokenizer:
  (folder / "tokenizer.json").write_text(json.dumps(content))
  return tokenizers.load(folder, None)


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_published_patterns_are_read(pattern: str, content: dict[str, Any], tmp_path: Path) -> None:
  tokenizer = load(split(pattern, content), tmp_path)
  (ids, _), *_ = tokenizer.encode(["the cat's 2019  mats"])
  assert tokenizer.decode(ids).replace(" ", "") == "thecat's2019mats"


@pytest.mark.parametrize(
  "pattern",
  [
    *(
      r"(a+)+$",
      r"(x+x+)+y",
      r"(\w|\d)*!",
      r"((a{2,}))*b",
      r"(?:a*)*",
      r"(?>(a|b)+)+",
      r"([ab]+c?)*d",
      r"(a{1,1000})+",
    ),
    *(
      r"(a)\1+",
      r"(?<x>a\g<x>?b)",
      r"(?i:a|a)*$",
      r"(a?(b|c))+",
      "((((",
    ),
  ],
)
def test_patterns_without_an_end_are_refused(pattern: str, content: dict[str, Any], tmp_path: Path) -> None:
  start = time.perf_counter()
  with pytest.raises(ValueError, match=r"tokenizer\.json"):
    load(split(pattern, content), tmp_path).encode(["ab 12 " * 500])
  assert time.perf_counter() - start < 30


def replace(content: dict[str, Any], *steps: tuple[str, str]) -> dict[str, Any]:
  rules = [{"type": "Replace", "pattern": {"String": old}, "content": new} for old, new in steps]
  return content | {"normalizer": {"type": "Sequence", "normalizers": rules}}


def test_texts_do_not_grow_without_bounds(content: dict[str, Any], tmp_path: Path) -> None:
  load(replace(content, ("``", '"'), (" ", "▁")), tmp_path)
  for steps in ([("a", "aa")] * 40, [("a", "a" * 1001)], [(" ", "  ")] * 11):
    with pytest.raises(ValueError, match=r"tokenizer.json makes a text .* times as long"):
      load(replace(content, *steps), tmp_path)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda c: c["model"]["vocab"].update(x=2**31),
      r'gives "x" the id 2147483648, which must be a whole number from 0',
    ),
    (lambda c: c["model"]["vocab"].update(x=-1), r'gives "x" the id -1'),
    (lambda c: c["model"]["vocab"].update(x=1.5), r'gives "x" the id 1.5'),
    (lambda c: c["added_tokens"].append({"id": 2**31, "content": "y", "special": True}), r'gives "y" the id'),
    (lambda c: c["model"].update(vocab={}), "holds no token"),
    (lambda c: c["model"].update(vocab=None), "its vocab is neither"),
    (lambda c: c["model"].update(dropout=0.5), "dropout=0.5: it cuts a text otherwise each time"),
    (lambda c: c["model"]["merges"].append(["nosuch", "token"]), "cannot be used by the tokenizers library"),
    (lambda c: c["model"]["merges"].append("a b c"), "cannot be used by the tokenizers library"),
    (lambda c: c.update(model=[]), "its model is no object"),
    (lambda c: c.update(pre_tokenizer="ByteLevel"), "its pre_tokenizer is neither"),
    (
      lambda c: c.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
      "precompiled_charsmap is no table",
    ),
  ],
)
def test_what_is_unsound_is_named(change: Any, message: str, content: dict[str, Any], tmp_path: Path) -> None:
  changed = json.loads(json.dumps(content))
  change(changed)
  with pytest.raises(ValueError, match=rf"tokenizer\.json.*{message}"):
    load(changed, tmp_path).encode(["the cat"])


@pytest.mark.parametrize("cut", [1, 2, 3, 5000, 200_003])
def test_a_damaged_table_of_characters_is_named_before_the_library_panics(
  cut: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
  trained = tokenizers.train(SENTENCES * 50, TokenizerConfig(kind="unigram", vocab_size=60))
  tokenizer_files.write(trained, epath.Path(tmp_path), None, True, 1)
  (tmp_path / "spiece.model").unlink()
  written = json.loads((tmp_path / "tokenizer.json").read_text())
  (tables,) = [step for step in written["normalizer"]["normalizers"] if step["type"] == "Precompiled"]
  encoded = tables["precompiled_charsmap"]
  assert load(written, tmp_path).vocab_size > 40
  tables["precompiled_charsmap"] = encoded[:-cut]
  with pytest.raises(ValueError, match="precompiled_charsmap is no table of characters"):
    load(written, tmp_path)
  assert "panicked" not in capfd.readouterr().err


def test_the_library_s_panics_are_errors_and_interrupts_are_not() -> None:
  import tokenizers as hf

  whole = hf.Tokenizer(hf.models.WordLevel({"a": 0}, unk_token="a"))
  whole.pre_tokenizer = hf.pre_tokenizers.Split(hf.Regex("(a+)+$"), "isolated")  # pyright: ignore
  with pytest.raises(ValueError, match=r"here cannot be used by the tokenizers library: .*retry-limit"):  # noqa: SIM117
    with foreign_tokenizers.guarded("here"):
      whole.encode("a" * 40 + "b")
  with pytest.raises(KeyboardInterrupt), foreign_tokenizers.guarded("here"):
    raise KeyboardInterrupt


def test_merges_and_settings_name_file_and_line(tmp_path: Path) -> None:
  (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2}))
  for text, message in (
    ("#version: 0.2\na b c\n", r"merges\.txt, line 2: 'a b c' must be two tokens"),
    ("a\n", r"merges\.txt, line 1: 'a' must be two tokens"),
    ("a x\n", r"merges\.txt cannot be used by the tokenizers library"),
  ):
    (tmp_path / "merges.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
      tokenizers.load(tmp_path, None)
  for settings, message in (
    ('{"do_lower_case": "yes"}', 'tokenizer_config.json has do_lower_case="yes", which must be true, false or null'),
    ("[]", "tokenizer_config.json is damaged: it holds no object"),
    ("{", "tokenizer_config.json is damaged"),
  ):
    (tmp_path / "tokenizer_config.json").write_text(settings)
    with pytest.raises(ValueError, match=message):
      tokenizers.load(tmp_path, None)
