"""Texts with masks: their tokens, and the likeliest tokens in the place of each mask in readable form.

B rows, T tokens, K masks, V vocabulary.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from bert_jax.architectures import EncoderConfig
from bert_jax.data.frames import frame_of
from bert_jax.data.tokenizer_kinds import Located
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import windows
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from bert_jax.objective_configs import MaskedTokensConfig

if TYPE_CHECKING:
  from bert_jax.inference.model import Model

MASK = "[MASK]"  # always understood, whatever the tokenizer calls its mask token
FILLERS = ("masked_lm", "pretraining", "enhanced_masked_lm", "permutation_lm")  # the networks that fill masks
_MASKS = 8  # scored at a time, of one row
_ROWS = 8  # at a time: of all their masks, a number for each entry of the vocabulary is in memory


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


@dataclasses.dataclass(frozen=True, eq=False)
class Masked:
  """A row with mask tokens.

  Attributes:
    token_ids: int32 [T], with special tokens.
    places: int [K], of the masks that are asked for.
    seen: bool [T], the tokens that may be looked at; None for all of them.
  """

  token_ids: np.ndarray
  places: np.ndarray
  seen: np.ndarray | None = None


def fill(model: "Model", text: str, top_k: int) -> list[list[Candidate]]:
  """See `Model.fill_masks`."""
  tokenizer = model.require_tokenizer()
  check(model, top_k)
  places = find(text, tokenizer)
  ids = frame_of(model.config).text(locate(text, places, tokenizer).ids, tokenizer)
  (found,) = probabilities(model, [Masked(ids, np.flatnonzero(ids == tokenizer.mask_id))])
  return [
    [candidate(token_id, chance, text, mark, tokenizer) for token_id, chance in likeliest(row, top_k, tokenizer)]
    for mark, row in zip(places, found, strict=True)
  ]


def check(model: "Model", top_k: int) -> None:
  """Raises ValueError where the model fills no masks, or has not so many tokens to put there."""
  if model.network not in FILLERS:
    raise ValueError(
      f"the model has the head {model.network}, which fills no masks; those that do are {', '.join(FILLERS)}"
    )
  tokenizer = model.require_tokenizer()
  known = tokenizer.vocab_size - len(tokenizer.special_ids)
  if not 1 <= top_k <= known:
    raise ValueError(f"top_k={top_k} must be at least 1 and at most the {known} tokens that are not special")


def likeliest(probabilities: np.ndarray, top_k: int, tokenizer: Tokenizer) -> list[tuple[int, float]]:
  """(token id, probability) of the best tokens that are not special; probabilities: [V]."""
  ordinary = probabilities[: tokenizer.vocab_size].copy()
  ordinary[tokenizer.special_ids] = -1.0
  return [(int(i), float(ordinary[i])) for i in np.argsort(-ordinary, kind="stable")[:top_k]]


def probabilities(model: "Model", rows: Sequence[Masked]) -> list[np.ndarray]:
  """Of each vocabulary entry at each mask of each row, float32 [K, V].

  Raises:
    ValueError: a row is longer than the model's positions.
  """
  tokenizer, frame = model.require_tokenizer(), frame_of(model.config)
  lengths = [len(row.token_ids) for row in rows]
  for length in lengths:
    model.check_length(length)
  longest = max(lengths, default=0)
  if model.run is not None and longest > model.run.data.max_seq_len:
    logging.warning(
      "the text has %d tokens, and the model was trained on %d at most", longest, model.run.data.max_seq_len
    )
  # An XLNet that was trained on masked tokens, as its paper's denoising baseline, never trained its query stream.
  queried = model.network == "permutation_lm" and not (
    model.run is not None and isinstance(model.run.objective, MaskedTokensConfig)
  )
  score = _score(model.config, model.network, queried)
  found: list[list[np.ndarray]] = [[] for _ in rows]
  for size, length, indices in windows.batches(lengths, _ROWS, model.config.longest_input):
    batch = frame.batch([rows[i].token_ids for i in indices], size, length, tokenizer.pad_id)
    offsets = [length - lengths[i] if frame.cls_last else 0 for i in indices]
    for row, (index, offset) in enumerate(zip(indices, offsets, strict=True)):
      if (seen := rows[index].seen) is not None:
        batch["attention_mask"][row, offset : offset + len(seen)] &= seen
    inputs = Inputs.of(batch)
    for first in range(0, max(len(rows[i].places) for i in indices), _MASKS):
      some = [rows[i].places[first : first + _MASKS] for i in indices]
      positions = np.zeros((size, _MASKS), np.int32)
      for row, (places, offset) in enumerate(zip(some, offsets, strict=True)):
        positions[row] = offset + (places[0] if len(places) else 0)
        positions[row, : len(places)] = offset + places
      scored = np.asarray(score(model.device_params, inputs, positions))
      for row, (index, places) in enumerate(zip(indices, some, strict=True)):
        found[index].append(scored[row, : len(places)])
  return [np.concatenate(parts) for parts in found]


@functools.cache
def _score(config: EncoderConfig, name: str, queried: bool):
  """(params, inputs, mlm_positions [B, K]) → probabilities [B, K, V]; queried: asked by XLNet's second stream."""
  network = networks.build(name, config, scan_layers=True)

  def score(params: Any, inputs: Inputs, mlm_positions: jax.Array) -> jax.Array:
    if queried:
      # Only the query stream asks at a mask, and no token attends to what stands there.
      rows, length = inputs.token_ids.shape
      mapping = jax.nn.one_hot(mlm_positions, length)
      hidden = jnp.broadcast_to(jnp.max(mapping, axis=1, keepdims=True) > 0, (rows, length, length))
      asked = dataclasses.replace(inputs, hidden_tokens=hidden, target_mapping=mapping)
      outputs: Any = network.apply({"params": params}, asked)
    else:
      outputs = network.apply({"params": params}, inputs, mlm_positions=mlm_positions)
    return jax.nn.softmax(outputs["mlm_scores"].logits(), axis=-1)

  return jax.jit(score)


