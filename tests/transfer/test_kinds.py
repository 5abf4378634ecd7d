"""Every kind of task from its files to a bundle, whose predictions are scored again from their file."""

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath
from scipy import sparse

import bert_jax
from bert_jax import records
from bert_jax.cli import finetune, main
from bert_jax.data import labelled
from bert_jax.data.labelled import Columns
from bert_jax.data.squad import Question
from bert_jax.inference.answers import Answer
from bert_jax.inference.predictions import Labels
from bert_jax.transfer import baselines, metrics
from bert_jax.transfer.kinds import KINDS
from bert_jax.transfer.kinds.base import Reading
from tests.interop import small

PEOPLE, PLACES, REST = ("cat", "king"), ("paris", "sea", "france"), ("snow", "is", "white", "the", "cold", "on")
QUESTION = {"who": PEOPLE, "where": PLACES}


pytestmark = pytest.mark.usefixtures("logging_stays")


def call(*arguments: object) -> int:
  return main.main([str(argument) for argument in arguments])


# ---- files: words at random, with one or two that say what is asked ----


def words(draw: np.random.Generator, *said: str) -> str:
  found = [str(word) for word in draw.choice(REST, draw.integers(2, 7))]
  for word in said:
    found.insert(int(draw.integers(0, len(found) + 1)), word)
  return " ".join(found)


