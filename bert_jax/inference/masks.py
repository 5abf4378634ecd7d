"""Texts with masks: their tokens, and the likeliest tokens in the place of each mask in readable form.

T tokens, K masks, V vocabulary.
"""

import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from bert_jax.architectures import EncoderConfig
from bert_jax.data.frames import frame_of
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import windows
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

MASK = "[MASK]"  # always understood, whatever the tokenizer calls its mask token
FILLERS = ("masked_lm", "pretraining", "enhanced_masked_lm", "permutation_lm")  # the networks that fill masks
_MASKS = 8  # masks scored at a time


class Candidate(NamedTuple):
  """A token that the model puts in the place of a mask.

  Attributes:
    token: as text, after `##` where it continues the word before it, whatever mark the tokenizer itself has.
    probability: among the whole vocabulary.
    sequence: the text with this token in that place; other masks stay.
  """

  token: str
  probability: float
  sequence: str


def fill(model: "Model", text: str, top_k: int) -> list[list[Candidate]]:
  """See `Model.fill_masks`."""
  tokenizer = model.require_tokenizer()
  if model.network not in FILLERS:
    raise ValueError(
      f"the model has the head {model.network}, which fills no masks; those that do are {', '.join(FILLERS)}"
    )
  known = tokenizer.vocab_size - len(tokenizer.special_ids)
  if not 1 <= top_k <= known:
    raise ValueError(f"top_k={top_k} must be at least 1 and at most the {known} tokens that are not special")
  marks = find(text, tokenizer)
  ids = frame_of(model.config).text(token_ids(text, marks, tokenizer), tokenizer)
  found: list[list[Candidate]] = []
  for mark, row in zip(marks, _probabilities(model, ids), strict=True):
    row[tokenizer.special_ids] = -1.0
    best = np.argsort(-row[: tokenizer.vocab_size], kind="stable")[:top_k]
    found.append([candidate(int(i), float(row[i]), text, mark, tokenizer) for i in best])
  return found


def _probabilities(model: "Model", ids: np.ndarray) -> np.ndarray:
  """Of each vocabulary entry at each mask, float32 [K, V]; ids: int32 [T], with special tokens."""
  length, tokenizer = len(ids), model.require_tokenizer()
  model.check_length(length)
  if model.run is not None and length > model.run.data.max_seq_len:
    logging.warning(
      "the text has %d tokens, and the model was trained on %d at most", length, model.run.data.max_seq_len
    )
  padded = windows.bucket(length, model.config.longest_input)
  batch = frame_of(model.config).batch([ids], 1, padded, tokenizer.pad_id)
  places = np.flatnonzero(batch["token_ids"][0] == tokenizer.mask_id)
  score = _score(model.config, model.network)
  scored = []
  for first in range(0, len(places), _MASKS):
    some = places[first : first + _MASKS]
    positions = np.full((1, _MASKS), some[0], np.int32)
    positions[0, : len(some)] = some
    scored.append(score(model.device_params, Inputs.of(batch), positions)[: len(some)])
  return np.concatenate(jax.device_get(scored))


@functools.cache
def _score(config: EncoderConfig, name: str):
  """(params, inputs of one row, mlm_positions [1, K]) → probabilities [K, V]."""
  network = networks.build(name, config, scan_layers=True)

  def score(params: Any, inputs: Inputs, mlm_positions: jax.Array) -> jax.Array:
    if name == "permutation_lm":
      # Only the query stream asks at a mask, and no token attends to what stands there.
      length = inputs.token_ids.shape[1]
      mapping = jax.nn.one_hot(mlm_positions, length)
      hidden = jnp.broadcast_to(jnp.max(mapping, axis=1, keepdims=True) > 0, (1, length, length))
      asked = dataclasses.replace(inputs, hidden_tokens=hidden, target_mapping=mapping)
      outputs: Any = network.apply({"params": params}, asked)
    else:
      outputs = network.apply({"params": params}, inputs, mlm_positions=mlm_positions)
    return jax.nn.softmax(outputs["mlm_scores"].logits()[0], axis=-1)

  return jax.jit(score)


# ---- texts ------------------------------------------------------------------------------------------------------


def find(text: str, tokenizer: Tokenizer) -> list[re.Match[str]]:
  """The masks of a text.

  Raises:
    ValueError: there is none.
  """
  marks = list(re.finditer("|".join(map(re.escape, sorted({MASK, tokenizer.mask_token}))), text))
  if not marks:
    raise ValueError(f"the text has no mask: put {MASK} where a token is to be found. Got {text!r}")
  return marks


def token_ids(text: str, marks: list[re.Match[str]], tokenizer: Tokenizer) -> np.ndarray:
  """The tokens of the text, the mask token in the place of each mark, without special tokens: int32 [T]."""
  borders = [0, *(border for mark in marks for border in mark.span()), len(text)]
  parts = [text[begin:end] for begin, end in zip(borders[::2], borders[1::2], strict=True)]
  pieces: list[Any] = []
  for number, part in enumerate(parts):
    pieces += [[tokenizer.mask_id]] if number else []
    pieces.append(_part_ids(part, tokenizer, follows_mask=number > 0))
  return np.concatenate(pieces).astype(np.int32)


def _part_ids(part: str, tokenizer: Tokenizer, follows_mask: bool) -> np.ndarray:
  """The tokens of a part of the text, as they would be with a word in the place of the mask."""
  text = part.rstrip() if follows_mask else part.strip()
  if not text.strip():
    return np.empty(0, np.int32)
  alone = tokenizer.encode([text])[0][0]
  if not follows_mask or tokenizer.kind == "wordpiece":  # which has no mark for a space
    return alone
  # Alone, what stands right after the mask, as in "[MASK].", would be tokenized as if a space stood before it; so we
  # put a word before it. The word's own tokens come out unchanged where it did not merge with the text.
  for word in ("0", "a") if text[0].isalpha() else ("a", "0"):
    (before, _), (both, _) = tokenizer.encode([word, word + text])
    if np.array_equal(both[: len(before)], before):
      return both[len(before) :]
  return alone


def candidate(token_id: int, probability: float, text: str, mark: re.Match[str], tokenizer: Tokenizer) -> Candidate:
  """A token in the place of one mark of a text."""
  token, continues = _readable(token_id, tokenizer)
  before, after = text[: mark.start()], text[mark.end() :]
  left = before.rstrip() if continues else before
  return Candidate("##" + token if continues else token, probability, left + token + after)


def _readable(token_id: int, tokenizer: Tokenizer) -> tuple[str, bool]:
  """A token's text, and whether it continues the word before it."""
  if tokenizer.kind == "wordpiece":
    (token,) = tokenizer.tokens([token_id])
    return token.removeprefix("##"), token.startswith("##")
  anchor = tokenizer.encode(["a"])[0][0]
  alone = tokenizer.decode(anchor)
  behind = tokenizer.decode([*anchor, token_id]).removeprefix(alone)
  text = behind.strip()
  return text, bool(text) and text[0].isalnum() and not behind[0].isspace()
