"""Fine-tuning: what it starts from, what it learns, what it is compared with."""

import dataclasses
import itertools
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bert_jax
from bert_jax import settings
from bert_jax.architectures import BertConfig
from bert_jax.config import Config
from bert_jax.data import tokenizers
from bert_jax.data.examples import Task, TaskExamples
from bert_jax.inference.model import Model
from bert_jax.models.bert import BertEncoder
from bert_jax.models.dropout import Noise
from bert_jax.models.inputs import Inputs
from bert_jax.models.networks import ForSequenceClassification
from bert_jax.objective_configs import ClassificationConfig
from bert_jax.objectives import objective_of
from bert_jax.objectives.classification import Classification
from bert_jax.preemption import Preempted
from bert_jax.training.layout import Layout, make_layout
from bert_jax.training.step import eval_step_of, started, train_step_of
from bert_jax.transfer import baselines, finetuning
from tests.models.networks import init_params

SHAPE = BertConfig(
  vocab_size=61,
  num_layers=2,
  hidden_size=48,
  num_heads=3,
  intermediate_size=80,
  max_positions=40,
  initializer_range=0.1,
)
CLASSES = ("cold", "mild", "warm")


@pytest.fixture(scope="module")
def config(config: Config) -> Config:
  return settings.assign(dataclasses.replace(config, model=SHAPE), {"transfer.epochs": 12, "transfer.peak_lr": 2e-3})


@pytest.fixture(scope="module")
def params(config: Config) -> Any:
  return init_params(config.model, 7)


def texts_of(number: int, seed: int) -> TaskExamples:
  """Tokens at random; the class is which of three tokens is among them, once."""
  rng = np.random.default_rng(seed)
  labels = (np.arange(number) % len(CLASSES)).astype(np.int32)
  token_ids = rng.integers(10, SHAPE.vocab_size, (number, 16)).astype(np.int32)
  token_ids[:, 0] = 2
  token_ids[np.arange(number), rng.integers(1, 9, number)] = 5 + labels
  attention_mask = np.arange(16) < rng.integers(10, 17, number)[:, None]
  words = np.array(["p", "u", "c", "s", "m", "x", "y", "z"] + [f"w{i}" for i in range(SHAPE.vocab_size)])
  texts = tuple(" ".join(f"word{words[token]}" for token in row) for row in token_ids)
  return TaskExamples(token_ids, np.zeros_like(token_ids), attention_mask, {"labels": labels}, texts=texts)


def task_of(pooling: Any) -> Task:
  return Task("toy", ClassificationConfig(len(CLASSES), pooling), CLASSES, texts_of(48, 0), texts_of(150, 1))


@pytest.fixture(scope="module")
def task() -> Task:
  return task_of("cls")


def layout(count: int = 1) -> Layout:
  return make_layout(f"data:{count}")


@pytest.fixture
def finetune(tokenizer: tokenizers.Tokenizer, tmp_path: Path):
  """`finetuning.finetune` in a new folder each time."""
  numbers = itertools.count()

  def run(params: Any, config: Config, task: Task, seed: int = 0, devices: int = 1, folder: Path | None = None) -> Any:
    where, start = folder or tmp_path / str(next(numbers)), Model(config.model, "pretraining", params, tokenizer)
    return finetuning.finetune(start, config, task, seed, layout(devices), where)

  return run


def leaves(tree: Any) -> list[np.ndarray]:
  return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def equal(one: Any, other: Any) -> bool:
  return all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


# ---- the network ----


def classification(pooling: Any = "cls", classes: int = 5) -> Classification:
  config = Config(SHAPE, objective=ClassificationConfig(num_classes=classes, pooling=pooling))
  objective = objective_of(config)
  assert isinstance(objective, Classification)
  return objective


@pytest.mark.parametrize("sentence", ["nsp", "none"])
def test_pretraining_parameters_drop_in(sentence: str) -> None:
  params = init_params(SHAPE, 3, sentence)
  fresh = jax.eval_shape(classification().init, jax.random.key(0))
  assert set(fresh) == {"encoder", "pooler", "classifier"}
  given = classification().given(params)
  assert set(given) == ({"encoder", "pooler"} if sentence == "nsp" else {"encoder"})
  for name, part in given.items():
    assert jax.tree.map(jnp.shape, part) == jax.tree.map(jnp.shape, fresh[name])
  assert fresh["classifier"]["kernel"].shape == (48, 5)


