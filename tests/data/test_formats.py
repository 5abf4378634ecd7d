"""Examples: each format's rules, audited against the corpus they were cut from."""

import dataclasses
import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest

from bert_jax.config import DataConfig
from bert_jax.data import formats, random_bits
from bert_jax.data.formats import IN_ORDER, OUT_OF_ORDER, Examples, build
from tests.data.conftest import CLS, SEP, MemoryCorpus

FORMATS = ("segment_pair", "sentence_pair", "full_sentences", "doc_sentences")
PAIRS, PACKED = FORMATS[:2], FORMATS[2:]


def everything(corpus: MemoryCorpus) -> np.ndarray:
  return np.arange(corpus.num_documents)


def tokens_of(examples: Examples) -> np.ndarray:
  """Corpus place of every token of every example, in order."""
  return np.concatenate(
    [np.arange(s, s + n) for s, n in zip(examples.piece_starts, examples.piece_lengths, strict=True)]
  )


def equal(one: Examples, other: Examples) -> bool:
  return all(
    np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Examples)
  )


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("max_seq_len", [8, 37, 128])
def test_examples_fit_and_pieces_stay_in_their_document(make_corpus, format: str, max_seq_len: int):
  corpus = make_corpus(mean_sentence=30.0)
  examples = build(corpus, everything(corpus), DataConfig(format=format, max_seq_len=max_seq_len), 3, 1)
  assert examples.lengths.max() == max_seq_len
  assert examples.lengths.min() >= 3
  assert examples.piece_lengths.min() >= 1
  document = corpus.token_document
  last = examples.piece_starts + examples.piece_lengths - 1
  np.testing.assert_array_equal(document[examples.piece_starts], document[last])
  for array, kind in zip(dataclasses.astuple(examples), ["int64", "int64", "int32", "uint8", "int8"], strict=True):
    assert array.dtype == kind
  assert (np.diff(examples.piece_offsets) >= 1).all()
  assert examples.piece_offsets[-1] == len(examples.piece_starts)


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_documents_asked_for_are_used(make_corpus, format: str):
  corpus = make_corpus()
  some = everything(corpus)[3::4]
  examples = build(corpus, some, DataConfig(format=format, max_seq_len=32), 0, 0)
  assert set(corpus.token_document[tokens_of(examples)]) == set(some)


@pytest.mark.parametrize("format", FORMATS)
def test_build_is_a_function_of_seed_and_segmentation(make_corpus, format: str):
  corpus = make_corpus()
  data = DataConfig(format=format, max_seq_len=40)
  first = build(corpus, everything(corpus), data, 5, 2)
  assert equal(first, build(corpus, everything(corpus), data, 5, 2))
  assert not equal(first, build(corpus, everything(corpus), data, 6, 2))
  assert not equal(first, build(corpus, everything(corpus), data, 5, 3))


# ---- pairs -----------------------------------------------------------------------------------------------


def pair_columns(examples: Examples) -> tuple[np.ndarray, ...]:
  starts, lengths = examples.piece_starts.reshape(-1, 2), examples.piece_lengths.reshape(-1, 2)
  return starts[:, 0], starts[:, 0] + lengths[:, 0], starts[:, 1], starts[:, 1] + lengths[:, 1]


@pytest.mark.parametrize("format", PAIRS)
@pytest.mark.parametrize("num_documents", [2, 61])
def test_labels_say_the_truth(make_corpus, format: str, num_documents: int):
  corpus = make_corpus(num_documents, max_sentences=300 if num_documents == 2 else 23)
  examples = build(corpus, everything(corpus), DataConfig(format=format, max_seq_len=50), 1, 4)
  a_start, a_end, b_start, b_end = pair_columns(examples)
  document, sentence = corpus.token_document, corpus.token_sentence
  same = document[a_start] == document[b_start]
  assert {IN_ORDER, OUT_OF_ORDER} == set(examples.pair_labels)
  np.testing.assert_array_equal(same, examples.pair_labels == IN_ORDER)
  following = examples.pair_labels == IN_ORDER
  assert (a_end <= b_start)[following].all()
  # Nothing but what truncation took lies between A and B: a pair with a gap is full.
  gap = following & (a_end != b_start)
  assert gap.any()
  assert (examples.lengths[gap] == 50).all()
  if format == "sentence_pair":
    for start, end in ((a_start, a_end), (b_start, b_end)):
      np.testing.assert_array_equal(sentence[start], sentence[end - 1])
    np.testing.assert_array_equal(sentence[a_start][following] + 1, sentence[b_start][following])


