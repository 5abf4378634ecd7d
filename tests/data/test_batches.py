"""Batches: functions of the step, laid out as the contract says, each example once an epoch."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from bert_jax.config import Config, DataConfig, MaskingConfig, TrainConfig, num_prediction_slots
from bert_jax.data import batches
from bert_jax.data.batches import EvalBatches, PhasedBatches, TrainBatches
from tests.data.conftest import CLS, MASK, PAD, SEP, MemoryCorpus

FORMATS = ("segment_pair", "sentence_pair", "full_sentences", "doc_sentences")


def settings(format="segment_pair", **masking) -> DataConfig:
  return DataConfig(format=format, max_seq_len=40, segmentations=3, eval_fraction=0.2, masking=MaskingConfig(**masking))


def assert_equal(one: batches.Batch, other: batches.Batch) -> None:
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def unmasked(batch: batches.Batch) -> np.ndarray:
  restored = batch["token_ids"].copy()
  rows, slots = np.nonzero(batch["mlm_weights"])
  restored[rows, batch["mlm_positions"][rows, slots]] = batch["mlm_labels"][rows, slots]
  return restored


def row_texts(batch: batches.Batch) -> list[tuple[int, ...]]:
  """Unmasked tokens of each real row."""
  return [tuple(row[real]) for row, real in zip(unmasked(batch), batch["attention_mask"], strict=True) if real.any()]


# ---- layout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("unit", ["token", "whole_word"])
def test_rows_are_their_examples(make_corpus, format: str, unit):
  corpus = make_corpus()
  data = settings(format, unit=unit)
  make = TrainBatches(corpus, data, 4, 13)
  batch = make(2)
  shapes = {name: (array.shape, str(array.dtype)) for name, array in batch.items()}
  assert num_prediction_slots(data) == 6
  assert shapes == {
    "token_ids": ((13, 40), "int32"),
    "segment_ids": ((13, 40), "int32"),
    "attention_mask": ((13, 40), "bool"),
    "mlm_positions": ((13, 6), "int32"),
    "mlm_labels": ((13, 6), "int32"),
    "mlm_weights": ((13, 6), "float32"),
    "pair_labels": ((13,), "int32"),
  }
  examples = make.examples(0)
  expected = {}
  for n in range(len(examples)):
    tokens, segments = [CLS], [0]
    for p in range(examples.piece_offsets[n], examples.piece_offsets[n + 1]):
      start, length = examples.piece_starts[p], examples.piece_lengths[p]
      tokens += [*corpus.token_ids[start : start + length].tolist(), SEP]
      segments += [int(examples.piece_segments[p])] * (length + 1)
    expected[tuple(tokens)] = tuple(segments), int(examples.pair_labels[n])
  original = unmasked(batch)
  for row in range(13):
    real = batch["attention_mask"][row]
    assert (np.diff(real.astype(int)) <= 0).all()
    segments, label = expected[tuple(original[row][real].tolist())]
    assert tuple(batch["segment_ids"][row][real].tolist()) == segments
    assert batch["pair_labels"][row] == label
    assert (original[row][~real] == PAD).all()
    assert not batch["segment_ids"][row][~real].any()


@pytest.mark.parametrize("unit", ["token", "whole_word"])
def test_marks_in_the_text_are_never_predicted(make_corpus, unit):
  corpus = make_corpus()
  corpus.token_ids[::5] = np.resize([CLS, SEP, PAD, MASK], len(corpus.token_ids[::5]))
  batch = TrainBatches(corpus, settings(unit=unit, rate=1.0), 0, 29)(0)
  assert batch["mlm_weights"].sum() > 100
  assert not np.isin(batch["mlm_labels"][batch["mlm_weights"] > 0], [CLS, SEP, PAD, MASK]).any()


@pytest.mark.parametrize("format", FORMATS)
def test_words_are_whole_in_batches(make_corpus, format):
  """Word starts come along with the tokens: ids say here which token of its word each one is."""
  corpus = make_corpus(mean_sentence=15.0)
  number = np.cumsum(corpus.word_starts)
  corpus.token_ids[:] = 20 + number % 150  # all tokens of a word are equal, those of neighbouring words differ
  batch = TrainBatches(corpus, settings(format, unit="whole_word", rate=0.3), 0, 64)(1)
  tokens = unmasked(batch)
  chosen = np.zeros(tokens.shape, bool)
  rows, slots = np.nonzero(batch["mlm_weights"])
  chosen[rows, batch["mlm_positions"][rows, slots]] = True
  same_word = tokens[:, 1:] == tokens[:, :-1]
  same_word &= (tokens[:, 1:] != PAD) & (tokens[:, 1:] != SEP)
  assert (chosen[:, 1:] == chosen[:, :-1])[same_word].all()
  assert chosen[:, 1:][same_word].any()


# ---- batches are functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_batch_is_a_function_of_the_step(make_corpus, format: str):
  corpus = make_corpus()
  data = settings(format, policy="dynamic", rounding="stochastic")
  steps = [0, 1, 2, 3, 50, 10**6, 2, 0]
  used = TrainBatches(corpus, data, 1, 12)
  for step in steps:
    fresh = TrainBatches(corpus, data, 1, 12)(step)
    assert_equal(used(step), fresh)
  assert not np.array_equal(used(0)["token_ids"], used(1)["token_ids"])
  assert not np.array_equal(used(0)["token_ids"], TrainBatches(corpus, data, 2, 12)(0)["token_ids"])


@pytest.mark.parametrize("num_documents", [11, 61])
def test_processes_concatenate_to_the_batch(make_corpus, num_documents: int):
  corpus = make_corpus(num_documents, max_sentences=7)
  make = TrainBatches(corpus, settings(policy="dynamic"), 0, 24)
  smallest = min(make.num_examples(epoch) for epoch in range(3))
  assert (num_documents == 61) == (smallest > 24)  # with few documents, batches straddle several epochs
  for step in (0, 1, smallest // 24, 7777):
    for processes in (1, 2, 4):
      parts = [make(step, index, processes) for index in range(processes)]
      assert all(len(part["token_ids"]) == 24 // processes for part in parts)
      assert_equal(make(step), {name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def test_a_batch_that_processes_do_not_divide_is_refused(make_corpus):
  with pytest.raises(ValueError, match=r"train\.batch_size=24 must be divisible by the 5 processes; try 20"):
    TrainBatches(make_corpus(), settings(), 0, 24)(0, 1, 5)


class ReadCounter:
  """A corpus that counts the tokens read of it."""

  def __init__(self, corpus: MemoryCorpus):
    self._corpus, self.calls, self.tokens = corpus, 0, 0

  def __getattr__(self, name: str):
    return getattr(self._corpus, name)

  def gather(self, starts: np.ndarray, lengths: np.ndarray):
    self.calls += 1
    self.tokens += int(lengths.sum())
    return self._corpus.gather(starts, lengths)


def test_a_far_step_reads_one_batch(make_corpus):
  corpus = ReadCounter(make_corpus())
  batch = TrainBatches(corpus, settings(), 0, 16)(10**6)  # pyright: ignore[reportArgumentType]
  assert corpus.calls == 1
  assert corpus.tokens <= batch["attention_mask"].sum()


@pytest.mark.parametrize("batch_size", [7, 100, 1000])
def test_every_epoch_visits_each_of_its_examples_once(make_corpus, batch_size: int):
  corpus = make_corpus(80)
  data = settings("full_sentences")  # all examples differ
  make = TrainBatches(corpus, data, 9, batch_size)
  counts = [make.num_examples(epoch) for epoch in range(7)]
  assert len(set(counts[:3])) > 1
  visits = []
  for step in range(-(-sum(counts) // batch_size)):
    assert make.epoch_of(step) == np.searchsorted(np.cumsum(counts), step * batch_size, side="right")
    visits += row_texts(make(step))
  orders = []
  for epoch, count in enumerate(counts):
    seen, visits = visits[:count], visits[count:]
    assert len(set(seen)) == count
    orders.append(seen)
    tokens = sorted(token for row in seen for token in row if token not in (CLS, SEP))
    documents = corpus.documents("train", 0.2, 1.0)
    assert tokens == sorted(corpus.token_ids[np.isin(corpus.token_document, documents)].tolist())
    if epoch >= 3:  # the same cutting again, in another order
      assert set(seen) == set(orders[epoch - 3])
      assert seen != orders[epoch - 3]
  assert set(orders[0]) != set(orders[1])


@pytest.mark.parametrize(("policy", "duplicates"), [("static", 2), ("static", 6), ("dynamic", 2)])
def test_static_masks_repeat_and_dynamic_ones_do_not(make_corpus, policy, duplicates: int):
  corpus = make_corpus(30)
  make = TrainBatches(corpus, settings("full_sentences", policy=policy, duplicates=duplicates), 0, 10)
  period = math.lcm(duplicates, 3)
  epochs: list[dict] = []
  first = [sum(make.num_examples(e) for e in range(epoch)) for epoch in range(2 * period + 1)]
  rows = [
    row
    for step in range(-(-first[-1] // 10))
    for batch in [make(step)]
    for row in zip(row_texts(batch), map(tuple, batch["token_ids"].tolist()), strict=True)
  ]
  for begin, end in itertools.pairwise(first):
    epochs.append(dict(rows[begin:end]))
  for epoch in range(1, 2 * period):
    for before in range(epoch):
      if (epoch - before) % 3:
        continue  # another cutting
      same = np.mean([epochs[before][text] == masked for text, masked in epochs[epoch].items()])
      if policy == "static" and (epoch - before) % period == 0:
        assert same == 1
      else:
        assert same < 0.2


def test_order_is_drawn_from_the_seed_and_masks_from_the_segmentation(make_corpus, monkeypatch):
  """Shown with examples that depend on neither."""
  corpus, build = make_corpus(), batches.formats.build
  monkeypatch.setattr(
    batches.formats, "build", lambda corpus, documents, data, *_: build(corpus, documents, data, 0, 0)
  )
  one, other = (TrainBatches(corpus, settings("full_sentences", duplicates=1), seed, 10) for seed in (0, 1))
  steps = range(one.num_examples(0) // 10)
  texts = [[text for step in steps for text in row_texts(make(step))] for make in (one, other)]
  assert np.mean([a == b for a, b in zip(*texts, strict=True)]) < 0.2
  epochs: list[dict] = [{}, {}]
  for step in range(2 * len(steps)):
    batch = one(step)
    epochs[one.epoch_of(step)].update(zip(row_texts(batch), map(tuple, batch["token_ids"].tolist()), strict=True))
  both = epochs[0].keys() & epochs[1].keys()
  assert len(both) > 20
  assert np.mean([epochs[0][text] == epochs[1][text] for text in both]) < 0.2


def test_arms_share_order_and_first_masks(make_corpus):
  """Static and dynamic masking differ in nothing until a static mask comes round."""
  corpus = make_corpus()
  static = TrainBatches(corpus, settings(policy="static", duplicates=3), 0, 16)
  dynamic = TrainBatches(corpus, settings(policy="dynamic", duplicates=3), 0, 16)
  steps = sum(static.num_examples(epoch) for epoch in range(3)) // 16
  for step in (0, steps - 1):
    assert_equal(static(step), dynamic(step))
  later = static(steps + 1), dynamic(steps + 1)
  np.testing.assert_array_equal(unmasked(later[0]), unmasked(later[1]))
  assert (later[0]["token_ids"] != later[1]["token_ids"]).any()


def test_measured_rate_over_a_million_tokens(make_corpus):
  corpus = make_corpus(500, mean_sentence=20.0)
  data = dataclasses.replace(settings("full_sentences", policy="dynamic", rounding="stochastic"), max_seq_len=128)
  make = TrainBatches(corpus, data, 0, 256)
  tokens = predicted = variance = 0
  step = 0
  while tokens < 1_000_000:
    batch = make(step)
    lengths = batch["attention_mask"].sum(axis=1)
    fraction = 0.15 * lengths % 1
    tokens += lengths.sum()
    predicted += batch["mlm_weights"].sum()
    variance += (fraction * (1 - fraction)).sum()
    step += 1
  assert abs(predicted - 0.15 * tokens) < 4 * np.sqrt(variance)
  assert variance < 0.15 * 0.85 * tokens  # far inside the binomial limits


def test_smaller_fractions_train_on_fewer_documents(make_corpus):
  corpus = make_corpus()
  whole, half = (
    TrainBatches(corpus, dataclasses.replace(settings("doc_sentences"), train_fraction=f), 0, 8) for f in (1.0, 0.5)
  )
  assert 0 < half.num_examples(0) < whole.num_examples(0)


def test_cached_examples_give_equal_batches_and_are_built_once(make_corpus, tmp_path, monkeypatch):
  corpus = make_corpus()
  plain = TrainBatches(corpus, settings(), 0, 16)
  first = TrainBatches(corpus, settings(), 0, 16, tmp_path / "cache")
  for step in (0, 99):
    assert_equal(plain(step), first(step))
  assert len(list((tmp_path / "cache").iterdir())) == 3
  monkeypatch.setattr(batches.formats, "build", lambda *args: pytest.fail("built again"))
  again = TrainBatches(corpus, settings(policy="dynamic"), 0, 16, tmp_path / "cache")  # masks are not in the cache
  np.testing.assert_array_equal(unmasked(again(99)), unmasked(plain(99)))


@pytest.mark.parametrize(
  "change",
  [
    {"seed": 1},
    {"format": "doc_sentences"},
    {"max_seq_len": 41},
    {"short_seq_prob": 0.2},
    {"random_next_prob": 0.4},
    {"eval_fraction": 0.3},
    {"train_fraction": 0.7},
    {"hash": "of another tokenizer"},
  ],
  ids=lambda change: next(iter(change)),
)
def test_other_settings_do_not_take_the_cache(make_corpus, tmp_path, change: dict):
  TrainBatches(make_corpus(), settings(), 0, 16, tmp_path)(0)
  seed = change.pop("seed", 0)
  corpus = dataclasses.replace(make_corpus(), hash=change.pop("hash", make_corpus().hash))
  data = dataclasses.replace(settings(), **change)
  assert_equal(TrainBatches(corpus, data, seed, 16, tmp_path)(0), TrainBatches(corpus, data, seed, 16)(0))
  assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("format", FORMATS[:2])
def test_one_training_or_held_out_document_is_refused(make_corpus, format: str):
  corpus = make_corpus(2)
  corpus.document_hashes[:] = [1, 2**63]
  with pytest.raises(ValueError, match=r"at least 2 training documents and has 1"):
    TrainBatches(corpus, settings(format), 0, 4)
  with pytest.raises(ValueError, match=r"at least 2 held-out documents and has 1"):
    EvalBatches(corpus, settings(format), 4, 100, common=False)
  assert EvalBatches(corpus, settings(format), 4, 100, common=True).num_examples > 0


def test_no_documents_are_refused(make_corpus):
  corpus = make_corpus()
  none_held_out = dataclasses.replace(settings("doc_sentences"), eval_fraction=0.0)
  for common in (True, False):
    with pytest.raises(ValueError, match=r"no held-out documents \(data\.eval_fraction=0\.0"):
      EvalBatches(corpus, none_held_out, 4, 100, common)
  corpus.document_hashes[:] = 5
  with pytest.raises(ValueError, match=r"no training documents"):
    TrainBatches(corpus, settings("doc_sentences"), 0, 4)


# ---- evaluation --------------------------------------------------------------------------------------------


def eval_rows(corpus, data, batch_size: int, max_examples: int, common: bool) -> list[tuple]:
  rows = []
  for batch in EvalBatches(corpus, data, batch_size, max_examples, common):
    assert all(len(array) == batch_size for array in batch.values())
    for row in range(batch_size):
      if batch["attention_mask"][row].any():
        rows.append(tuple(tuple(np.atleast_1d(array[row]).tolist()) for array in batch.values()))
      else:
        assert (batch["token_ids"][row] == PAD).all()
        assert not batch["mlm_weights"][row].any()
        assert batch["pair_labels"][row] == -1
  return rows


@pytest.mark.parametrize("common", [True, False])
def test_each_held_out_example_once_whatever_the_batch_size(make_corpus, common: bool):
  corpus = make_corpus(200)
  sets = [eval_rows(corpus, settings(), batch_size, 103, common) for batch_size in (8, 16, 32)]
  assert len(sets[0]) == 103
  assert sets[0] == sets[1] == sets[2]
  assert [len(EvalBatches(corpus, settings(), size, 103, common)) for size in (8, 16, 32)] == [13, 7, 4]
  everything = eval_rows(corpus, settings(), 8, 10**9, common)
  assert everything[:103] == sets[0]
  evaluation = EvalBatches(corpus, settings(), 8, 10**9, common)
  assert evaluation.num_examples == len(everything) > 103


def test_a_second_look_is_the_same(make_corpus):
  evaluation = EvalBatches(make_corpus(), settings(), 8, 50, common=True)
  for one, other in zip(evaluation, evaluation, strict=True):
    assert_equal(one, other)


def test_all_held_out_text_is_evaluated_and_no_training_text(make_corpus):
  corpus = make_corpus()
  rows = []
  for batch in EvalBatches(corpus, settings(), 8, 10**9, common=True):
    rows += row_texts(batch)
  tokens = sorted(token for row in rows for token in row if token not in (CLS, SEP))
  held_out = np.isin(corpus.token_document, corpus.documents("eval", 0.2, 1.0))
  assert tokens == sorted(corpus.token_ids[held_out].tolist())


def test_common_evaluation_is_the_same_for_every_arm(make_corpus):
  corpus = make_corpus()
  base = eval_rows(corpus, settings(), 8, 60, True)
  arms = [settings(format) for format in FORMATS] + [
    settings(rate=0.4, unit="whole_word", policy="dynamic", mask_prob=1.0, random_prob=0.0, rounding="stochastic"),
    settings(max_predictions=3, duplicates=7),
    dataclasses.replace(settings(), train_fraction=0.3, segmentations=1, short_seq_prob=0.9, random_next_prob=0.1),
  ]
  for arm in arms:
    assert eval_rows(corpus, arm, 8, 60, True) == base


def test_own_evaluation_has_the_arms_format_and_the_frozen_masks(make_corpus):
  corpus = make_corpus(300)
  evaluation = EvalBatches(corpus, settings("segment_pair", rate=0.5), 32, 10**9, common=False)
  labels, counts, lengths = [], [], []
  for batch in evaluation:
    real = batch["attention_mask"].any(axis=1)
    labels += batch["pair_labels"][real].tolist()
    counts += batch["mlm_weights"].sum(axis=1)[real].tolist()
    lengths += batch["attention_mask"].sum(axis=1)[real].tolist()
  assert set(labels) == {0, 1}
  assert np.mean(labels) == pytest.approx(evaluation.random_share)
  np.testing.assert_array_equal(counts, np.maximum(1, np.rint(0.15 * np.array(lengths))))


# ---- phases ----------------------------------------------------------------------------------------------------------


def test_phases_are_functions_of_the_step_and_go_on_in_the_text(make_corpus):
  """A phase of the same length takes up the order of examples where the one before stopped; another has its own."""
  corpus = make_corpus()
  data = settings("doc_sentences", policy="dynamic")
  train = TrainConfig(seed=4, steps=20, batch_size=12, phases="0.25*40x6,0.5*40x12,0.25*24x12")
  phased = PhasedBatches(corpus, Config(data=data, train=train))
  widths = [phased(step)["token_ids"].shape for step in range(20)]
  assert widths == [(6, 40)] * 5 + [(12, 40)] * 10 + [(12, 24)] * 5
  sixes, short = (
    TrainBatches(corpus, data, 4, 6),
    TrainBatches(corpus, dataclasses.replace(data, max_seq_len=24), 4, 12),
  )
  for step in (7, 14):  # 5 batches of 6 rows were before
    halves = [sixes(5 + 2 * (step - 5) + half) for half in range(2)]
    for name, array in phased(step).items():
      np.testing.assert_array_equal(array, np.concatenate([half[name] for half in halves]))
  assert_equal(phased(17), short(2))
  assert_equal(phased(3), sixes(3))
  rows = 5 * 6 + 10 * 12
  assert phased.epochs() == pytest.approx(rows / sixes.num_examples(0) + 60 / short.num_examples(0))