def test_what_was_pretrained_is_used_and_what_is_fresh_is_said(config: Config, params: Any, task: Task, finetune: Any):
  still = settings.assign(config, {"transfer.peak_lr": 1e-12, "transfer.epochs": 1})
  done = finetune(params, still, task)
  for name in ("encoder", "pooler"):
    for start, end in zip(leaves(params[name]), leaves(done.model.params[name]), strict=True):
      np.testing.assert_allclose(start, end, atol=1e-10)
  assert done.start == "encoder and pooler as trained before, with a new classifier"
  # Untrained on the task, its answers still depend on what it was given.
  for name in ("encoder", "pooler"):
    other = {**params, name: jax.tree.map(lambda x: -2 * x, params[name])}
    assert not np.allclose(
      logits(done.model.params, task), logits(finetune(other, still, task).model.params, task), rtol=1e-3
    )


def test_a_start_takes_the_place_of_what_it_has_and_of_nothing_else() -> None:
  fresh = {"encoder": {"a": np.zeros(3)}, "pooler": {"b": np.zeros(3)}, "classifier": {"c": np.zeros(3)}}
  found = started(fresh, {"encoder": {"a": np.ones(3)}, "mlm_head": {"d": np.ones(4)}})
  assert {name: float(next(iter(part.values())).sum()) for name, part in found.items()} == {
    "encoder": 3, "pooler": 0, "classifier": 0
  }  # fmt: skip
  with pytest.raises(ValueError, match=r"encoder/a has the shape \[4\] there, and the run's settings ask for \[3\]"):
    started(fresh, {"encoder": {"a": np.ones(4)}})


def test_mean_pooling_is_the_mean_over_the_text_and_has_no_pooler(params: Any, task: Task) -> None:
  test = task.test
  inputs = Inputs(test.token_ids[:9], test.segment_ids[:9], test.attention_mask[:9])
  network = ForSequenceClassification(SHAPE, num_classes=5, pooling="mean")
  fresh: Any = network.init(jax.random.key(0), inputs)["params"]
  assert set(classification("mean").given(params)) == {"encoder"}
  start = started(fresh, classification("mean").given(params))
  encoded: Any = BertEncoder(SHAPE).apply({"params": start["encoder"]}, inputs)
  seen = np.asarray(inputs.attention_mask)
  means = np.stack([row[: mask.sum()].mean(axis=0) for row, mask in zip(encoded.hidden, seen, strict=True)])
  expected = means @ fresh["classifier"]["kernel"] + fresh["classifier"]["bias"][None]
  np.testing.assert_allclose(network.apply({"params": start}, inputs)["logits"], expected, rtol=1e-4, atol=1e-5)


def logits(params: Any, task: Task, noise: Noise | None = None) -> np.ndarray:
  network = ForSequenceClassification(SHAPE, num_classes=len(CLASSES))
  test = task.test
  inputs = Inputs(test.token_ids[:9], test.segment_ids[:9], test.attention_mask[:9])
  outputs: Any = network.apply({"params": params}, inputs, noise)
  return np.asarray(outputs["logits"])


def test_dropout_acts_before_the_classifier(config: Config, params: Any, task: Task, finetune: Any) -> None:
  """With the dropout of the encoder off, what is left to differ is the head's."""
  given = finetune(params, settings.assign(config, {"transfer.epochs": 1}), task).model.params
  noise = Noise(jnp.uint32(4), jnp.arange(9, dtype=jnp.uint32))
  kernel = given["classifier"]["kernel"]
  silent = {**given, "classifier": {"kernel": jnp.ones_like(kernel), "bias": given["classifier"]["bias"] * 0}}
  silent["pooler"] = {"dense": {"kernel": given["pooler"]["dense"]["kernel"] * 0, "bias": jnp.full(48, 9.0)}}
  # The pooler now says 1 everywhere, so the logits count what dropout keeps: 48 · 0.9 of 48, over 0.9.
  np.testing.assert_allclose(logits(silent, task), 48.0, rtol=1e-5)
  kept = logits(silent, task, noise)[:, 0] * 0.9
  assert np.allclose(kept, np.round(kept), atol=1e-3)
  assert len(set(np.round(kept))) > 2
  assert 36 < kept.mean() < 48


# ---- training ----


def test_it_learns_what_can_be_learned_and_nothing_else(config: Config, params: Any, task: Task, finetune: Any) -> None:
  assert finetune(params, config, task).accuracy > 0.95
  labels = {"labels": np.random.default_rng(0).permutation(task.train.classes)}
  shuffled = dataclasses.replace(task, train=dataclasses.replace(task.train, labels=labels))
  assert finetune(params, config, shuffled).accuracy < 0.6


def test_a_run_is_a_function_of_its_seed_and_leaves_what_it_was_given(
  config: Config, params: Any, task: Task, finetune: Any
) -> None:
  before = jax.tree.map(np.array, params)
  short = settings.assign(config, {"transfer.epochs": 2})
  one, same, other = (finetune(params, short, task, seed) for seed in (0, 0, 1))
  assert equal(one.model.params, same.model.params)
  assert one.accuracy == same.accuracy
  assert not equal(one.model.params, other.model.params)
  assert equal(before, params)