def table(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
  with path.open("w", newline="") as file:
    csv.writer(file).writerows([header, *rows])
  return path


def of_classes(path: Path, draw: np.random.Generator, number: int) -> Path:
  rows = [(groups[draw.integers(0, 2)], i % 2) for i in range(number) if (groups := (PEOPLE, PLACES)[i % 2])]
  return table(path.with_suffix(".csv"), ["text", "label"], [[words(draw, word), label] for word, label in rows])


def of_labels(path: Path, draw: np.random.Generator, number: int) -> Path:
  rows = []
  for _ in range(number):
    held = [bool(draw.integers(0, 2)) for _ in range(2)]
    said = [group[0] for group, has in zip((PEOPLE, PLACES), held, strict=True) if has]
    names = [name for name, has in zip(("who", "where"), held, strict=True) if has]
    rows.append([words(draw, *said), "|".join(names) or "none"])
  return table(path.with_suffix(".csv"), ["text", "label"], rows)


def of_numbers(path: Path, draw: np.random.Generator, number: int) -> Path:
  rows = [(count, ["paris"] * count) for count in draw.integers(0, 4, number)]
  return table(path.with_suffix(".csv"), ["text", "label"], [[words(draw, *said), 1.5 * count] for count, said in rows])


def of_pairs(path: Path, draw: np.random.Generator, number: int) -> Path:
  rows = []
  for i in range(number):
    one, other = draw.choice(PLACES, 2)
    rows.append([words(draw, one), words(draw, one if i % 2 else other), float(i % 2 or one == other)])
  return table(path.with_suffix(".csv"), ["text", "pair", "label"], rows)


def of_queries(path: Path, draw: np.random.Generator, number: int) -> Path:
  rows = []
  for i in range(number // 4):
    wanted = PLACES[i % 3]
    rows += [[f"{wanted} {'the ' * (i // 3)}", words(draw, place), int(place == wanted)] for place in PLACES]
  return table(path.with_suffix(".csv"), ["text", "pair", "label"], rows)


def of_choices(path: Path, draw: np.random.Generator, number: int) -> Path:
  rows = []
  for _ in range(number):
    order = draw.permutation(3)
    rows.append([words(draw), *(words(draw, PLACES[place]) for place in order), "ABC"[int(np.argmin(order))]])
  return table(path.with_suffix(".csv"), ["text", "a", "b", "c", "label"], rows)


def of_tags(path: Path, draw: np.random.Generator, number: int) -> Path:
  lines = []
  for _ in range(number):
    for word in words(draw, str(draw.choice(PEOPLE)), "paris", *(["france"] if draw.integers(0, 2) else [])).split():
      tag = "B-PER" if word in PEOPLE else "B-LOC" if word in PLACES else "O"
      lines.append(f"{word}\t{tag}\n")
    lines.append("\n")
  path.with_suffix(".conll").write_text("".join(lines))
  return path.with_suffix(".conll")


def of_questions(path: Path, draw: np.random.Generator, number: int) -> Path:
  asked = []
  for i in range(number):
    name, answers = list(QUESTION.items())[i % 2]
    answer = str(draw.choice(answers))
    passage = words(draw, answer, "who" if i % 2 == 0 else "where")
    impossible = i % 5 == 4
    passage = passage if not impossible else words(draw)
    answers = [] if impossible else [{"text": answer, "answer_start": passage.index(answer)}]
    qas = [{"id": f"q{i}", "question": name, "answers": answers, "is_impossible": impossible}]
    asked.append({"context": passage, "qas": qas})
  path.with_suffix(".json").write_text(json.dumps({"data": [{"title": "all", "paragraphs": asked}]}))
  return path.with_suffix(".json")


WRITERS: dict[str, tuple[Callable[[Path, np.random.Generator, int], Path], list[str]]] = {
  "classification": (of_classes, ["--way=frozen"]),
  "multi_label": (of_labels, ["--way=frozen"]),
  "regression": (of_numbers, ["--way=frozen"]),
  "tagging": (of_tags, ["--way=frozen"]),
  "reranking": (of_queries, ["--way=frozen", "--pair=pair"]),
  "question_answering": (of_questions, ["--epochs=1"]),
  "multiple_choice": (of_choices, ["--epochs=1", "--choices=a,b,c"]),
  "similarity": (of_pairs, ["--epochs=1", "--pair=pair"]),
  "retrieval": (of_pairs, ["--epochs=1", "--pair=pair"]),
}
COLUMNS = ("--pair", "--choices")


def read(kind: str, path: Path) -> labelled.Labelled:
  pair = "pair" if "--pair=pair" in WRITERS[kind][1] else None
  return KINDS[kind].read(
    path, KINDS[kind].columns(None, pair, None, ("a", "b", "c") if kind == "multiple_choice" else ()), training=False
  )


def finetuned(kind: str, model: Path, folder: Path, *more: str) -> tuple[Path, Path, list[str]]:
  """The bundle, the file that it was measured on, and the flags that name its columns."""
  write, flags = WRITERS[kind]
  train, dev = (
    write(folder / name, np.random.default_rng(seed), n) for name, seed, n in (("train", 1, 120), ("dev", 2, 40))
  )
  frozen = "--way=frozen" in flags and "--way=full" not in more
  sizes = ["--max-tokens=24", *([] if frozen else ["--batch-size=8", "--peak-lr=1e-3"])]
  files = [f"--train={train}", f"--dev={dev}", f"--output={folder / 'B'}"]
  assert call("finetune", model, f"--task={kind}", *files, *sizes, *flags, *more) == 0
  return folder / "B", dev, [flag for flag in flags if flag.startswith(COLUMNS)]


@pytest.mark.slow
# What is peculiar to a kind is tested for itself; the way through all parts is one.
@pytest.mark.parametrize(
  "kind",
  [pytest.param(kind, marks=() if kind in ("classification", "tagging") else pytest.mark.exhaustive) for kind in KINDS],
)
def test_from_files_to_a_bundle_that_predicts(
  kind: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  bundle, dev, columns = finetuned(kind, model, tmp_path, "--baselines=trivial,word_table")
  shown = capsys.readouterr().out
  of_kind = KINDS[kind]
  assert shown.startswith(f"{of_kind.main} on ")
  written = records.read_json(epath.Path(bundle / "metrics.json"), "")
  assert written is not None
  assert (written["task"], written["measure"]) == (kind, of_kind.main)
  examples = read(kind, dev)
  assert set(of_kind.trivial(examples, examples)) & set(written["baselines"])
  assert all(f"| {name} |" in (bundle / "README.md").read_text() for name in ("this model", *written["baselines"]))
  # Moved to another folder, on a machine without the data, it says the same.
  moved = Path(shutil.move(bundle, tmp_path / "elsewhere"))
  again = bert_jax.load(moved)
  assert of_kind.score(examples, of_kind.predict(again, examples)) == pytest.approx(written["scores"], abs=1e-6)
  if kind == "reranking":
    capsys.readouterr()
    assert call("predict", moved, dev, *columns) == 0
    scores = [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]
    written_scores = [row["predicted"] for row in csv.DictReader((moved / of_kind.predictions).open(newline=""))]
    assert scores == pytest.approx(list(map(float, written_scores)), abs=2e-6)
  if kind == "retrieval":
    return
  # Its predictions alone give the same figures.
  predicted = moved / of_kind.predictions
  column = {"tagging": ["--predicted=3"], "question_answering": []}.get(kind, ["--predicted=predicted"])
  output = tmp_path / "figures.json"
  files = [f"--predictions={predicted}", f"--data={dev}", *column, f"--output={output}"]
  assert call("evaluate", kind, *files, *columns) == 0
  figures = json.loads(output.read_text())
  shared = {name: value for name, value in written["scores"].items() if name in figures["scores"]}
  assert {name: figures["scores"][name] for name in shared} == pytest.approx(shared, abs=1e-5)
  assert figures["examples"] == len(examples)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_settings_are_tried_and_the_best_is_kept(
  model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  more = ["--way=full", "--epochs=8", "--peak-lr=1e-9,5e-3", "--seeds=0,1", "--baselines=trivial"]
  bundle, *_ = finetuned("classification", model, tmp_path, *more)
  lines = capsys.readouterr().out.splitlines()
  assert sum("median of 2" in line for line in lines) == 2
  written: Any = records.read_json(epath.Path(bundle / "metrics.json"), "")
  tried = written["tried"]
  medians = [row["median"] for row in tried]
  assert medians == sorted(medians, reverse=True)
  assert tried[0]["setting"]["peak_lr"] == 5e-3
  assert written["settings"]["epochs"] == tried[0]["setting"]["epochs"]
  assert written["scores"]["accuracy"] == pytest.approx(tried[0]["high"]), "the best seed of the best setting"
  # A rate of nothing learns nothing, and is counted as failed where it is no better than the majority.
  assert all(row["low"] <= row["median"] <= row["high"] for row in tried)
  assert "4 runs were tried" in (bundle / "README.md").read_text()


@pytest.mark.parametrize(
  ("kind", "content", "flags", "message"),
  [
    ("regression", "text,label\na,high\n", [], "line 2: label='high' is no number"),
    ("regression", "text,label\na,1\nb,1\n", [], "has one value only, 1"),
    ("multi_label", 'text,label\na,"[3]"\n', [], "must be a list of texts"),
    (
      "multiple_choice",
      "text,a,b,label\nx,y,z,C\n",
      ["--choices=a,b"],
      "must be a number from 0 to 1, a letter from A to B",
    ),
    ("multiple_choice", "text,a,b,label\nx,y,z,C\n", [], "needs the columns of the texts to choose from: --choices="),
    ("similarity", "text,label\na,1\n", [], "name the column of the second texts by --pair"),
    ("reranking", "text,pair,label\na,b,2\n", ["--pair=pair"], "must be 0 (not relevant) or 1 (relevant)"),
    (
      "reranking",
      "text,pair,label\na,b,1\nc,d,1\n",
      ["--pair=pair"],
      "has no passage that is relevant, or none that is not",
    ),
    ("tagging", "a O\nb O\n", [], "has one tag only, 'O'"),
    ("question_answering", "{}", [], "has no 'data'"),
  ],
)
def test_what_a_kind_cannot_read_is_said(
  kind: str,
  content: str,
  flags: list[str],
  message: str,
  model: Path,
  tmp_path: Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  path = tmp_path / ("x.conll" if kind == "tagging" else "x.json" if kind == "question_answering" else "x.csv")
  path.write_text(content)
  files = [f"--train={path}", f"--dev={path}", f"--output={tmp_path / 'B'}", "--max-tokens=24"]
  assert call("finetune", model, f"--task={kind}", *files, *flags) == 1
  assert message in capsys.readouterr().err
  assert not (tmp_path / "B").exists()


def test_the_command_line_names_what_there_is() -> None:
  assert tuple(finetune.TASKS) == tuple(KINDS)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--recipe=bart"], "--recipe=bart is none of bert, bert_any_task"),
    (["--peak-lr=1e-5,x"], "--peak-lr=1e-5,x must be numbers, separated by commas"),
    (["--way=frozen", "--seeds=1,2"], "it has no settings to try; give one value each, and one seed"),
    (["--baselines=majority"], "--baselines=majority is none of trivial, tfidf"),
    (["--layer-decay=2"], "--layer-decay=2.0 must be above 0 and at most 1"),
    (["--batch-size=8,0"], "--batch-size=0 must be at least 1"),
    (["--word-vectors=nowhere.vec"], "--word-vectors=nowhere.vec is not there"),
    (["--top-layers=7"], "top_layers=7 is more than the model's 3 layers"),
    (["--max-tokens=0"], "--max-tokens=0 must be at least 3"),
    (["--dev=x.csv", "--dev-fraction=0.2"], "--dev-fraction=0.2 is a part of --train, and --dev=x.csv is given"),
    (
      ["--choices=a,b"],
      "--choices=a,b is of no use for classification, which reads --label, --pair, --pooling, --text",
    ),
    (["--task=tagging", "--pooling=mean"], "--pooling=mean is of no use for tagging, which reads --label, --text"),
    (["--task=question_answering", "--text=x"], "is of no use for question_answering, which reads none of these flags"),
    (["--way=frozen", "--peak-lr=1e-3"], "--peak-lr=1e-3 is of no use with --way=frozen"),
    (["--way=frozen", "--pooling=cls", "--baselines=scratch"], "--pooling=cls is of no use with --way=frozen"),
  ],
)
def test_a_wrong_flag_costs_a_second(
  flags: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  train = of_classes(tmp_path / "x", np.random.default_rng(0), 20)
  sizes = [] if any(flag.startswith("--max-tokens") for flag in flags) else ["--max-tokens=24"]
  assert call("finetune", model, f"--train={train}", f"--output={tmp_path / 'B'}", *sizes, *flags) == 1
  assert message in capsys.readouterr().err


@pytest.mark.slow
def test_parts_of_speech_are_measured_word_by_word(
  model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  """They mark each word, so that there are no entities to count; a document is read whole, in windows."""
  for name, seed in (("train", 1), ("dev", 2)):
    path = of_tags(tmp_path / name, np.random.default_rng(seed), 60)
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    kinds = {"O": "X", "B-PER": "NOUN", "B-LOC": "PROPN"}
    lines, number = ["# newdoc"], 0
    for row in rows:
      number = number + 1 if len(row) == 2 else 0
      lines.append("\t".join([str(number), row[0], "_", kinds[row[1]], *["_"] * 6]) if number else "")
    path.with_suffix(".conllu").write_text("\n".join(lines) + "\n")
  files = [f"--{name}={tmp_path / name}.conllu" for name in ("train", "dev")]
  sizes = ["--way=frozen", "--max-tokens=24", "--baselines=trivial"]
  assert call("finetune", model, "--task=tagging", *files, f"--output={tmp_path / 'B'}", *sizes) == 0
  assert "accuracy on 1 held-out examples:" in capsys.readouterr().out, "one document, and no interval of one"
  written: Any = records.read_json(epath.Path(tmp_path / "B" / "metrics.json"), "")
  assert set(written["scores"]) == {"accuracy"}
  assert written["scores"]["accuracy"] > 0.9
  assert len(written["notes"]) == 2, "both documents are read in windows"


def test_what_is_right_is_not_taken_for_what_was_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  """A bundle's predictions have both beside one another."""
  data = table(tmp_path / "dev.csv", ["text", "label"], [["snow", "a"], ["sea", "b"], ["cat", "a"], ["king", "b"]])
  rows = [["snow", "a", "b"], ["sea", "b", "b"], ["cat", "a", "b"], ["king", "b", "b"]]
  both = table(tmp_path / "predictions.csv", ["text", "label", "predicted"], rows)
  alone = table(tmp_path / "alone.csv", ["text", "label"], [[text, predicted] for text, _, predicted in rows])
  for path in (both, alone):
    assert call("evaluate", "classification", f"--predictions={path}", f"--data={data}") == 0
    assert "accuracy                   50.0 %" in capsys.readouterr().out


def test_predictions_of_other_texts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  data = table(tmp_path / "dev.csv", ["first", "second", "label"], [["snow", "a", 1], ["sea", "b", 0], ["cat", "c", 1]])
  sorted_otherwise = [["sea", "b", 0], ["snow", "a", 1], ["cat", "c", 1]]
  columns = [f"--data={data}", "--text=first", "--pair=second"]
  for header, status in ((["text", "text_pair", "predicted"], 1), (["first", "second", "predicted"], 0)):
    found = table(tmp_path / "found.csv", header, sorted_otherwise)
    assert call("evaluate", "regression", f"--predictions={found}", *columns) == status
  message = f"line 2: text='sea', where {data} has 'snow'; predictions must be of the same examples in the same order"
  assert message in capsys.readouterr().err
  choices = table(
    tmp_path / "choices.csv", ["text", "a", "b", "label"], [["snow", "x", "y", "A"], ["sea", "x", "y", "B"]]
  )
  found = table(tmp_path / "chosen.csv", ["text", "predicted"], [["snow", 0], ["sea", 0]])
  assert call("evaluate", "multiple_choice", f"--predictions={found}", f"--data={choices}", "--choices=a,b") == 0
  assert "50.0 %" in capsys.readouterr().out


def test_documents_are_tagged_as_they_are_trained(
  model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  """So that predict says what a bundle's figures are of; in a file without marks, each sentence is a document."""
  sentences = [["the", "cat", "sat"], ["paris", "is", "white"], ["snow"]]
  start = small.make("bert", "token_classification", small.tokenizer_of())
  tagger = dataclasses.replace(start, class_names=("B-LOC", "I-LOC", "B-PER", "I-PER", "O"), max_tokens=24)
  tagger.save(tmp_path / "T")
  plain = "".join("".join(f"{word} O\n" for word in sentence) + "\n" for sentence in sentences)
  answers: dict[str, list[Any]] = {}
  for name, text in (("apart", plain), ("together", f"-DOCSTART- O\n\n{plain}")):
    path = tmp_path / f"{name}.conll"
    path.write_text(text)
    examples = KINDS["tagging"].read(path, KINDS["tagging"].columns(None, None, None, ()), training=False)
    wanted = [list(tags) for document in KINDS["tagging"].predict(tagger, examples) for tags in document]
    capsys.readouterr()
    assert call("predict", tmp_path / "T", path, "--probabilities") == 0
    answers[name] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["words"] for answer in answers[name]] == sentences
    assert [answer["tags"] for answer in answers[name]] == wanted
    for answer in answers[name]:
      text = " ".join(answer["words"])
      assert all(text[span["start"] : span["stop"]] == span["text"] for span in answer["spans"])
  apart, together = ([p for answer in answers[name] for p in answer["probabilities"]] for name in answers)
  assert not np.allclose(apart, together, atol=1e-4), "the words around a sentence are read"


def test_questions_need_no_answers_to_be_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  small.make("bert", "question_answering", small.tokenizer_of()).save(tmp_path / "Q")
  content = {"data": [{"paragraphs": [{"context": "snow is white", "qas": [{"id": "7", "question": "what is it"}]}]}]}
  (tmp_path / "asked.json").write_text(json.dumps(content))
  assert call("predict", tmp_path / "Q", tmp_path / "asked.json", "-o", tmp_path / "found.json") == 0
  assert json.loads((tmp_path / "found.json").read_text())["7"] in "snow is white"
  files = [f"--predictions={tmp_path / 'found.json'}", f"--data={tmp_path / 'asked.json'}"]
  assert call("evaluate", "squad", *files) == 1
  assert "has no 'answers'" in capsys.readouterr().err


def test_a_bi_encoder_reads_its_prompt_before_it_is_trained_and_after() -> None:
  files = {"config_sentence_transformers.json": b'{"prompts": {"q": "snow is "}, "default_prompt_name": "q"}'}
  model = dataclasses.replace(small.make("bert", "encoder", small.tokenizer_of()), files=files)
  pairs = labelled.Labelled("x", (("the cat", "the sea"), ("paris", "france")), (1.0, 0.0))
  reading = Reading.of(model, 24, "mean")
  task = KINDS["similarity"].prepare("x", pairs, pairs, reading).task
  for place, text in enumerate(pairs.texts[0]):
    ids = model.encode(f"snow is {text}").token_ids
    np.testing.assert_array_equal(task.train.token_ids[0, place, : len(ids)], ids)
  # The encoder as it is and as it is measured are the same thing.
  frozen = baselines.measure(("frozen",), model, KINDS["similarity"], pairs, pairs, reading, 0)
  answers = KINDS["similarity"].predict(dataclasses.replace(model, max_tokens=24), pairs)
  vectors = model.embed([text for pair in pairs.texts for text in pair], normalize=True)
  np.testing.assert_allclose(
    [answer.value for answer in answers], np.sum(vectors[::2] * vectors[1::2], axis=1), rtol=1e-5
  )
  assert list(frozen.values()) == [KINDS["similarity"].score(pairs, answers)]


@pytest.mark.parametrize("kind", ["similarity", "retrieval"])
def test_counted_words_are_compared_as_other_vectors_are(kind: str) -> None:
  draw = np.random.default_rng(0)
  one, other = (np.where(draw.random((6, 9)) < 0.4, draw.random((6, 9)), 0) for _ in range(2))
  dense, counted = (KINDS[kind].compared(*pair) for pair in ((one, other), map(sparse.csr_matrix, (one, other))))
  flat = [np.ravel([getattr(answer, "value", answer) for answer in answers]) for answers in (dense, counted)]
  np.testing.assert_allclose(*flat)


def test_intervals_of_answers_are_those_of_questions_scored_again() -> None:
  """They are found from each question's scores, which are made once."""
  draw = np.random.default_rng(0)
  kind: Any = KINDS["question_answering"]
  questions = [
    Question(str(i), "q", "a b c d", ((" ".join(draw.choice(list("abcd"), 2)), 0),), False, "") for i in range(20)
  ]
  examples = labelled.Labelled("x", tuple((q.question, q.context) for q in questions), tuple(questions))
  answers = [Answer(" ".join(draw.choice(list("abcd"), 2)), 0, 0, 1.0, 0.0) for _ in questions]

  def scored(chosen: np.ndarray) -> float:
    return float(np.mean([kind.score(examples.part(np.array([i])), [answers[i]])["f1"] for i in chosen]))

  assert kind.interval(examples, answers, "f1") == pytest.approx(metrics.bootstrap(scored, 20))


def test_a_word_without_a_tag_is_outside() -> None:
  examples = labelled.Labelled("x", ((("paris", "x"),),), ((("B-LOC", "B-LOC"),),))
  found = KINDS["tagging"].score(examples, [[("B-LOC", "")]])
  assert (found["precision"], found["recall"]) == (1.0, 0.5)


def test_a_part_of_a_document_is_not_held_out(tmp_path: Path) -> None:
  """Questions about one passage, and passages of one query, stay on one side."""
  for kind, write in (("question_answering", of_questions), ("reranking", of_queries)):
    path = write(tmp_path / kind, np.random.default_rng(0), 80)
    train, dev = labelled.hold_out(KINDS[kind].read(path, Columns(pair="pair"), True), 0.3)
    assert not set(train.groups) & set(dev.groups)


def test_an_interval_of_ranks_is_over_queries_that_keep_what_they_rank() -> None:
  """Of random numbers, it has their score in it; resampled passages would be fewer, and so rank higher."""
  draw = np.random.default_rng(0)
  pairs = tuple((f"query {q}", f"passage {q} {p}") for q in range(150) for p in range(10))
  examples = labelled.Labelled("x", pairs, tuple(float(pair[1].endswith(" 0")) for pair in pairs))
  answers: list[Any] = [Labels((), np.array([value], np.float32)) for value in draw.random(len(pairs))]
  kind = KINDS["reranking"]
  low, high = kind.interval(examples, answers, "mrr") or (0, 0)
  assert low < kind.score(examples, answers)["mrr"] < high
  kind, examples = KINDS["retrieval"], examples.part(np.arange(0, len(pairs), 10))
  assert kind.interval(examples, list(np.eye(len(examples))), "mrr") is None, "all are the first"
  answers = [row + 2 * draw.random(len(examples)) for row in np.eye(len(examples))]
  low, high = kind.interval(examples, answers, "mrr") or (0, 0)
  assert low < kind.score(examples, answers)["mrr"] < high
