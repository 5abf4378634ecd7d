"""A finished run as a model to ask: opened from its folder, on one device, whatever saved it.

B batch, T tokens, K masks, V vocabulary.
"""

import dataclasses
import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from bert_jax import settings
from bert_jax.config import Config, ModelConfig, RuntimeConfig
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.training import sharding
from bert_jax.training.checkpoints import Checkpoint, CheckpointError, Checkpoints
from bert_jax.training.step import build_model

MASK = "[MASK]"  # always understood, whatever the tokenizer calls its mask token
_LEAST_LENGTH = 32  # tokens of the smallest bucket; each next one is twice as long
_MASKS = 8  # masks scored at a time


class Candidate(NamedTuple):
  """What the model puts in the place of a mask.

  Attributes:
    token: as text; with `##` before it where it continues the word before, whatever the tokenizer's own mark.
    probability: over the whole vocabulary.
    sequence: the text with this token in that place; other masks stay.
  """

  token: str
  probability: float
  sequence: str


@dataclasses.dataclass(frozen=True)
class Model:
  """A pretrained model.

  Attributes:
    config: of the run.
    tokenizer: of the run.
    params: of `ForPretraining`, on one device.
    step: optimizer steps done.
  """

  config: Config
  tokenizer: Tokenizer
  params: Any = dataclasses.field(repr=False)
  step: int

  def fill_mask(self, text: str, top_k: int = 5) -> list[Any]:
    """The likeliest tokens in the place of a mask, the special ones left out.

    Args:
      text: with `[MASK]`, or the tokenizer's own mask token, once or more.
      top_k: candidates of a mask.

    Returns:
      list[Candidate], the likeliest first; for several masks, such a list for each. Masks are filled independently.

    Raises:
      ValueError: there is no mask, the text is longer than the model's positions, or top_k is not a number of tokens.
    """
    tokenizer = self.tokenizer
    known = tokenizer.vocab_size - len(tokenizer.special_ids)
    if not 1 <= top_k <= known:
      raise ValueError(f"top_k={top_k} must be at least 1 and at most the {known} tokens that are not special")
    marks = list(re.finditer("|".join(map(re.escape, sorted({MASK, tokenizer.mask_token}))), text))
    if not marks:
      raise ValueError(f"the text has no mask: put {MASK} where a token is to be found. Got {text!r}")
    borders = [0, *(border for mark in marks for border in mark.span()), len(text)]
    parts = [text[begin:end] for begin, end in zip(borders[::2], borders[1::2], strict=True)]
    probabilities = self._probabilities(_masked_ids(parts, tokenizer))
    found = []
    for mark, row in zip(marks, probabilities, strict=True):
      row[tokenizer.special_ids] = -1.0
      best = np.argsort(-row, kind="stable")[:top_k]
      before, after = text[: mark.start()], text[mark.end() :]
      found.append([self._candidate(int(i), float(row[i]), before, after) for i in best])
    return found if len(found) > 1 else found[0]

  def _candidate(self, token_id: int, probability: float, before: str, after: str) -> Candidate:
    token, continues = _readable(token_id, self.tokenizer)
    left = before.rstrip() if continues else before
    return Candidate("##" + token if continues else token, probability, left + token + after)

  def _probabilities(self, token_ids: np.ndarray) -> np.ndarray:
    """Of each vocabulary entry at each mask, float32 [K, V]; token_ids: int32 [T], with [CLS] and [SEP]."""
    length, longest = len(token_ids), self.config.model.max_positions
    if length > longest:
      raise ValueError(
        f"the text has {length} tokens, special ones counted, and the model's positions end at"
        f" model.max_positions={longest}; shorten it around the mask"
      )
    if length > self.config.data.max_seq_len:
      logging.warning(
        "the text has %d tokens, and the model was trained on %d at most", length, self.config.data.max_seq_len
      )
    bucket = _LEAST_LENGTH
    while bucket < length:
      bucket *= 2
    bucket = min(bucket, longest)
    row = np.full((1, bucket), self.tokenizer.pad_id, np.int32)
    row[0, :length] = token_ids
    attention_mask = np.arange(bucket)[None] < length
    masks = np.flatnonzero(token_ids == self.tokenizer.mask_id)
    scored = []
    for first in range(0, len(masks), _MASKS):
      positions = np.zeros((1, _MASKS), np.int32)
      some = masks[first : first + _MASKS]
      positions[0, : len(some)] = some
      scored.append(_score(self.config.model)(self.params, row, attention_mask, positions)[: len(some)])
    return np.concatenate(jax.device_get(scored))


@functools.cache
def _score(model: ModelConfig):
  """Compiled, once for each length: (params, token_ids [1, T], attention_mask, mlm_positions [1, K]) → [K, V]."""
  network = build_model(model, RuntimeConfig())

  def score(params: Any, token_ids: jax.Array, attention_mask: jax.Array, mlm_positions: jax.Array) -> jax.Array:
    inputs = (token_ids, jnp.zeros_like(token_ids), attention_mask, mlm_positions)
    outputs: Any = network.apply({"params": params}, *inputs)
    return jax.nn.softmax(outputs["mlm_scores"].logits()[0], axis=-1)

  return jax.jit(score)