def test_devices_do_not_change_the_result(config: Config, params: Any, task: Task, finetune: Any) -> None:
  """Sums over the batch are rounded in another order, and Adam divides small differences by small roots."""
  short = settings.assign(config, {"transfer.epochs": 2})
  one, four = (finetune(params, short, task, 0, count) for count in (1, 4))
  for a, b in zip(leaves(one.model.params), leaves(four.model.params), strict=True):
    np.testing.assert_allclose(a, b, atol=0.02 * config.transfer.peak_lr * 12)
  assert abs(one.accuracy - four.accuracy) < 0.03


def test_seeds_and_rates_share_the_compiled_step(config: Config, params: Any, task: Task, finetune: Any) -> None:
  steps, sizes = set(), []
  for seed, rate in ((0, 1e-3), (1, 1e-3), (0, 1e-4)):
    short = settings.assign(config, {"transfer.epochs": 1, "transfer.peak_lr": rate, "transfer.labels_per_class": 9})
    finetune(params, short, task, seed)
    run = finetuning.run_config(short, task, seed)
    programs = train_step_of(run, layout()), eval_step_of(run, layout())
    steps.add(tuple(map(id, programs)))
    sizes.append([program._cache_size() for program in programs])
  assert len(steps) == 1
  assert sizes[0] == sizes[2], "nothing is compiled again"


