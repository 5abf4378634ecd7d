"""Few-label accuracy: which texts, how they are read, what is kept, and what it stands beside."""

import dataclasses
import itertools
import random
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from bert_jax import settings
from bert_jax.architectures import BertConfig, XlnetConfig
from bert_jax.config import Config, DataConfig, TokenizerConfig
from bert_jax.data import tasks, tokenizers
from bert_jax.data.frames import frame_of
from bert_jax.data.sources import Document
from bert_jax.inference.model import Model
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from bert_jax.objectives import objective_of
from bert_jax.results import Draws, FewLabels, TaskResult
from bert_jax.training.layout import make_layout
from bert_jax.training.step import init_params
from bert_jax.transfer import baselines, features, few_labels, finetuning, linear
from tests.data.test_tasks import Labelled
from tests.models import networks as small

pytest.importorskip("sklearn", reason="needs the extra demo")

DATA = DataConfig(eval_fraction=0.4, tokenizer=TokenizerConfig(vocab_size=97), max_seq_len=12, format="full_sentences")
SHAPE = BertConfig(
  vocab_size=97,
  num_layers=2,
  hidden_size=24,
  num_heads=3,
  intermediate_size=40,
  max_positions=16,
  initializer_range=0.5,
)
CONFIG = settings.assign(
  Config(SHAPE, DATA),
  {
    "objective.sentence": "none",
    "transfer.tasks": "weather, seasons",
    "transfer.labels_per_class": 4,
    "transfer.draws": 5,
    "transfer.max_seq_len": 40,
    "transfer.epochs": 1,
    "transfer.pooling": "mean",
    "runtime.scan_layers": True,
  },
)
WORDS = {
  "weather": {"cold": ("snow", "ice"), "mild": ("cloud", "rain"), "warm": ("sun", "heat")},
  "seasons": {"one": ("leaf", "mud"), "two": ("dust", "sand")},
}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
  """Texts of 9 to 40 words, a third of them from their class."""
  draw, found = random.Random(3), []
  for task, classes in WORDS.items():
    for name, words in classes.items():
      for number in range(30):
        some = draw.choices([*words, "the", "a", "is", "not", "it", "was"], k=draw.randint(9, 40))
        found.append(Document(" ".join(some) + ".", f"{name} {number}", f"{task}/{name}"))
  return found


@pytest.fixture(scope="module")
def tokenizer(documents: list[Document]) -> tokenizers.Tokenizer:
  return tokenizers.train((document.text for document in documents), DATA.tokenizer)