@pytest.mark.parametrize("format", PAIRS)
def test_pairs_that_fit_are_whole_sentences(make_corpus, format: str):
  corpus = make_corpus()
  examples = build(corpus, everything(corpus), DataConfig(format=format, max_seq_len=60), 1, 0)
  whole = examples.lengths < 60  # a shorter pair was never truncated
  assert 0.1 < whole.mean() < 1
  for edge in pair_columns(examples):
    assert np.isin(edge[whole], corpus.sentence_offsets).all()


def test_every_sentence_is_an_a_or_follows_one(make_corpus):
  """Unused sentences are put back: with segments never truncated, A and true B cover each document once."""
  corpus = make_corpus(max_sentence=5)
  for format in PAIRS:
    data = DataConfig(format=format, max_seq_len=400, short_seq_prob=1.0)
    examples = build(corpus, everything(corpus), data, 2, 0)
    assert (examples.lengths < 400).mean() > 0.8
    a_start, a_end, b_start, b_end = pair_columns(examples)
    uses = np.zeros(len(corpus.token_ids), int)
    full = examples.lengths == 400
    for s, e in zip(a_start, a_end, strict=True):
      uses[s:e] += 1
    for s, e in zip(b_start[examples.pair_labels == IN_ORDER], b_end[examples.pair_labels == IN_ORDER], strict=True):
      uses[s:e] += 1
    assert uses.max() == 1
    assert (uses == 0).sum() <= 400 * full.sum()
    if not full.any():
      assert (uses == 1).all()


def bert_pairs(corpus: MemoryCorpus, data: DataConfig, rng: random.Random) -> dict[str, list[float]]:
  """BERT's steps as the recipe tells them, one token at a time: what `build` is measured against."""
  documents = []
  for d in range(corpus.num_documents):
    edges = corpus.sentence_offsets[corpus.document_offsets[d] : corpus.document_offsets[d + 1] + 1]
    documents.append([list(range(s, e)) for s, e in itertools.pairwise(edges)])
  room = data.max_seq_len - 3
  rows: dict[str, list[float]] = {"one": [], "random": [], "a": [], "b": [], "front": [], "back": []}
  for d, document in enumerate(documents):
    target = rng.randint(2, room) if rng.random() < data.short_seq_prob else room
    chunk, held, i = [], 0, 0
    while i < len(document):
      chunk.append(document[i])
      held += len(document[i])
      if i == len(document) - 1 or held >= target:
        a_end = 1 if len(chunk) == 1 else rng.randint(1, len(chunk) - 1)
        a = list(itertools.chain(*chunk[:a_end]))
        b = []
        rows["one"].append(len(chunk) == 1)
        is_random = len(chunk) == 1 or rng.random() < data.random_next_prob
        rows["random"].append(is_random)
        if is_random:
          while (other := rng.randrange(len(documents))) == d:
            pass
          for j in range(rng.randrange(len(documents[other])), len(documents[other])):
            b += documents[other][j]
            if len(b) >= target - len(a):
              break
          i -= len(chunk) - a_end
        else:
          b = list(itertools.chain(*chunk[a_end:]))
        first, last = a[0], a[-1]
        while len(a) + len(b) > room:
          longer = a if len(a) > len(b) else b
          longer.pop(0 if rng.random() < 0.5 else -1)
        rows["a"].append(len(a))
        rows["b"].append(len(b))
        rows["front"].append(a[0] - first)
        rows["back"].append(last - a[-1])
        chunk, held = [], 0
      i += 1
  return rows


