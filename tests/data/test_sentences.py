"""Documents to sentences."""

from hypothesis import given
from hypothesis import strategies as st

from bert_jax.data import sentences

LONG = "This is a line that is longer than wrapped text has its lines, which is what makes it one paragraph of its own "


def split(text: str) -> list[str]:
  return list(sentences.split_sentences(text))


def test_sentences_part_and_abbreviations_do_not():
  assert split("Mr. Smith went home. He slept! Did he?") == ["Mr. Smith went home.", "He slept!", "Did he?"]


def test_wrapped_lines_belong_together_and_blank_lines_part():
  assert split("A sentence that\nis wrapped.\r\n\r\nA heading\n \nAnother one\nhere") == [
    "A sentence that is wrapped.",
    "A heading",
    "Another one here",
  ]


def test_lines_of_text_that_is_not_wrapped_are_paragraphs():
  assert split(f"Heading\n{LONG}\nanother heading") == ["Heading", LONG.strip(), "another heading"]


def test_no_sentence_is_without_end():
  text = "words " * 5_000 + "x" * 25_000
  parts = split(text)
  assert max(map(len, parts)) <= sentences.MAX_SENTENCE_CHARACTERS
  assert "".join(parts).replace(" ", "") == text.replace(" ", "")
  assert all(set(part.split()) == {"words"} for part in parts[:2])


@given(st.text(st.sampled_from("ab. \n\r\t!?\"'(\u2028\xa0é中"), max_size=200), st.booleans())
def test_nothing_but_white_space_is_lost(text, unwrapped):
  text = text + (LONG if unwrapped else "")
  parts = split(text)
  assert "".join("".join(part.split()) for part in parts) == "".join(text.split())
  assert all(part == " ".join(part.split()) and part for part in parts)