# ---- text around masks -------------------------------------------------------------------------------------------


def _masked_ids(parts: list[str], tokenizer: Tokenizer) -> np.ndarray:
  """`[CLS] part [MASK] part … [SEP]`, int32 [T]."""
  pieces: list[Any] = [[tokenizer.cls_id]]
  for number, part in enumerate(parts):
    pieces += [[tokenizer.mask_id]] if number else []
    pieces.append(_part_ids(part, tokenizer, follows_mask=number > 0))
  return np.concatenate([*pieces, [tokenizer.sep_id]]).astype(np.int32)


def _part_ids(part: str, tokenizer: Tokenizer, follows_mask: bool) -> np.ndarray:
  """A part's tokens, as they would be with a word in the mask's place."""
  text = " ".join(part.split())
  if follows_mask and text and not part[0].isspace() and not part[0].isalnum():
    # A mark right after the mask, as in "[MASK].": alone it would be cut as if a space went before it.
    (token_ids, word_starts) = tokenizer.encode(["a" + text])[0]
    return token_ids[np.flatnonzero(word_starts)[1] :]
  return tokenizer.encode([text])[0][0] if text else np.empty(0, np.int32)


def _readable(token_id: int, tokenizer: Tokenizer) -> tuple[str, bool]:
  """A token's text, and whether it continues the word before it."""
  anchor = tokenizer.encode(["a"])[0][0]
  alone = tokenizer.decode(anchor)
  behind = tokenizer.decode([*anchor, token_id]).removeprefix(alone)
  text = behind.strip()
  return text, bool(text) and text[0].isalnum() and not behind[0].isspace()


# ---- opening -----------------------------------------------------------------------------------------------------


def load(path: epath.PathLike, step: int | None = None) -> Model:
  """Opens a run; see `bert_jax.load`."""
  folder, in_path = _find(epath.Path(path))
  if step is not None and in_path not in (None, step):
    raise ValueError(
      f"{path} is the checkpoint of step {in_path}, and step={step} was asked for; give the run's folder"
    )
  step = in_path if step is None else step
  with Checkpoints(folder) as checkpoints:
    if not checkpoints.steps():
      raise ValueError(f"{folder} has no checkpoint yet; let the run go on until it has saved one")
    found = _restore(checkpoints, step)
    return Model(
      config=settings.from_dict(found.about["config"]),
      tokenizer=checkpoints.tokenizer(found.step),
      params=found.state.params,
      step=found.step,
    )


def _restore(checkpoints: Checkpoints, step: int | None) -> Checkpoint:
  """The checkpoint of a step; else the best; else, where none was evaluated, the latest that is whole."""
  mesh = sharding.make_mesh(1)
  chosen = checkpoints.best_step() if step is None else step
  if chosen is not None:
    try:
      return checkpoints.restore(chosen, mesh)
    except CheckpointError as error:
      if chosen not in checkpoints.steps():
        raise
      others = [s for s in checkpoints.steps() if s != chosen]
      way_out = f"; bert_jax.load(…, step=N) opens another, N of {others}" if others else ""
      raise CheckpointError(f"{error}{way_out}") from error
  failures = []
  for candidate in reversed(checkpoints.steps()):
    try:
      return checkpoints.restore(candidate, mesh)
    except CheckpointError as error:
      logging.warning("%s", error)
      failures.append(str(error))
  raise CheckpointError(f"every checkpoint in {checkpoints.folder} is damaged: {'; '.join(failures)}")


def _find(path: epath.Path) -> tuple[epath.Path, int | None]:
  """The folder of checkpoints that a workdir, run, or checkpoint stands for, and the step if it is one checkpoint."""
  if not path.is_dir():
    raise ValueError(f"{path} is no folder; give a workdir, a run's folder or a checkpoint's")
  if (path / "state").is_dir() and (path / "about").is_dir():
    if not path.name.isdigit():
      raise ValueError(f"{path} is a checkpoint, and its folder must be called by its step, a number; rename it back")
    return path.parent, int(path.name)
  if (path / "checkpoints").is_dir():
    return path / "checkpoints", None
  if path.name == "checkpoints":
    return path, None
  runs = sorted(folder.parent for folder in path.glob("runs/*/seed-*/checkpoints") if folder.is_dir())
  if len(runs) > 1:
    listed = "\n".join(f"  {run}" for run in runs)
    raise ValueError(f"{path} holds {len(runs)} runs; give the folder of one of them:\n{listed}")
  if not runs:
    raise ValueError(
      f"{path} holds no run (runs/ARM/seed-N), no checkpoints and is no checkpoint; give a folder that an experiment"
      " wrote as its --workdir"
    )
  return runs[0] / "checkpoints", None