@pytest.mark.parametrize(("short", "p_random"), [(0.0, 0.5), (0.1, 0.5), (1.0, 0.5), (0.1, 0.0), (0.1, 0.8)])
def test_segment_pairs_match_berts_steps(make_corpus: Callable, short: float, p_random: float):
  corpus = make_corpus(900, mean_sentence=11.0)
  data = DataConfig(format="segment_pair", max_seq_len=33, short_seq_prob=short, random_next_prob=p_random)
  expected = {name: np.array(v, float) for name, v in bert_pairs(corpus, data, random.Random(4)).items()}
  examples = build(corpus, everything(corpus), data, 8, 0)
  # The share of random pairs that follows from counting chunks of one sentence, which are always random.
  one = expected["one"].mean()
  predicted = one + p_random * (1 - one)
  assert 0.05 < one < 0.7
  deviation = np.sqrt(predicted * (1 - predicted) / len(examples)) + np.sqrt(one * (1 - one) / len(expected["one"]))
  assert examples.random_share is not None
  assert abs(examples.random_share - predicted) < 4 * deviation
  assert abs(expected["random"].mean() - predicted) < 4 * deviation  # the prediction holds for the recipe itself
  assert abs(len(examples) / len(expected["one"]) - 1) < 0.03  # chunks of a document are correlated: no binomial
  lengths = examples.piece_lengths.reshape(-1, 2)
  for label in (IN_ORDER, OUT_OF_ORDER):
    for name, column in (("a", 0), ("b", 1)):
      theirs = expected[name][expected["random"] == label]
      ours = lengths[examples.pair_labels == label, column]
      scale = np.sqrt(theirs.var() / len(theirs) + ours.var() / len(ours))
      assert abs(ours.mean() - theirs.mean()) < 4 * scale
      # Whole distributions: Kolmogorov-Smirnov, at a level of about 1e-5.
      grid = np.arange(34)
      distance = np.abs((ours[:, None] <= grid).mean(0) - (theirs[:, None] <= grid).mean(0)).max()
      assert distance < 2.5 * np.sqrt(1 / len(ours) + 1 / len(theirs))
  assert expected["front"].mean() == pytest.approx(expected["back"].mean(), rel=0.1)


def test_truncation_takes_both_ends_alike_and_the_longer_side_first(make_corpus):
  corpus = make_corpus(300, max_sentences=2, mean_sentence=60.0)
  data = DataConfig(format="sentence_pair", max_seq_len=43, random_next_prob=0.5)
  examples = build(corpus, everything(corpus), data, 0, 0)
  a_start, a_end, b_start, b_end = pair_columns(examples)
  front = back = 0
  for start, end in ((a_start, a_end), (b_start, b_end)):
    begins = corpus.sentence_offsets[corpus.token_sentence[start]]
    ends = corpus.sentence_offsets[corpus.token_sentence[start] + 1]
    front += (start - begins).sum()
    back += (ends - end).sum()
  assert front + back > 10_000
  assert abs(front - back) < 4 * np.sqrt(front + back)  # as many fair coins as tokens lost
  full = examples.lengths == 43
  a_length, b_length = a_end - a_start, b_end - b_start
  a_whole = np.diff(corpus.sentence_offsets)[corpus.token_sentence[a_start]]
  b_whole = np.diff(corpus.sentence_offsets)[corpus.token_sentence[b_start]]
  both_cut = full & (a_whole > a_length) & (b_whole > b_length)
  assert both_cut.sum() > 50
  # 40 tokens of room. B loses first where both are equal, so A is never the shorter one.
  assert (a_length[both_cut] == b_length[both_cut]).all()
  one_cut = full & ((a_whole > a_length) ^ (b_whole > b_length))
  cut_a = one_cut & (a_whole > a_length)
  assert (a_length[cut_a] >= b_length[cut_a]).all()


@pytest.mark.parametrize("format", PAIRS)
def test_truncation_at_the_end_leaves_beginnings_of_sentences_and_the_same_lengths(make_corpus, format: str):
  corpus = make_corpus(300, mean_sentence=20.0)
  data = DataConfig(format=format, max_seq_len=33)
  examples = build(corpus, everything(corpus), dataclasses.replace(data, pair_truncation="end"), 0, 0)
  whole = build(corpus, everything(corpus), data, 0, 0)
  begins = np.isin(examples.piece_starts, corpus.sentence_offsets)
  assert begins.all()
  assert not np.isin(whole.piece_starts, corpus.sentence_offsets).all()
  assert np.array_equal(examples.piece_lengths, whole.piece_lengths)
  assert np.array_equal(examples.pair_labels, whole.pair_labels)


