"""Words of a domain that a WordPiece vocabulary cuts into pieces: which of them are worth a token of their own."""

import functools
from collections import Counter

import numpy as np
from absl import logging

from bert_jax.data.corpus import Corpus
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference.model import Model
from bert_jax.interop import extend

# A vector has to be learned from examples; word2vec leaves out what is rarer than this (word2vec.c, min_count). Here it
# is documents that count: names that fill one document alone are of little use in others. Of 1,031 articles of
# Wikipedia, 1,000 such words save 1,762 tokens of 139,000 on held-out articles; of words that stand 5 times anywhere,
# 1,205; and ordered by their documents in place of their places, 1,493.
LEAST_DOCUMENTS = 5
_TOKENS_AT_ONCE = 10_000_000


def require_wordpiece(tokenizer: Tokenizer, number: int) -> None:
  """Raises ValueError: the tokenizer is of another kind."""
  if tokenizer.kind != "wordpiece":
    raise ValueError(
      f"--add-tokens={number} is for WordPiece, and this model's tokenizer is {tokenizer.kind}: a word that is added to"
      " it would be found inside of other words too; leave the flag out"
    )


def chosen(corpus: Corpus, eval_fraction: float, number: int) -> list[str]:
  """The words that save most tokens on the training documents: their count times the pieces that each is too many.

  They are whole words of two pieces or more, none of them unknown, that stand in `LEAST_DOCUMENTS` or more. Text is cut
  as before wherever no word is one of them or begins with one: WordPiece takes the longest piece from the left. Nothing
  becomes unknown by it, for vocabularies have a piece for each character that continues a word.

  Args:
    corpus: cut by the vocabulary as it is.
    eval_fraction: share of documents that is held out, and not looked at.
    number: of words, at most.

  Returns:
    The words, those that save most first; equal ones by alphabet.

  Raises:
    ValueError: there is none.
  """
  tokenizer = corpus.tokenizer
  saved: dict[str, int] = {}
  for key, (places, documents) in counted(corpus, eval_fraction).items():
    ids = np.frombuffer(key, np.int32)
    if documents >= LEAST_DOCUMENTS and tokenizer.unk_id not in ids:
      first, *rest = tokenizer.tokens(ids)
      saved["".join([first, *(piece.removeprefix("##") for piece in rest)])] = places * (len(ids) - 1)
  words = sorted(saved, key=lambda word: (-saved[word], word))
  if not words:
    raise ValueError(
      f"--add-tokens={number}: no word of {corpus.metadata['source']['description']} is cut into pieces and stands"
      f" in {LEAST_DOCUMENTS} or more of the documents to train on; leave the flag out"
    )
  if len(words) < number:
    logging.warning(
      "--add-tokens=%d: only %d words are cut into pieces and stand in %d documents or more; these are added",
      number,
      len(words),
      LEAST_DOCUMENTS,
    )
  return words[:number]


def counted(corpus: Corpus, eval_fraction: float) -> dict[bytes, tuple[int, int]]:
  """In how many places, and in how many documents, each word of several tokens stands in the training documents.

  A word's key is the bytes of its token ids (int32).
  """
  documents = corpus.documents("train", eval_fraction, 1.0)
  starts = corpus.sentence_offsets[corpus.document_offsets[documents]]
  lengths = corpus.sentence_offsets[corpus.document_offsets[documents + 1]] - starts
  places: Counter[bytes] = Counter()
  within: Counter[bytes] = Counter()
  for part in np.array_split(np.arange(len(documents)), max(1, int(lengths.sum() // _TOKENS_AT_ONCE))):
    token_ids, word_starts = corpus.gather(starts[part], lengths[part])
    owners = np.repeat(part, lengths[part])
    begins = np.flatnonzero(word_starts)
    ends = np.append(begins[1:], len(token_ids))
    several = np.flatnonzero(ends - begins > 1)
    words = [(int(owners[begins[i]]), token_ids[begins[i] : ends[i]].tobytes()) for i in several]
    places.update(word for _, word in words)
    within.update(word for _, word in dict.fromkeys(words))
  return {word: (count, within[word]) for word, count in places.items()}


def tokens_per_word(corpus: Corpus, eval_fraction: float) -> float:
  """Of the held-out documents; a punctuation mark is a word."""
  documents = corpus.documents("eval", eval_fraction, 1.0)
  starts = corpus.sentence_offsets[corpus.document_offsets[documents]]
  lengths = corpus.sentence_offsets[corpus.document_offsets[documents + 1]] - starts
  _, word_starts = corpus.gather(starts, lengths)
  return float(len(word_starts) / word_starts.sum())


def extended(model: Model, words: list[str]) -> Model:
  """The model with these words at the end of its vocabulary.

  The vector and the output bias of each start as the means of its pieces', so that what the model says of the new token
  before it has learned anything is the mean of what it said of the pieces (in logits: the scores are a product with
  these vectors, plus the bias). Koto et al. 2021 (IndoBERTweet) found means of pieces the best of the initial vectors
  that they tried.
  """
  return extend.extend_vocab(model, words, functools.partial(logging.info, "%s"))