@pytest.fixture
def measure(
  documents: list[Document], tokenizer: tokenizers.Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
  """`few_labels.measure` of some weights, with one cache."""
  monkeypatch.setattr(tasks, "open_source", lambda _: Labelled(documents))
  numbers = itertools.count()

  def measured(
    params: Any, seed: int = 5, config: Config = CONFIG, **changes: Any
  ) -> tuple[dict[str, TaskResult], FewLabels]:
    config = settings.assign(config, {f"transfer.{name}": value for name, value in changes.items()})
    start = Model.of_run(config, params, tokenizer, 1)
    folder = tmp_path / str(next(numbers))
    return few_labels.measure(start, config, seed, make_layout("data:1"), "bert, seed 0", folder, tmp_path / "cache")

  return measured


def fresh(seed: int) -> Any:
  return init_params(objective_of(CONFIG), seed)


def kept(tmp_path: Path) -> set[str]:
  return {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()}


# ---- what is measured ----


def test_runs_of_all_seeds_share_draws_and_test_texts_and_what_counts_words(measure: Any, tmp_path: Path) -> None:
  (first, ways), (other, others) = measure(fresh(1), seed=5), measure(fresh(2), seed=6)
  assert list(first) == ["weather", "seasons"]
  for name, result in first.items():
    assert (result.draws, result.labels_per_class, result.classes) == (5, 4, len(WORDS[name]))
    assert set(ways.tasks[name]) == {"pretrained", "random", "tfidf", "tfidf_cut", "majority"}
    for way, draws in ways.tasks[name].items():
      assert (len(draws.by_draw), len(draws.by_text)) == (5, result.test_texts)
      assert sum(draws.by_text) == pytest.approx(sum(draws.by_draw) * result.test_texts)
      mean = result.pretrained if way == "pretrained" else getattr(result.baselines, way)
      assert mean == pytest.approx(np.mean(draws.by_draw))
    assert set(ways.tasks[name]["majority"].by_text) == {0, 5}
    assert result.baselines.tfidf > 0.8, "a word says it"
    for way in ("tfidf", "tfidf_cut", "majority"):
      assert ways.tasks[name][way] == others.tasks[name][way]
    for way in ("pretrained", "random"):
      assert ways.tasks[name][way] != others.tasks[name][way]
    assert other[name].test_texts == result.test_texts
  # Of two tasks: random weights of two seeds, and the others once.
  assert len(list((tmp_path / "cache").iterdir())) == 2 * (2 + 3)


def test_random_weights_are_those_that_the_run_began_with_and_are_read_alike(measure: Any) -> None:
  _, ways = measure(fresh(5), seed=5)
  for found in ways.tasks.values():
    assert found["pretrained"] == found["random"]


def test_runs_of_other_objectives_share_random_weights(measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
  first, _ = measure(fresh(1))
  other = settings.assign(CONFIG, {"objective.sentence": "none" if CONFIG.objective.sentence != "none" else "nsp"})
  params = init_params(objective_of(other), 1)
  frozen, count = few_labels._Task._frozen, []
  monkeypatch.setattr(few_labels._Task, "_frozen", lambda task, given: count.append(1) or frozen(task, given))
  second, _ = measure(params, config=other)
  assert len(count) == len(second), "the pretrained ones alone"
  assert [second[name].baselines.random for name in second] == [first[name].baselines.random for name in first]


def test_weights_that_see_nothing_do_not_pass(measure: Any) -> None:
  mute = jax.tree.map(np.zeros_like, fresh(0))
  result = measure(mute)[0]["weather"]
  assert result.pretrained < result.baselines.random
  assert result.pretrained <= result.baselines.majority


def test_baselines_are_measured_once_and_again_where_their_file_is_damaged(
  measure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  first, ways = measure(fresh(1))
  assert kept(tmp_path) == {"random", "tfidf", "tfidf_cut", "majority"}
  again = few_labels._Task._tfidf
  monkeypatch.setattr(few_labels._Task, "_tfidf", lambda *_: pytest.fail("it is known"))
  assert measure(fresh(1)) == (first, ways)
  with pytest.raises(BaseException, match="it is known"):
    measure(fresh(1), draws=4)
  monkeypatch.setattr(few_labels._Task, "_tfidf", again)
  for path in (tmp_path / "cache").iterdir():
    path.write_text(path.read_text().replace("0.", "1."))
  assert measure(fresh(1)) == (first, ways)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_fine_tuning_stands_beside_it_for_the_first_draws(
  measure: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
  first, ways = measure(fresh(1), finetuned_draws=2, tasks="weather")
  result, found = first["weather"], ways.tasks["weather"]
  assert len(found["finetuned"].by_draw) == len(found["scratch"].by_draw) == result.finetuned_draws == 2
  config = settings.assign(CONFIG, {"transfer.max_seq_len": 16})  # which are the positions
  for way, params in (("finetuned", fresh(1)), ("scratch", fresh(5))):
    start = Model.of_run(config, params, tokenizer, 1)
    for draw, accuracy in enumerate(found[way].by_draw):
      task = tasks.load_task("weather", DATA, config.transfer, tokenizer, draw, frame_of(SHAPE))
      done = finetuning.finetune(start, config, task, 5, make_layout("data:1"), tmp_path / f"{way} {draw}")
      assert done.accuracy == pytest.approx(accuracy)
  assert result.finetuned == pytest.approx(np.mean(found["finetuned"].by_draw))
  assert result.baselines.scratch == pytest.approx(np.mean(found["scratch"].by_draw))
  plain, _ = measure(fresh(1), tasks="weather")
  assert dataclasses.replace(plain["weather"].baselines, scratch=result.baselines.scratch) == result.baselines
  assert (plain["weather"].finetuned, plain["weather"].baselines.scratch) == (None, None)


def test_it_says_what_it_found(measure: Any, caplog: pytest.LogCaptureFixture) -> None:
  caplog.set_level("INFO", logger="absl")
  (result,) = measure(fresh(1), tasks="weather")[0].values()
  assert (
    f"bert, seed 0: weather: 5 draws of 12 labelled texts, {result.test_texts} test texts:"
    f" {100 * result.pretrained:.1f} % right from frozen features (random weights {100 * result.baselines.random:.1f}"
    f" %, TF-IDF {100 * result.baselines.tfidf:.1f} %)"
  ) in caplog.messages


def test_no_tasks_no_work(measure: Any) -> None:
  assert measure({"encoder": {}}, tasks="") == ({}, FewLabels({}))


def test_other_tasks_stay_where_they_were_measured_alike() -> None:
  one, two, three = ({"random": Draws((share,), (1,))} for share in (0.1, 0.2, 0.3))
  before, new = FewLabels({"a": one, "b": one, "c": one}), FewLabels({"b": two, "d": three})
  assert few_labels.merged(before, ["a", "b"], new) == FewLabels({"a": one, "b": two, "d": three})
  assert few_labels.merged(None, [], new) == new


# ---- what it is read by ----


@pytest.mark.parametrize("kind", ["bert", pytest.param("xlnet", marks=pytest.mark.exhaustive)])
def test_whole_texts_are_read_in_windows_and_all_layers_count(
  kind: str, tokenizer: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
  shapes = {"num_layers": 3, "hidden_size": 24, "num_heads": 3, "intermediate_size": 40, "vocab_size": 97}
  config: Any = BertConfig(max_positions=16, **shapes) if kind == "bert" else XlnetConfig(**shapes)
  params = small.init_params(config, 3)
  model = Model(config, "encoder", {"encoder": params["encoder"]}, tokenizer)
  draw = np.random.default_rng(0)
  texts = [draw.integers(5, 97, length).astype(np.int32) for length in (0, 1, 11, 10, 31)]
  found = features.of_layers(model, texts, 12)
  assert found.shape == (5, 4 * 24)
  network, frame = networks.build("encoder", config, scan_layers=True, record=True), frame_of(config)
  run = jax.jit(lambda inputs: network.apply({"params": model.params}, inputs))
  for ids, vector in zip(texts, found, strict=True):
    tokens = []
    for at in range(0, max(len(ids), 1), 10):
      row = frame.text(ids[at : at + 10], tokenizer)
      inputs = Inputs(row[None], frame.segments(row)[None], np.ones((1, len(row)), bool))
      outputs: Any = run(inputs)
      tokens.append(np.asarray(outputs["hidden_states"])[:, 0])
    wanted = np.concatenate(tokens, axis=1).mean(axis=1).ravel()
    np.testing.assert_allclose(vector, wanted, rtol=1e-4, atol=1e-5)
  # A batch's size and the order of texts are of no consequence.
  monkeypatch.setattr(features, "_CPU_TOKENS", 24)
  np.testing.assert_allclose(features.of_layers(model, texts[::-1], 12)[::-1], found, rtol=1e-4, atol=1e-5)


def test_no_direction_of_features_drowns_the_others() -> None:
  draw = np.random.default_rng(0)
  mixed = draw.normal(size=(60, 8)) * [50, 5, 1, 1, 1, 1, 1, 1] @ draw.normal(size=(8, 8))
  scaled = (mixed - mixed.mean(axis=0)) / mixed.std(axis=0)
  found = few_labels.balanced(np.float32(mixed))
  # Along each axis the root of what it was: likenesses of texts, taken twice, are what they were, up to a factor.
  likeness = found @ found.T
  ratio = (likeness @ likeness) / (scaled @ scaled.T)
  np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-3)  # of float32
  assert np.mean(found**2) == pytest.approx(1)
  assert not few_labels.balanced(np.ones((5, 3), np.float32)).any()


@pytest.mark.parametrize("longest", [8, 12, 20, 64, 100])
def test_few_shapes_hold_every_window_once(longest: int) -> None:
  lengths = np.random.default_rng(longest).integers(2, longest + 1, 500)
  batches = list(features._batches(lengths, longest))
  assert sorted(int(i) for _, _, indices in batches for i in indices) == list(range(500))
  for rows, length, indices in batches:
    assert len(indices) <= rows
    assert length // 2 < lengths[indices].max() <= length or length < 16
  assert len({(rows, length) for rows, length, _ in batches}) <= max(1, int(np.log2(longest)) - 2)


def test_draws_are_those_of_a_task_of_that_seed(
  documents: list[Document], tokenizer: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(tasks, "open_source", lambda _: Labelled(documents))
  drawn = tasks.load_draws("weather", DATA, CONFIG.transfer)
  assert len(drawn.draws) == 5
  assert len({tuple(draw) for draw in drawn.draws}) == 5
  for number, draw in enumerate(drawn.draws):
    task = tasks.load_task("weather", DATA, CONFIG.transfer, tokenizer, number)
    for places, part in ((draw, task.train), (drawn.test, task.test)):
      assert tuple(drawn.texts[i] for i in places) == part.texts
      assert drawn.labels[places].tolist() == part.classes.tolist()
    assert drawn.classes == task.classes
    of_draws = features.tfidf_of_draws(list(drawn.texts))(draw, drawn.test)
    plain = features.of_tfidf().of_texts(list(task.train.texts), list(task.test.texts))
    for one, other in zip(of_draws, plain, strict=True):
      np.testing.assert_allclose(one.toarray(), other.toarray(), rtol=1e-12)
    right = linear.classify(of_draws[0], task.train.classes, of_draws[1], 1.0) == task.test.classes
    assert np.mean(right) == baselines.tfidf_accuracy(task)


@pytest.mark.parametrize(("units", "width"), [(20, 70), (70, 9)])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_model_in_the_space_that_units_span_is_the_same(units: int, width: int, sparse: bool) -> None:
  import scipy.sparse
  from sklearn.linear_model import LogisticRegression

  draw = np.random.default_rng(units)
  train, test = draw.normal(size=(units, width)), draw.normal(size=(300, width))
  targets = np.arange(units) % 3 + 4
  wanted = LogisticRegression(C=0.03, max_iter=1000, tol=1e-8).fit(train, targets).predict(test)
  some = (scipy.sparse.csr_matrix(x) if sparse else x for x in (train, test))
  x, y = some
  assert np.mean(linear.classify(x, targets, y, 0.03) == wanted) > 0.98  # all but ties of two classes