@pytest.mark.parametrize("format", PAIRS)
def test_swapped_pairs_are_neighbours_in_the_other_order(make_corpus, format: str):
  """ALBERT's sentence order: B stands right before A in the text, unless A has no neighbour to be swapped with."""
  corpus = make_corpus(61)
  data = DataConfig(format=format, pairs="swapped", max_seq_len=4000, short_seq_prob=0.0)  # nothing is cut
  examples = build(corpus, everything(corpus), data, 1, 4)
  a_start, a_end, b_start, b_end = pair_columns(examples)
  in_order = examples.pair_labels == IN_ORDER
  np.testing.assert_array_equal(a_end[in_order], b_start[in_order])
  same = corpus.token_document[a_start] == corpus.token_document[b_start]
  assert same[in_order].all()
  swapped = ~in_order & same
  assert 0.3 < swapped.sum() / same.sum() < 0.7
  np.testing.assert_array_equal(b_end[swapped], a_start[swapped])
  # What is left is one sentence without a neighbour, beside one of another document.
  assert np.isin(corpus.token_sentence[a_start[~same]] + 1, corpus.document_offsets).all()
  # Every token that has a neighbour is read once.
  starts, ends = np.append(a_start, b_start[same]), np.append(a_end, b_end[same])
  read = np.concatenate([np.arange(*span) for span in zip(starts, ends, strict=True)])
  np.testing.assert_array_equal(np.sort(read), np.arange(len(corpus.token_document)))


def test_sentence_pairs_random_share(make_corpus):
  corpus = make_corpus(4000, max_sentences=6)
  for probability in (0.0, 0.3, 1.0):
    data = DataConfig(format="sentence_pair", max_seq_len=64, random_next_prob=probability)
    examples = build(corpus, everything(corpus), data, 0, 0)
    last_of_document = np.isin(corpus.token_sentence[examples.piece_starts[::2]] + 1, corpus.document_offsets)
    # Truncation may move A's start, never out of its sentence, so `last_of_document` is exact.
    predicted = last_of_document.mean() + probability * (1 - last_of_document.mean())
    assert examples.random_share is not None
    assert abs(examples.random_share - predicted) <= 4 * np.sqrt(probability * (1 - probability) / len(examples))


@pytest.mark.parametrize("format", PAIRS)
def test_one_document_is_refused(make_corpus, format: str):
  corpus = make_corpus(5)
  data = DataConfig(format=format)
  with pytest.raises(ValueError, match=rf"data\.format={format}.*at least 2.*has 1.*doc_sentences"):
    build(corpus, np.array([3]), data, 0, 0)
  for packed in PACKED:
    assert len(build(corpus, np.array([3]), DataConfig(format=packed), 0, 0)) >= 1


@pytest.mark.parametrize("format", FORMATS)
def test_no_documents_are_refused(make_corpus, format: str):
  with pytest.raises(ValueError, match=r"no given documents.*data\.eval_fraction"):
    build(make_corpus(5), np.array([], np.int64), DataConfig(format=format), 0, 0)


def test_packed_formats_have_no_random_share(make_corpus):
  corpus = make_corpus()
  assert build(corpus, everything(corpus), DataConfig(format="full_sentences"), 0, 0).random_share is None


# ---- packed sentences --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", PACKED)
@pytest.mark.parametrize("max_seq_len", [8, 41, 128])
def test_each_token_is_used_exactly_once(make_corpus, format: str, max_seq_len: int):
  corpus = make_corpus(mean_sentence=15.0)
  examples = build(corpus, everything(corpus), DataConfig(format=format, max_seq_len=max_seq_len), 1, 1)
  tokens = tokens_of(examples)
  np.testing.assert_array_equal(np.sort(tokens), np.arange(len(corpus.token_ids)))
  # Within a document, the order of the text is kept.
  document = corpus.token_document[tokens]
  assert (np.diff(tokens)[document[1:] == document[:-1]] == 1).all()


