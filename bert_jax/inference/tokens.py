"""Texts to tokens, and what an encoder makes of each token.

T tokens, D hidden size, L layers, H heads.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bert_jax.data.frames import frame_of
from bert_jax.inference import embedding, windows
from bert_jax.models.inputs import Inputs

if TYPE_CHECKING:
  from bert_jax.inference.model import Model


class Encoding(NamedTuple):
  """A text as the model reads it.

  Attributes:
    token_ids: int32 [T], with special tokens.
    segment_ids: int32 [T].
    tokens: T, the vocabulary's text of each.
  """

  token_ids: np.ndarray
  segment_ids: np.ndarray
  tokens: list[str]


class TokenEmbeddings(NamedTuple):
  """The last layer's vectors of a text.

  Attributes:
    tokens: T, with special tokens.
    vectors: float32 [T, D].
  """

  tokens: list[str]
  vectors: np.ndarray


class Attentions(NamedTuple):
  """What each token of a text attends to.

  Attributes:
    tokens: T, with special tokens.
    probabilities: float32 [L, H, T, T]; they sum to 1 over the last axis, the tokens that are attended to.
  """

  tokens: list[str]
  probabilities: np.ndarray


def encode(model: "Model", texts: Sequence[str]) -> list[Encoding]:
  """See `Model.encode`."""
  tokenizer, frame = model.require_tokenizer(), frame_of(model.config)
  rows = (frame.text(ids, tokenizer) for ids, _ in tokenizer.encode(checked(texts)))
  return [Encoding(row, frame.segments(row), tokenizer.tokens(row)) for row in rows]


def embeddings(model: "Model", texts: Sequence[str], batch_size: int) -> list[TokenEmbeddings]:
  """See `Model.token_embeddings`."""
  encodings, pad_id = encode(model, texts), model.require_tokenizer().pad_id
  lengths = [len(encoding.token_ids) for encoding in encodings]
  for length in lengths:
    model.check_length(length)
  found: list[Any] = [None] * len(encodings)
  run, encoder = embedding.hidden_states(model.config), {"encoder": model.device_params["encoder"]}
  for size, length, indices in windows.batches(lengths, batch_size, model.config.longest_input):
    batch = frame_of(model.config).batch([encodings[i].token_ids for i in indices], size, length, pad_id)
    hidden = np.asarray(run(encoder, Inputs.of(batch)))
    for row, index in enumerate(indices):
      found[index] = TokenEmbeddings(encodings[index].tokens, hidden[row][batch["attention_mask"][row]])
  return found


def checked(texts: Sequence[str]) -> list[str]:
  """The texts. Raises ValueError for the first that is not a str of whole characters."""
  texts = list(texts)
  for number, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(f"text {number} is {type(text).__name__} and must be str. Got {text!r:.80}")
    if not text.isascii():
      try:
        text.encode()
      except UnicodeEncodeError as error:
        raise ValueError(
          f"text {number} holds half a character, U+{ord(text[error.start]):04X} at {error.start}, as in text that"
          " was decoded with the wrong encoding; decode it again, or drop it: text.encode(errors='ignore').decode()"
        ) from error
  return texts