# ---- texts ------------------------------------------------------------------------------------------------------


def marks(text: str, tokenizer: Tokenizer) -> list[re.Match[str]]:
  """Where masks stand in a text."""
  return list(re.finditer("|".join(map(re.escape, sorted({MASK, tokenizer.mask_token}))), text))


def find(text: str, tokenizer: Tokenizer) -> list[re.Match[str]]:
  """The masks of a text.

  Raises:
    ValueError: there is none.
  """
  if not (found := marks(text, tokenizer)):
    raise ValueError(f"the text has no mask: put {MASK} where a token is to be found. Got {text!r}")
  return found


def locate(text: str, found: Sequence[re.Match[str]], tokenizer: Tokenizer) -> Located:
  """The tokens of the text, the mask token in the place of each mask found in it, without special tokens."""
  if not found:
    return tokenizer.encode_with_offsets([text])[0]
  borders = [0, *(border for mark in found for border in mark.span()), len(text)]
  pieces: list[Located] = []
  for number, (begin, end) in enumerate(zip(borders[::2], borders[1::2], strict=True)):
    if number:
      span = np.array([found[number - 1].span()], np.int32)
      pieces.append(Located(np.array([tokenizer.mask_id], np.int32), np.ones(1, bool), span))
    ids, starts, offsets = _part(text[begin:end], tokenizer, number > 0)
    pieces.append(Located(ids, starts, begin + offsets))
  return Located(*map(np.concatenate, zip(*pieces, strict=True)))


def _part(part: str, tokenizer: Tokenizer, follows_mask: bool) -> Located:
  """The tokens of a part of the text, as they would be with a word in the place of the mask."""
  text = part.rstrip() if follows_mask else part.strip()
  if not text.strip():
    return Located(np.empty(0, np.int32), np.empty(0, bool), np.empty((0, 2), np.int32))
  dropped = len(part) - len(part.lstrip()) if not follows_mask else 0
  alone = _moved(tokenizer.encode_with_offsets([text])[0], dropped)
  if not follows_mask or tokenizer.kind == "wordpiece":  # which has no mark for a space
    return alone
  # Alone, what stands right after the mask, as in "[MASK].", would be tokenized as if a space stood before it; so we
  # put a word before it. The word's own tokens come out unchanged where it did not merge with the text.
  for word in ("0", "a") if text[0].isalpha() else ("a", "0"):
    before, both = tokenizer.encode_with_offsets([word, word + text])
    size = len(before.ids)
    if np.array_equal(both.ids[:size], before.ids):
      return _moved(Located(both.ids[size:], both.starts[size:], both.offsets[size:]), -len(word))
  return alone


def _moved(located: Located, characters: int) -> Located:
  return located._replace(offsets=located.offsets + np.int32(characters))


def candidate(token_id: int, probability: float, text: str, mark: re.Match[str], tokenizer: Tokenizer) -> Candidate:
  """A token in the place of one mark of a text."""
  token, continues = readable(token_id, tokenizer)
  before, after = text[: mark.start()], text[mark.end() :]
  left = before.rstrip() if continues else before
  return Candidate("##" + token if continues else token, probability, left + token + after)


def readable(token_id: int, tokenizer: Tokenizer) -> tuple[str, bool]:
  """A token's text, and whether it continues the word before it."""
  if tokenizer.kind == "wordpiece":
    (token,) = tokenizer.tokens([token_id])
    return token.removeprefix("##"), token.startswith("##")
  anchor = tokenizer.encode(["a"])[0][0]
  alone = tokenizer.decode(anchor)
  behind = tokenizer.decode([*anchor, token_id]).removeprefix(alone)
  text = behind.strip()
  return text, bool(text) and text[0].isalnum() and not behind[0].isspace()