@pytest.mark.parametrize("format", PACKED)
def test_sentences_are_cut_only_where_they_must(make_corpus, format: str):
  corpus = make_corpus(mean_sentence=15.0)
  size = 41
  examples = build(corpus, everything(corpus), DataConfig(format=format, max_seq_len=size), 1, 1)
  assert (np.diff(corpus.sentence_offsets) > size - 2).any()
  ends = examples.piece_starts + examples.piece_lengths
  inside = ~np.isin(ends, corpus.sentence_offsets)
  assert inside.any()
  longs = np.diff(corpus.sentence_offsets)[corpus.token_sentence[ends[inside] - 1]]
  assert (longs > size - 2).all()
  assert (examples.piece_lengths[inside] == size - 2).all()


@pytest.mark.parametrize("format", PACKED)
def test_examples_are_as_full_as_they_can_be(make_corpus, format: str):
  corpus = make_corpus(max_sentence=30)
  size = 41
  examples = build(corpus, everything(corpus), DataConfig(format=format, max_seq_len=size), 1, 1)
  sentence_lengths = np.diff(corpus.sentence_offsets)
  first_pieces = examples.piece_offsets[:-1]
  next_sentence = corpus.token_sentence[examples.piece_starts[first_pieces[1:]]]
  last_pieces = examples.piece_offsets[1:-1] - 1
  last_token = examples.piece_starts[last_pieces] + examples.piece_lengths[last_pieces] - 1
  crosses = corpus.token_document[last_token] != corpus.token_document[examples.piece_starts[first_pieces[1:]]]
  # The next sentence would not have fitted: alone inside a document, with a [SEP] of its own in the next one.
  with_it = examples.lengths[:-1] + sentence_lengths[next_sentence] + crosses
  if format == "doc_sentences":
    with_it = with_it[~crosses]
  assert len(with_it) > 50
  assert (with_it > size).all()


def test_only_full_sentences_cross_documents_one_piece_each(make_corpus):
  corpus = make_corpus()
  counts = {}
  for format in PACKED:
    examples = build(corpus, everything(corpus), DataConfig(format=format, max_seq_len=128), 0, 0)
    counts[format] = np.diff(examples.piece_offsets)
    example_of = np.repeat(np.arange(len(examples)), counts[format])
    document = corpus.token_document[examples.piece_starts]
    assert ((document[1:] != document[:-1]) | (example_of[1:] != example_of[:-1])).all()
    assert not examples.piece_segments.any()
  assert counts["doc_sentences"].max() == 1
  assert counts["full_sentences"].max() > 1


def test_full_sentences_shuffles_documents(make_corpus):
  corpus = make_corpus()
  orders = []
  for segmentation in (0, 1):
    examples = build(corpus, everything(corpus), DataConfig(format="full_sentences"), 0, segmentation)
    orders.append(list(dict.fromkeys(corpus.token_document[examples.piece_starts].tolist())))
  assert sorted(orders[0]) == sorted(orders[1]) == list(range(corpus.num_documents))
  assert orders[0] != orders[1]


# ---- fairseq's layout --------------------------------------------------------------------------------------


def fairseq_blocks(lines: list[list[int]], size: int, separator_ends: bool) -> list[list[int]]:
  """Blocks of whole lines as fairseq's data/token_block_dataset.py makes them, written after its description.

  A line has its </s>, one that is nothing else parts documents. Break mode complete takes it for any line; complete_doc
  ends the block there and leaves it out.
  """
  blocks, block = [], []
  for line in lines:
    if separator_ends and len(line) == 1:
      blocks, block = [*blocks, block], []
    elif block and len(block) + len(line) > size:
      blocks, block = [*blocks, block], line
    else:
      block = block + line
  return [block for block in [*blocks, block] if block]


