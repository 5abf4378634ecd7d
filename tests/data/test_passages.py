"""Windows over passages, and where an answer is in them, against slow calculations of their own."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.config import TokenizerConfig
from bert_jax.data import passages, tokenizers, words
from bert_jax.data.frames import Frame
from bert_jax.data.tokenizers import Tokenizer

WORDS = ("snow", "is", "white", "paris", "lies", "by", "a", "river", "and", "cats", "sleep")
FRAMES = {
  "bert": Frame(),
  "roberta": Frame(separators_between=2, num_segments=1),
  "xlnet": Frame(cls_last=True),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
  return tokenizers.train([" ".join(WORDS[:7])] * 50, TokenizerConfig(vocab_size=64))


def text_of(seed: int, length: int) -> str:
  return " ".join(np.random.default_rng(seed).choice(WORDS, length))


@given(length=st.integers(0, 90), size=st.integers(2, 40), stride=st.integers(1, 50))
def test_windows_cover_everything_and_each_token_has_one_with_most_context(length: int, size: int, stride: int) -> None:
  parts = passages.spans(length, size, stride)
  most = passages.most_context(parts)
  assert parts[0][0] == 0
  assert sum(part[1] for part in parts[-1:]) + parts[-1][0] == length
  for (first, _), (second, _) in itertools.pairwise(parts):
    assert second - first == min(stride, size)
  for token in range(length):
    scores = {}
    for number, (first, count) in enumerate(parts):
      if first <= token < first + count:
        scores[number] = min(token - first, first + count - 1 - token) + 0.01 * count
    best = max(scores, key=lambda number: scores[number])  # the first of equals
    owners = [
      number
      for number, (first, count) in enumerate(parts)
      if first <= token < first + count and most[number][token - first]
    ]
    assert owners == [best]


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_window_reads_question_and_part_and_finds_the_answer(tokenizer: Tokenizer, frame: Frame) -> None:
  passage, question, most = text_of(1, 60), "is snow white", 29
  begin = passage.index("river")
  answer = (begin, begin + len("river and") if passage[begin:].startswith("river and") else begin + len("river"))
  read = passages.read([(question, passage), ("by a river", passage)], frame, tokenizer, most, stride=7)
  starts, ends = passages.labels(read, [answer, None])
  assert len({window.example for window in read.windows}) == 2
  found = 0
  for window, start, end in zip(read.windows, starts, ends, strict=True):
    assert len(window.token_ids) <= most
    ids = tokenizer.encode([passage])[0][0][window.first : window.first + window.count]
    np.testing.assert_array_equal(window.token_ids[window.place : window.place + window.count], ids)
    assert window.token_ids[window.cls] == tokenizer.cls_id
    assert (start.sum(), end.sum()) == (1, 1)
    i, j = int(np.argmax(start)), int(np.argmax(end))
    if i == window.cls:
      assert j == window.cls
      continue
    assert window.example == 0
    offsets = read.offsets[0]
    first, last = window.first + i - window.place, window.first + j - window.place
    assert passage[offsets[first, 0] : offsets[last, 1]] == passage[answer[0] : answer[1]]
    found += 1
  assert found, "an answer of two words is whole in some window"
  # Where a window lacks a part of the answer, it has none.
  whole = passages.token_span(read.offsets[0], *answer)
  assert whole is not None
  for window, start in zip(read.windows, starts, strict=True):
    inside = window.example == 0 and window.first <= whole[0] and whole[1] < window.first + window.count
    assert (int(np.argmax(start)) != window.cls) == inside


def test_a_long_question_leaves_room_for_the_passage(tokenizer: Tokenizer) -> None:
  read = passages.read([(text_of(2, 200), text_of(3, 50))], Frame(), tokenizer, 40)
  assert all(window.count > 10 for window in read.windows[:-1])
  read = passages.read([(text_of(2, 200), text_of(3, 50))], Frame(), tokenizer, 400)
  assert read.windows[0].place == 64 + 2


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("most", [7, 12, 200])
def test_each_word_is_tagged_once_at_its_first_token(tokenizer: Tokenizer, frame: Frame, most: int) -> None:
  texts = [list(np.random.default_rng(seed).choice(WORDS, length)) for seed, length in ((0, 23), (1, 1), (2, 40))]
  windows = words.cut([words.joined(text) for text in texts], frame, tokenizer, most)
  tagged: dict[tuple[int, int], int] = {}
  for window in windows:
    assert len(window.token_ids) <= most
    for place in np.flatnonzero(window.words >= 0):
      key = (window.example, int(window.words[place]))
      assert key not in tagged, "once"
      tagged[key] = int(window.token_ids[place])
  for example, text in enumerate(texts):
    for number, word in enumerate(text):
      assert tagged[example, number] == tokenizer.encode([word])[0][0][0], word


def test_a_word_without_a_token_has_no_tag(tokenizer: Tokenizer) -> None:
  (window,) = words.cut([words.joined(["snow", "\u200b", "white"])], Frame(), tokenizer, 20)
  assert window.words[window.words >= 0].tolist() == [0, 2]