def test_it_goes_on_where_it_was_interrupted(
  config: Config, params: Any, task: Task, finetune: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """A signal, then the same call: bit by bit what an undisturbed one gives; and once more, nothing is trained."""
  whole = finetune(params, config, task)
  batches = finetuning.TaskBatches.__call__

  def stopped(self: Any, step: int, *rest: int) -> Any:
    if step == 30:
      signal.raise_signal(signal.SIGTERM)
    return batches(self, step, *rest)

  with monkeypatch.context() as patch:
    patch.setattr(finetuning.TaskBatches, "__call__", stopped)
    with pytest.raises(Preempted, match=r"saved at step \d+ of 72"):
      finetune(params, config, task, folder=tmp_path / "once")
  again = finetune(params, config, task, folder=tmp_path / "once")
  assert equal(again.model.params, whole.model.params)
  assert again.accuracy == whole.accuracy
  monkeypatch.setattr(finetuning.TaskBatches, "__call__", lambda *_: pytest.fail("it is finished"))
  assert equal(finetune(params, config, task, folder=tmp_path / "once").model.params, whole.model.params)


def test_the_first_update_is_as_large_as_the_rate(config: Config, params: Any, task: Task, finetune: Any) -> None:
  """Adam with bias correction moves by rate · sign(gradient) at first; without it by 3.16 times as much.

  One step without warm-up has the peak rate.
  """
  one = settings.assign(
    config, {"transfer.batch_size": 48, "transfer.epochs": 1, "transfer.warmup_fraction": 0.0, "transfer.peak_lr": 0.01}
  )
  done = finetune(params, one, task).model.params
  moved = np.concatenate(
    [
      np.abs(np.asarray(end) - np.asarray(start)).ravel()
      for start, end in zip(leaves(params["pooler"]), leaves(done["pooler"]), strict=True)
    ]
  )
  assert np.median(moved) == pytest.approx(0.01, rel=0.01)  # decay adds at most 1 % of a weight times the rate


def test_only_the_top_layers_move_and_lower_ones_move_less(
  config: Config, params: Any, task: Task, finetune: Any
) -> None:
  one = {"transfer.batch_size": 48, "transfer.epochs": 1, "transfer.warmup_fraction": 0.0, "transfer.peak_lr": 0.01}

  def moved(**more: Any) -> dict[str, np.ndarray]:
    """How far the middle parameter of each part moves in a step at the peak rate."""
    given = settings.assign(config, one | {f"transfer.{name}": value for name, value in more.items()})
    done = finetune(params, given, task).model.params
    encoder, before = done["encoder"], params["encoder"]
    kernels = np.abs(encoder["layers"]["output"]["kernel"] - before["layers"]["output"]["kernel"])
    words = np.abs(encoder["embeddings"]["segments"] - before["embeddings"]["segments"])[0]
    return {"layers": np.median(kernels.reshape(len(kernels), -1), axis=1), "below": np.median(words)}

  top = moved(top_layers=1)
  assert (top["layers"][0], top["below"]) == (0, 0)
  assert top["layers"][1] == pytest.approx(0.01, rel=0.02)
  decayed = moved(layer_decay=0.5)
  np.testing.assert_allclose(decayed["layers"], [0.0025, 0.005], rtol=0.02)
  assert decayed["below"] == pytest.approx(0.00125, rel=0.02)


@pytest.mark.parametrize(("number", "batch_size", "epochs"), [(24, 8, 3), (25, 8, 3), (7, 16, 5), (1, 4, 2)])
def test_every_text_comes_once_an_epoch(number: int, batch_size: int, epochs: int) -> None:
  batches, other = (finetuning.TaskBatches(texts_of(number, 2), batch_size, seed) for seed in (0, 1))
  flat = batches.order(0, -(-number * epochs // batch_size) * batch_size)
  for epoch in range(epochs):
    assert sorted(flat[epoch * number : (epoch + 1) * number]) == list(range(number))
  assert max(Counter(flat.tolist()).values()) <= -(-flat.size // number)
  if number > 1:
    assert not np.array_equal(flat[:number], flat[number : 2 * number])
    assert not np.array_equal(flat, other.order(0, len(flat)))
  # A batch is a function of its step, and processes share it out.
  for step in (2, 0, 1):
    whole = batches(step)
    np.testing.assert_array_equal(
      whole["labels"], texts_of(number, 2).classes[batches.order(step * batch_size, (step + 1) * batch_size)]
    )
    halves = [batches(step, part, 2) for part in range(2)]
    for name, array in whole.items():
      np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), array)


def test_what_cannot_be_is_said(config: Config, params: Any, task: Task, finetune: Any) -> None:
  with pytest.raises(ValueError, match=r"transfer.batch_size=10 must be divisible by the 4 devices .* try 8 or 12"):
    finetune(params, settings.assign(config, {"transfer.batch_size": 10}), task, 0, 4)
  broken = jax.tree.map(lambda x: x * jnp.nan, params)
  with pytest.raises(ValueError, match=r"fine-tuning on toy ended without a finite .*; lower transfer.peak_lr=0.002"):
    finetune(broken, settings.assign(config, {"transfer.epochs": 1}), task)


@pytest.mark.parametrize("pooling", ["cls", pytest.param("mean", marks=pytest.mark.exhaustive)])
def test_what_comes_of_it_answers_by_names_and_can_be_handed_on(
  pooling: str, config: Config, tokenizer: tokenizers.Tokenizer, finetune: Any, tmp_path: Path
) -> None:
  changes = {"transfer.epochs": 1, "transfer.pooling": pooling, "model.vocab_size": tokenizer.vocab_size}
  short = settings.assign(config, changes)
  model: Model = finetune(init_params(short.model, 7), short, task_of(pooling), folder=tmp_path / "run").model
  assert (model.network, model.class_names) == ("sequence_classification", CLASSES)
  text = ("one text", "another")
  wanted = model.logits([text, "a third one"])
  assert wanted.shape == (2, len(CLASSES))
  model.save(tmp_path / "saved")
  saved = bert_jax.load(tmp_path / "saved")
  assert (saved.class_names, saved.finetuned) == (CLASSES, model.finetuned)
  opened = [saved, bert_jax.load(tmp_path / "run")]
  if pooling == "cls":
    model.export(tmp_path / "exported")
    opened.append(bert_jax.load(tmp_path / "exported"))
    assert opened[-1].class_names == CLASSES
    assert (
      "Then fine-tuned on toy: 48 examples of 3 classes, 1 epoch of" in (tmp_path / "exported/README.md").read_text()
    )
  else:
    with pytest.raises(ValueError, match=r"reads the mean of a text, .* fine-tune with --pooling=cls"):
      model.export(tmp_path / "exported")
  for other in opened:
    np.testing.assert_allclose(other.logits([text, "a third one"]), wanted, rtol=1e-4, atol=1e-5)


# ---- baselines ----


def test_tfidf_reads_and_the_majority_does_not(task: Task) -> None:
  pytest.importorskip("sklearn", reason="needs the extra demo")
  assert baselines.tfidf_accuracy(task) > 0.8
  labels = np.array([0, 1, 1, 2, 1, 1], np.int32)
  test = dataclasses.replace(
    task.test, **{name: getattr(task.test, name)[:6] for name in ("token_ids", "attention_mask")}
  )
  test = dataclasses.replace(test, labels={"labels": labels})
  assert baselines.majority_accuracy(dataclasses.replace(task, test=test)) == pytest.approx(4 / 6)


def test_a_missing_library_is_named(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setitem(__import__("sys").modules, "sklearn.feature_extraction.text", None)
  with pytest.raises(ValueError, match=r'needs scikit-learn: pip install "bert_jax\[demo\]"'):
    baselines.tfidf_accuracy(task)
