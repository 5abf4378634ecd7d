"""Extends a model by new tokens and to longer texts; the new rows of its tables are made of old ones."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from bert_jax.architectures import check
from bert_jax.data import basic_tokenizer
from bert_jax.data.sentence_piece import SentencePiece
from bert_jax.data.tokenizer_kinds import FromJson, Tokenizer, WordPiece
from bert_jax.inference.model import Model
from bert_jax.interop.params import flat, nested

_POSITIONS = "encoder/embeddings/positions"
# The parameters that have one row or element for each token.
_BY_TOKEN = ("encoder/embeddings/words", "encoder/words", "mlm_head/bias", "lm_bias")


def read_tokens(path: epath.Path) -> list[str]:
  """New tokens, one a line; blank lines are left out.

  Raises:
    ValueError: the file is not there, is not UTF-8, or holds none.
  """
  try:
    tokens = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"--extend-vocab={path} cannot be read as UTF-8 text: {error}") from error
  tokens = [token for token in tokens if token]
  if not tokens:
    raise ValueError(f"--extend-vocab={path} holds no token; give one a line")
  return tokens


def extend_vocab(model: Model, tokens: Sequence[str], say: Callable[[str], None]) -> Model:
  """The model with more tokens; each starts as the mean of the rows of the pieces that it was split into before.

  Where the word table has rows behind the tokenizer's last token, these are used first.

  Raises:
    ValueError: there is no tokenizer or it cannot grow; a token contains whitespace, or is listed twice.
  """
  tokenizer = model.tokenizer
  if tokenizer is None:
    raise ValueError("--extend-vocab needs a tokenizer, and the model came without one")
  tokens = [_as_read(token, tokenizer) for token in tokens]
  if len(set(tokens)) < len(tokens):
    raise ValueError("--extend-vocab lists a token twice")
  pieces = [ids for ids, _ in tokenizer.encode(list(tokens))]
  new = [(token, ids) for token, ids in zip(tokens, pieces, strict=True) if len(ids) > 1 or tokenizer.unk_id in ids]
  if len(new) < len(tokens):
    say(f"{len(tokens) - len(new)} of {len(tokens)} tokens are one token already and stay as they are")
  if not new:
    return model
  first, rows = tokenizer.vocab_size, model.config.vocab_size
  assert rows is not None
  grown, files = _grown(tokenizer, [token for token, _ in new], model.files)
  total = max(rows, grown.vocab_size)
  arrays = flat(model.params)
  for path in _BY_TOKEN:
    if path in arrays:
      array = arrays[path]
      wider = np.zeros((total, *array.shape[1:]), np.float32)
      wider[:rows] = array
      for number, (_, ids) in enumerate(new):
        wider[first + number] = array[ids].mean(axis=0)
      arrays[path] = wider
  say(f"{len(new)} new tokens, from id {first}; the word table has {total} rows (before, {rows})")
  config = dataclasses.replace(model.config, vocab_size=total)
  return dataclasses.replace(model, config=config, params=nested(arrays), tokenizer=grown, files=files)


def _as_read(token: str, tokenizer: Tokenizer) -> str:
  """The token as the tokenizer reads it: without case or accents, if the tokenizer drops them.

  Raises:
    ValueError: the tokenizer splits it into several words, so it would never be found.
  """
  text = token
  if isinstance(tokenizer, WordPiece):
    text = basic_tokenizer.split_words(token, tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_cjk)
  if len(text.split()) != 1:
    raise ValueError(f"--extend-vocab: {token!r} is read as {len(text.split())} words ({text}); a token is one word")
  return text.strip()


def _grown(tokenizer: Tokenizer, tokens: list[str], files: dict[str, bytes]) -> tuple[Tokenizer, dict[str, bytes]]:
  """The tokenizer with the new tokens at its end, and its files."""
  if isinstance(tokenizer, SentencePiece):
    raise ValueError(
      "--extend-vocab: a SentencePiece model cannot take new tokens; put the model's tokenizer.json into the folder"
    )
  first = tokenizer.vocab_size
  ids = {token: first + number for number, token in enumerate(tokens)}
  kept = dict(files)
  if "tokenizer.json" in files:
    content = json.loads(files["tokenizer.json"])
    if isinstance(tokenizer, WordPiece):
      content["model"]["vocab"] |= ids  # a whole word is looked up before its pieces
    else:
      content["added_tokens"] += [_added(token, token_id) for token, token_id in ids.items()]
    text = json.dumps(content, ensure_ascii=False, indent=2)
    kept["tokenizer.json"] = text.encode()
  if "vocab.txt" in files:
    kept["vocab.txt"] = files["vocab.txt"].rstrip(b"\n") + b"".join(b"\n" + token.encode() for token in tokens) + b"\n"
  if isinstance(tokenizer, WordPiece):
    vocab = {token: token_id for token_id, token in enumerate(tokenizer.tokens(range(first)))} | ids
    grown = WordPiece(
      vocab,
      tokenizer.lowercase,
      tokenizer.strip_accents,
      tokenizer.max_word_characters,
      added=tokenizer.added,
      any_case=tokenizer.any_case,
      split_cjk=tokenizer.split_cjk,
    )
    return grown, kept
  assert isinstance(tokenizer, FromJson)
  if "tokenizer.json" not in files:
    raise ValueError("--extend-vocab: put the model's tokenizer.json into the folder; its other files cannot grow")
  return FromJson(kept["tokenizer.json"].decode()), kept


def _added(token: str, token_id: int) -> dict[str, Any]:
  """An entry of `added_tokens` for a whole word; the space before it belongs to it."""
  return {
    "id": token_id,
    "content": token,
    "single_word": True,
    "lstrip": True,
    "rstrip": False,
    "normalized": True,
    "special": False,
  }


def extend_positions(model: Model, longest: int, say: Callable[[str], None]) -> Model:
  """The model with positions for longer texts: the learned rows, repeated from the front (Beltagy et al. 2020,
  section 5), so that neighbours keep their distances except at the seams.

  Raises:
    ValueError: the model has no table of absolute positions, has as many already, or may not have so many.
  """
  config, arrays = model.config, flat(model.params)
  before, table = config.longest_input, arrays.get(_POSITIONS)
  if before is None or table is None:
    raise ValueError(
      f"--extend-positions={longest}: this architecture has no table of absolute positions; it reads longer texts as it"
      " is, where its config.json says so (max_position_embeddings)"
    )
  if longest <= before:
    raise ValueError(f"--extend-positions={longest} must be above the {before} positions that the model has")
  config = dataclasses.replace(config, max_positions=longest)
  check(config, prefix=f"--extend-positions={longest}: ")
  learned = table[-before:]  # behind RoBERTa's unused rows
  arrays[_POSITIONS] = np.concatenate([table, learned[np.arange(before, longest) % before]])
  say(f"the model has {longest} positions (before, {before}): the old rows, again; train it on long texts")
  return dataclasses.replace(model, config=config, params=nested(arrays))