def rows(corpus, examples: Examples) -> list[list[int]]:
  """[CLS] and each piece with its [SEP]."""
  result = []
  for first, last in itertools.pairwise(examples.piece_offsets):
    row = [CLS]
    for start, length in zip(examples.piece_starts[first:last], examples.piece_lengths[first:last], strict=True):
      row += [*corpus.token_ids[start : start + length].tolist(), SEP]
    result.append(row)
  return result


@pytest.mark.parametrize("format", ["full_sentences", "doc_sentences"])
@pytest.mark.parametrize("max_seq_len", [19, 32, 101])
def test_separators_are_where_fairseq_has_them(make_corpus, format, max_seq_len):
  corpus = make_corpus(max_sentence=17, max_sentences=7, seed=max_seq_len)
  data = DataConfig(format=format, max_seq_len=max_seq_len, sentence_separators=True)
  examples = build(corpus, everything(corpus), data, 3, 1)
  order = random_bits.permutation(corpus.num_documents, formats._key(3, 1, 0))
  lines: list[list[int]] = []
  for document in order:
    lines += [[SEP]] if lines else []
    for sentence in range(*corpus.document_offsets[document : document + 2]):
      lines.append([*corpus.token_ids[slice(*corpus.sentence_offsets[sentence : sentence + 2])].tolist(), SEP])
  blocks = fairseq_blocks(lines, max_seq_len - 1, separator_ends=format == "doc_sentences")
  assert rows(corpus, examples) == [[CLS, *block] for block in blocks if block != [SEP]]
  assert max(examples.lengths) <= max_seq_len
  if format == "full_sentences" and max_seq_len == 19:
    assert sum(row[1] == SEP for row in rows(corpus, examples)) > 0  # the one that did not fit before
    assert sum(row.count(SEP) for row in rows(corpus, examples)) >= len(lines) - 2


@pytest.mark.parametrize("format", ["full_sentences", "doc_sentences"])
def test_with_separators_too_every_token_is_used_once(make_corpus, format):
  corpus = make_corpus(mean_sentence=30, seed=4)
  examples = build(
    corpus, everything(corpus), DataConfig(format=format, max_seq_len=23, sentence_separators=True), 0, 0
  )
  used = [t for s, n in zip(examples.piece_starts, examples.piece_lengths, strict=True) for t in range(s, s + n)]
  assert sorted(used) == list(range(len(corpus.token_ids)))
  assert max(examples.lengths) == 23
  assert min(examples.lengths) > 2


# ---- on disk -----------------------------------------------------------------------------------------------


def test_save_and_load(make_corpus, tmp_path):
  corpus = make_corpus()
  examples = build(corpus, everything(corpus), DataConfig(), 0, 0)
  examples.save(tmp_path / "deep" / "one")
  assert equal(examples, Examples.load(tmp_path / "deep" / "one"))
  examples.save(tmp_path / "deep" / "one")  # another process was first
  assert [path.name for path in (tmp_path / "deep").iterdir()] == ["one"]


def test_a_failed_save_leaves_nothing(make_corpus, tmp_path, monkeypatch):
  corpus = make_corpus()
  examples = build(corpus, everything(corpus), DataConfig(), 0, 0)
  calls = []

  def full(file, array):
    calls.append(array)
    if len(calls) == 3:
      raise OSError(28, "No space left on device")

  monkeypatch.setattr(formats.np, "save", full)
  with pytest.raises(OSError, match="No space"):
    examples.save(tmp_path / "one")
  assert list(tmp_path.iterdir()) == []


def test_damaged_examples_are_named(make_corpus, tmp_path):
  corpus = make_corpus()
  build(corpus, everything(corpus), DataConfig(), 0, 0).save(tmp_path / "one")
  for file in sorted((tmp_path / "one").iterdir()):
    whole = file.read_bytes()
    flipped = whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:]
    for damaged in (flipped, whole[:-9], b""):
      file.write_bytes(damaged)
      with pytest.raises(
        ValueError, match=rf"one/{file.name} (has|is missing|is not as it was written).*; remove .*one: its examples"
      ):
        Examples.load(tmp_path / "one")
    file.write_bytes(whole)
  assert len(Examples.load(tmp_path / "one"))
