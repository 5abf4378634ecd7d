"""What a head predicts, and that it is what transformers says of the same folder."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax.inference.model import Model
from bert_jax.inference.predictions import Choice, Labels, Prediction, Value
from bert_jax.inference.tags import Tags
from bert_jax.interop import writing
from bert_jax.objective_configs import QuestionAnsweringConfig
from tests.interop import small

TEXTS = ["Paris is the capital of France.", "The cat sat on the mat, 2019.", "Snow", "the sea is cold; snow is white."]
PAIRS = [("the cat sat", "on the mat"), ("Snow is white.", "the sea is cold"), ("Paris", "the capital of France")]
NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
# float32 in another order: of probabilities, which are at most 1.
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def model_of(network: str, name: str = "bert", **more: Any) -> Model:
  made = small.make(name, network, small.tokenizer_of("bpe" if name == "roberta" else "wordpiece"))
  return dataclasses.replace(made, **more)


def opened(model: Model, folder: Path) -> Model:
  """The model, after it was a Hugging Face folder."""
  writing.write_files(model, epath.Path(folder))
  return bert_jax.load(folder)


# ---- beside transformers ----


@pytest.mark.parity
@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_a_classifier_says_what_the_pipeline_says(name: str, problem: Any, tmp_path: Path) -> None:
  import transformers

  model = opened(
    model_of("sequence_classification", name, problem=problem, class_names=tuple("abcde")), tmp_path / "hf"
  )
  assert model.problem == problem
  pipe: Any = transformers.pipeline("text-classification", str(tmp_path / "hf"), top_k=None)
  asked = [*TEXTS, *({"text": one, "text_pair": other} for one, other in PAIRS)]
  for found, wanted in zip(model.predict([*TEXTS, *PAIRS]), (pipe([text])[0] for text in asked), strict=True):
    scores = {row["label"]: row["score"] for row in wanted}
    np.testing.assert_allclose(found.probabilities, [scores[name] for name in "abcde"], **CLOSE)
    if problem == "single_label":
      assert isinstance(found, Prediction)
      assert (found.label, found.probability) == (wanted[0]["label"], pytest.approx(wanted[0]["score"], abs=1e-5))
    else:
      assert isinstance(found, Labels)
      assert found.labels == tuple(row["label"] for row in wanted if row["score"] > 0.5)


@pytest.mark.parity
@pytest.mark.parametrize("problem", ["regression", "multi_label"])
def test_one_output_is_a_number_or_a_share_as_it_is_for_the_pipeline(problem: Any, tmp_path: Path) -> None:
  import transformers

  made = model_of("sequence_classification", problem=problem)
  kernel = {name: array[..., :1] for name, array in made.params["classifier"].items()}
  made = dataclasses.replace(made, num_classes=1, params=made.params | {"classifier": kernel})
  model = opened(made, tmp_path / "hf")
  pipe: Any = transformers.pipeline("text-classification", str(tmp_path / "hf"))
  for found, wanted in zip(model.predict(TEXTS), pipe(TEXTS), strict=True):
    value = found.value if isinstance(found, Value) else found.probabilities[0]
    np.testing.assert_allclose(value, wanted["score"], **CLOSE)
  # A folder that does not say which is asked for a share, as cross-encoders are.
  (tmp_path / "hf" / "config.json").write_text(
    (tmp_path / "hf" / "config.json").read_text().replace('"problem_type"', '"was"')
  )
  assert bert_jax.load(tmp_path / "hf").problem == "multi_label"


@pytest.mark.parity
def test_a_tagger_says_what_the_pipeline_says(tmp_path: Path) -> None:
  import transformers

  model = opened(model_of("token_classification", class_names=NAMES), tmp_path / "hf")
  pipe: Any = transformers.pipeline("token-classification", str(tmp_path / "hf"), aggregation_strategy="first")
  spans = 0
  for text, found in zip(TEXTS, model.predict(TEXTS), strict=True):
    wanted = pipe(text)
    assert isinstance(found, Tags)
    assert [(s.label, s.start, s.stop) for s in found.spans] == [
      (w["entity_group"], w["start"], w["end"]) for w in wanted
    ]
    np.testing.assert_allclose([s.probability for s in found.spans], [w["score"] for w in wanted], **CLOSE)
    assert all(text[s.start : s.stop] == s.text for s in found.spans)
    spans += len(found.spans)
  assert spans > 5


@pytest.mark.parity
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_answers_are_the_best_spans_of_transformers_scores(name: str, tmp_path: Path) -> None:
  """transformers 5 has no pipeline for answers: the span is looked for here, in its logits, by its offsets."""
  import torch
  import transformers

  model = opened(model_of("question_answering", name), tmp_path / "hf")
  peer: Any = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "hf").eval()
  tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
  pairs = [("the cat sat", TEXTS[1]), ("Snow", TEXTS[3]), ("the capital", TEXTS[0])]
  for (question, passage), found in zip(pairs, model.predict(pairs), strict=True):
    inputs = tokenizer(question, passage, return_tensors="pt", return_offsets_mapping=True)
    offsets, sequence = inputs.pop("offset_mapping")[0].tolist(), inputs.sequence_ids(0)
    if name != "bert":
      inputs.pop("token_type_ids", None)
    with torch.no_grad():
      outputs = peer(**inputs)
    start, end = (x[0].double().numpy() for x in (outputs.start_logits, outputs.end_logits))
    inside = [i for i, part in enumerate(sequence) if part == 1]
    i, j = max(((i, j) for i in inside for j in inside if i <= j), key=lambda span: start[span[0]] + end[span[1]])
    assert found.text == passage[offsets[i][0] : offsets[j][1]].strip()
    assert passage[found.start : found.stop] == found.text
    chance = np.exp(start - np.logaddexp.reduce(start))[i] * np.exp(end - np.logaddexp.reduce(end))[j]
    np.testing.assert_allclose(found.probability, chance, **CLOSE)
    np.testing.assert_allclose(found.null_margin, start[0] + end[0] - start[i] - end[j], rtol=1e-4, atol=1e-4)


@pytest.mark.parity
def test_choices_have_the_probabilities_that_transformers_gives_them(tmp_path: Path) -> None:
  import torch
  import transformers

  model = opened(model_of("multiple_choice"), tmp_path / "hf")
  peer: Any = transformers.AutoModelForMultipleChoice.from_pretrained(tmp_path / "hf").eval()
  tokenizer: Any = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
  questions = [[("the cat", "sat"), ("the cat", "is the sea"), ("the cat", "Paris")], PAIRS[:2]]
  for choices, found in zip(questions, model.predict(questions), strict=True):
    inputs = tokenizer([a for a, _ in choices], [b for _, b in choices], padding=True, return_tensors="pt")
    with torch.no_grad():
      wanted = torch.softmax(peer(**{key: value[None] for key, value in inputs.items()}).logits[0], -1).numpy()
    assert isinstance(found, Choice)
    np.testing.assert_allclose(found.probabilities, wanted, **CLOSE)
    assert found.index == int(wanted.argmax())


# ---- by itself ----


def test_an_encoder_predicts_cosines() -> None:
  model = model_of("encoder")
  for pair, found in zip(PAIRS, model.predict(PAIRS), strict=True):
    one, other = model.embed(list(pair), normalize=True)
    assert found.value == pytest.approx(float(one @ other), abs=1e-5)
  assert model.predict(("Snow", "Snow")).value == pytest.approx(1, abs=1e-5)


def test_words_that_are_given_are_the_words_that_are_tagged() -> None:
  model = model_of("token_classification", class_names=NAMES)
  text = ["Paris", "is", "the", "mat,", "\u200b", "2019"]
  found = model.predict([text])[0]
  assert found.words == tuple(text)
  assert len(found.tags) == len(text)
  assert (found.tags[4], found.probabilities[4]) == ("O", 0), "no token stands for it"
  # A text that splits at spaces alone is tagged as its words are.
  plain = model.predict("Paris is the capital")
  assert plain.tags == model.predict([["Paris", "is", "the", "capital"]])[0].tags


def test_what_has_no_words_has_no_answer_and_no_tags() -> None:
  answers = model_of("question_answering").predict([("the cat", ""), ("", "the cat sat"), ("", "")])
  assert [answer.text == "" for answer in answers] == [True, False, True]
  assert answers[0].null_margin == np.inf
  tagger = model_of("token_classification", class_names=NAMES)
  assert [len(found.tags) for found in tagger.predict(["", [], "snow"])] == [0, 0, 1]
  assert tagger.predict([""])[0].spans == ()


def test_a_new_head_answers_by_no_threshold_of_the_one_before() -> None:
  before = model_of("question_answering", null_threshold=-3.0, max_tokens=12)
  after = before.with_head(QuestionAnsweringConfig(), before.params, (), "passages that always have an answer")
  assert (after.null_threshold, after.max_tokens) == (None, None)


def test_a_long_text_is_tagged_whole() -> None:
  model = model_of("token_classification", class_names=NAMES, max_tokens=12)
  text = TEXTS[3].split() * 9
  found = model.predict([text])[0]
  assert len(found.tags) == len(text)
  assert (found.probabilities > 0).all()


@pytest.mark.parametrize(
  ("network", "asked", "message"),
  [
    ("question_answering", ["what"], "text 0 must be a tuple of a question and a passage"),
    ("token_classification", [("a", 3)], "text 0 must be a str, or a list of words"),
    ("multiple_choice", ["a"], "takes, for each question, a list of texts"),
    ("encoder", ["a"], "text 0 must be a tuple of two texts"),
    ("sequence_classification", [["a"]], "text 0 must be a str, or a tuple of two"),
    ("masked_lm", ["a"], "the model has the head masked_lm, which predicts nothing"),
  ],
)
def test_what_is_asked_wrongly(network: str, asked: list[Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    model_of(network).predict(asked)
