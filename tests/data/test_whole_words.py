"""Whole words from text to batch, with each kind of tokenizer: judged by the tokens' own text, not by `word_starts`."""

import dataclasses
import json

import numpy as np
import pytest

from bert_jax.config import DataConfig, MaskingConfig, TokenizerConfig
from bert_jax.data import store
from bert_jax.data.batches import TrainBatches
from tests.data.small_stores import some_texts


def continues_a_word(kind: str, tokens: list[str]) -> np.ndarray:
  """Which tokens surely go on with the letters of the token before."""
  if kind == "wordpiece":
    return np.array([token.startswith("##") for token in tokens])
  marker = {"bpe": "Ġ", "unigram": "▁"}[kind]
  bare = [token.removeprefix(marker) for token in tokens]
  letters = [text.isascii() and text.isalpha() for text in bare]
  marked = [token.startswith(marker) for token in tokens]
  return np.array([i > 0 and letters[i] and letters[i - 1] and not marked[i] for i in range(len(tokens))])


@pytest.mark.parametrize("format", ["segment_pair", "full_sentences"])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_words_are_masked_whole(tmp_path, kind, format):
  lines = [json.dumps({"text": text}) for text in some_texts(90, seed=3)]
  (tmp_path / "text.jsonl").write_text("\n".join(lines))
  tokenizer = TokenizerConfig(kind=kind, vocab_size=400)
  data = DataConfig(
    source=f"jsonl:{tmp_path / 'text.jsonl'}", format=format, max_seq_len=45, segmentations=1, tokenizer=tokenizer
  )
  corpus = store.prepare(data, tmp_path / "store", num_workers=1)
  for unit in ("whole_word", "token"):
    masking = MaskingConfig(unit=unit, rate=0.3)
    batch = TrainBatches(corpus, dataclasses.replace(data, masking=masking), 0, 67)(0)
    tokens = batch["token_ids"].copy()
    chosen = np.zeros(tokens.shape, bool)
    rows, slots = np.nonzero(batch["mlm_weights"])
    columns = batch["mlm_positions"][rows, slots]
    chosen[rows, columns] = True
    tokens[rows, columns] = batch["mlm_labels"][rows, slots]
    marks = np.isin(tokens, [corpus.tokenizer.cls_id, corpus.tokenizer.sep_id, corpus.tokenizer.pad_id])
    continues = continues_a_word(kind, corpus.tokenizer.tokens(tokens.ravel())).reshape(tokens.shape)
    inside = continues[:, 1:] & ~marks[:, 1:] & ~marks[:, :-1]
    torn = (chosen[:, 1:] != chosen[:, :-1])[inside]
    assert len(torn) > 100
    assert chosen[:, 1:][inside].any()
    assert torn.any() == (unit == "token")
