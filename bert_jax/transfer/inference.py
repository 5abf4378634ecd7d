"""A pretrained model to ask, on one device: masks to fill, embeddings, what each layer looks at.

N texts, B rows of a batch, T tokens, K masks, V vocabulary, D hidden size, L layers, H heads.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from etils import epath

from bert_jax import console
from bert_jax.architectures import EncoderConfig
from bert_jax.config import Config
from bert_jax.data.frames import Frame, frame_of
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.interop import imported, writing
from bert_jax.interop import prompts as named_prompts
from bert_jax.interop.opening import open_model
from bert_jax.interop.pretrained import Pretrained, describe
from bert_jax.models import networks
from bert_jax.models.inputs import Inputs
from bert_jax.training import platform
from bert_jax.transfer import embedding, masks, scores, windows
from bert_jax.transfer.embedding import Pooling
from bert_jax.transfer.masks import Candidate

_MASKS = 8  # masks scored at a time


class Encoding(NamedTuple):
  """A text as the model reads it.

  Attributes:
    token_ids: int32 [T], special tokens and all.
    segment_ids: int32 [T].
    tokens: T, the vocabulary's text of each.
  """

  token_ids: np.ndarray
  segment_ids: np.ndarray
  tokens: list[str]


class TokenEmbeddings(NamedTuple):
  """The last layer's vectors of a text.

  Attributes:
    tokens: T, special ones and all.
    vectors: float32 [T, D].
  """

  tokens: list[str]
  vectors: np.ndarray


class Attentions(NamedTuple):
  """What each token of a text looks at.

  Attributes:
    tokens: T, special ones and all.
    probabilities: float32 [L, H, T, T]; the last axis, over what is looked at, sums to 1.
  """

  tokens: list[str]
  probabilities: np.ndarray


@dataclasses.dataclass(frozen=True)
class Model:
  """A pretrained model.

  Attributes:
    pretrained: its network, settings, and what it came with.
    params: of the network, on one device.
    run: the run's config; None for a model from elsewhere.
    step: optimizer steps done; None for a model from elsewhere.
  """

  pretrained: Pretrained = dataclasses.field(repr=False)
  params: Any = dataclasses.field(repr=False)
  run: Config | None = None
  step: int | None = None

  def __repr__(self) -> str:
    of_run = "" if self.step is None else f", step {self.step:,}"
    return f"<bert_jax.Model: {describe(self.pretrained)}{of_run}>"

  @property
  def config(self) -> EncoderConfig:
    return self.pretrained.config

  @property
  def tokenizer(self) -> Tokenizer:
    """Raises ValueError where the model came without one."""
    if self.pretrained.tokenizer is None:
      raise ValueError(
        "the model came without a tokenizer that can be read, so it reads no text; put its tokenizer.json beside it"
      )
    return self.pretrained.tokenizer

  @property
  def _frame(self) -> Frame:
    return frame_of(self.config)

  # ---- on disk ----

  def save(self, folder: epath.PathLike) -> None:
    """Writes a folder of bert_jax's own, as `bert-jax import` does; it opens with `bert_jax.load`.

    Raises:
      ValueError: something stands there already.
    """
    imported.save(self.pretrained, folder)

  def export(self, folder: epath.PathLike) -> dict[str, Any]:
    """Writes a Hugging Face folder, as `bert-jax export` does, and returns its receipt; see `writing.write`."""
    return writing.write(self.pretrained, folder, run=self.run, step=self.step)

  # ---- tokens ----

  @overload
  def encode(self, texts: str) -> Encoding: ...
  @overload
  def encode(self, texts: Sequence[str]) -> list[Encoding]: ...
  def encode(self, texts: str | Sequence[str]) -> Encoding | list[Encoding]:
    """Texts as the model reads them, special tokens and all; long ones are not cut."""
    if isinstance(texts, str):
      return self.encode([texts])[0]
    rows = (self._frame.text(ids, self.tokenizer) for ids, _ in self.tokenizer.encode(_texts(texts)))
    return [Encoding(row, self._frame.segments(row), self.tokenizer.tokens(row)) for row in rows]

  # ---- embeddings ----

  def embed(
    self,
    texts: str | Sequence[str],
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    *,
    batch_size: int = 32,
    max_tokens: int | None = None,
    stride: int | None = None,
    prompt: str | None = None,
    long: Literal["windows", "cut"] = "windows",
    progress: bool | None = None,
  ) -> np.ndarray:
    """One vector for each text.

    A text of more tokens than `max_tokens` is read in windows of that length, each starting `stride` tokens after the
    one before (the last ends with the text), and its vector is the mean of theirs, or their maximum with `max`; a token
    in two windows counts twice. With `long="cut"` only its first tokens are read, as sentence-transformers does it.
    The log says when either happens.

    Args:
      pooling: `cls`, `mean` or `max` over the tokens, special ones too; where it is not given, what the model was made
        for, else `mean`.
      normalize: to length 1; where it is not given, what the model was made for, else not.
      batch_size: texts at a time, at most; on a CPU, fewer of long ones.
      max_tokens: of a window, special tokens counted; where it is not given, what the model was made for, else all its
        positions.
      stride: tokens from one window to the next; half a window where it is not given.
      prompt: the name of one of the model's own (sentence-transformers' `prompts`), whose words go right before each
        text; where it is not given, the model's default, if it has one; "" for none.
      long: what becomes of a text beyond `max_tokens`.
      progress: a bar on stderr; where it is not given, on a terminal only.

    Returns:
      float32 [N, D], in the order of the texts; [D] for one text.

    Raises:
      ValueError: a setting out of its range, or a text that is none.
    """
    if isinstance(texts, str):
      settings: Any = {"batch_size": batch_size, "max_tokens": max_tokens, "stride": stride, "progress": False}
      return self.embed([texts], pooling, normalize, prompt=prompt, long=long, **settings)[0]
    made_for, most = self.pretrained.embedding, self.config.longest_input
    pooling = pooling or made_for.pooling or "mean"
    normalize = made_for.normalize if normalize is None else normalize
    max_tokens = made_for.max_tokens or most or 512 if max_tokens is None else max_tokens
    stride = max(1, (max_tokens - 2) // 2) if stride is None else stride
    if pooling not in ("cls", "mean", "max"):
      raise ValueError(f"pooling={pooling!r} must be cls, mean or max")
    if max_tokens < 3 or (most is not None and max_tokens > most):
      raise ValueError(f"max_tokens={max_tokens} must be at least 3, and at most the model's positions, {most}")
    if long not in ("windows", "cut"):
      raise ValueError(f"long={long!r} must be windows or cut")
    if not 1 <= stride <= max_tokens - 2:
      raise ValueError(f"stride={stride} must be at least 1, and at most max_tokens - 2 = {max_tokens - 2}")
    if batch_size < 1:
      raise ValueError(f"batch_size={batch_size} must be at least 1")
    _ = self.tokenizer  # which says what to do where there is none
    prompts = named_prompts.read(self.pretrained.files, "the model's files")
    words = prompts.words(prompt)
    texts = [words + text for text in _texts(texts)]
    if prompts.lowercase:
      texts = [text.lower() for text in texts]
    if words:
      logging.info("the model's prompt %r goes before every text", words)
    left_out = len(self.encode(words).token_ids) - 1 if words and not prompts.pooled else 0
    if left_out and long == "windows":
      raise ValueError("the tokens of this model's prompts are not pooled, which windows do not do; say long='cut'")
    reading = embedding.Windows(max_tokens, None if long == "cut" else stride, left_out)
    with console.progress_bar(len(texts), "text", progress) as bar:
      result = embedding.vectors(self.pretrained, self.params, texts, pooling, reading, batch_size, bar)
    if normalize:
      result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-12)
    return result

  @overload
  def token_embeddings(self, texts: str, *, batch_size: int = 32) -> TokenEmbeddings: ...
  @overload
  def token_embeddings(self, texts: Sequence[str], *, batch_size: int = 32) -> list[TokenEmbeddings]: ...
  def token_embeddings(
    self, texts: str | Sequence[str], *, batch_size: int = 32
  ) -> TokenEmbeddings | list[TokenEmbeddings]:
    """The last layer's vectors of each text's tokens.

    Args:
      batch_size: texts at a time.

    Returns:
      Those of each text; of one text, its own.

    Raises:
      ValueError: a text has more tokens than the model has positions.
    """
    if isinstance(texts, str):
      return self.token_embeddings([texts], batch_size=batch_size)[0]
    encodings = self.encode(texts)
    for encoding in encodings:
      self._check_length(len(encoding.token_ids))
    found: list[Any] = [None] * len(encodings)
    run = _hidden(self.config)
    lengths = [len(encoding.token_ids) for encoding in encodings]
    for size, length, indices in windows.batches(lengths, batch_size, self.config.longest_input):
      rows = [encodings[i].token_ids for i in indices]
      batch = self._frame.batch(rows, size, length, self.tokenizer.pad_id)
      hidden = np.asarray(run({"encoder": self.params["encoder"]}, Inputs.of(batch)))
      for row, index in enumerate(indices):
        found[index] = TokenEmbeddings(encodings[index].tokens, hidden[row][batch["attention_mask"][row]])
    return found

  def attentions(self, text: str) -> Attentions:
    """What each token looks at, in every layer and head.

    Raises:
      ValueError: the text has more tokens than the model has positions.
    """
    encoding = self.encode(text)
    length = len(encoding.token_ids)
    self._check_length(length)
    padded = windows.bucket(length, self.config.longest_input)
    batch = self._frame.batch([encoding.token_ids], 1, padded, self.tokenizer.pad_id)
    recorded = _recorded(self.config)({"encoder": self.params["encoder"]}, Inputs.of(batch))
    probabilities, seen = np.asarray(recorded)[:, 0], np.flatnonzero(batch["attention_mask"][0])
    return Attentions(encoding.tokens, probabilities[:, :, seen][..., seen])

  # ---- a task's head ----

  def logits(self, texts: Any, *, batch_size: int = 32) -> Any:
    """What the model's head says of texts, before any softmax.

    Classes are in the order of `pretrained.source["id2label"]`, where the model came with names for them.

    Args:
      texts: a list of texts; each is a str, or a tuple of two that are read as a pair (of sentences; of a question and
        its context). For `multiple_choice`, each is a list of A such answers. One str or tuple stands for itself.
      batch_size: texts at a time.

    Returns:
      By the network, float32, without the first axis for one text:
      `sequence_classification` [N, C]; `sentence_pairs` [N, 2], of which 0 is "next"; `multiple_choice` [N, A].
      And a list of N arrays, with a row for each token, the special ones too (of a single text, those of `encode`):
      `token_classification` [T, C]; `question_answering` [T, 2], start and end; `replaced_tokens` [T].

    Raises:
      ValueError: the network is another; a text is none, or has more tokens than the model has positions.
    """
    one = isinstance(texts, str | tuple)
    _ = self.tokenizer  # which says what to do where there is none
    found = scores.logits(self.pretrained, self.params, [texts] if one else list(texts), batch_size)
    return found[0] if one else found

  # ---- masks ----

  def fill_mask(self, text: str, top_k: int = 5) -> list[Candidate] | list[list[Candidate]]:
    """The likeliest tokens in the place of a mask, as `fill_masks` finds them.

    Returns:
      The candidates of the mask, the likeliest first; for several masks, such a list for each. `fill_masks` always has
      a list for each.
    """
    found = self.fill_masks(text, top_k)
    return found if len(found) > 1 else found[0]

  def fill_masks(self, text: str, top_k: int = 5) -> list[list[Candidate]]:
    """The likeliest tokens in the place of each mask, the special ones left out.

    Args:
      text: with `[MASK]`, or the tokenizer's own mask token, once or more.
      top_k: candidates of a mask.

    Returns:
      For each mask its candidates, the likeliest first. Masks are filled independently.

    Raises:
      ValueError: there is no mask, the text is longer than the model's positions, top_k is not a number of tokens, or
        the model was not made to fill masks.
    """
    tokenizer = self.tokenizer
    _texts([text])
    if self.pretrained.network not in _FILLERS:
      raise ValueError(
        f"the model has the head {self.pretrained.network}, which fills no masks; open one with {', '.join(_FILLERS)}"
      )
    known = tokenizer.vocab_size - len(tokenizer.special_ids)
    if not 1 <= top_k <= known:
      raise ValueError(f"top_k={top_k} must be at least 1 and at most the {known} tokens that are not special")
    marks = masks.find(text, tokenizer)
    ids = self._frame.text(masks.token_ids(text, marks, tokenizer), tokenizer)
    found: list[list[Candidate]] = []
    for mark, row in zip(marks, self._probabilities(ids), strict=True):
      row[tokenizer.special_ids] = -1.0
      best = np.argsort(-row[: tokenizer.vocab_size], kind="stable")[:top_k]
      found.append([masks.candidate(int(i), float(row[i]), text, mark, tokenizer) for i in best])
    return found

  def _probabilities(self, token_ids: np.ndarray) -> np.ndarray:
    """Of each vocabulary entry at each mask, float32 [K, V]; token_ids: int32 [T], special ones and all."""
    length = len(token_ids)
    self._check_length(length)
    if self.run is not None and length > self.run.data.max_seq_len:
      logging.warning(
        "the text has %d tokens, and the model was trained on %d at most", length, self.run.data.max_seq_len
      )
    padded = windows.bucket(length, self.config.longest_input)
    batch = self._frame.batch([token_ids], 1, padded, self.tokenizer.pad_id)
    places = np.flatnonzero(batch["token_ids"][0] == self.tokenizer.mask_id)
    score = _score(self.config, self.pretrained.network)
    scored = []
    for first in range(0, len(places), _MASKS):
      some = places[first : first + _MASKS]
      positions = np.full((1, _MASKS), some[0], np.int32)
      positions[0, : len(some)] = some
      scored.append(score(self.params, Inputs.of(batch), positions)[: len(some)])
    return np.concatenate(jax.device_get(scored))

  def _check_length(self, length: int) -> None:
    most = self.config.longest_input
    if most is not None and length > most:
      raise ValueError(
        f"the text has {length} tokens, special ones counted, and the model's positions end at"
        f" model.max_positions={most}; shorten it"
      )


_FILLERS = ("masked_lm", "pretraining", "enhanced_masked_lm", "permutation_lm")


def _texts(texts: Sequence[str]) -> list[str]:
  """Raises ValueError of the first that is no text."""
  texts = list(texts)
  for number, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(f"text {number} is {type(text).__name__} and must be str. Got {text!r:.80}")
    if not text.isascii():
      try:
        text.encode()
      except UnicodeEncodeError as error:
        raise ValueError(
          f"text {number} holds half a character, U+{ord(text[error.start]):04X} at {error.start}, as text has that was"
          " decoded as another encoding than its own; decode it anew, or drop it: text.encode(errors='ignore').decode()"
        ) from error
  return texts


# ---- compiled programs, one a shape -----------------------------------------------------------------------------


@functools.cache
def _hidden(config: EncoderConfig):
  """(params, inputs) → [B, T, D]."""
  network: Any = embedding.encoder_of(config)
  return jax.jit(lambda params, inputs: network.apply({"params": params}, inputs)["hidden"])


@functools.cache
def _recorded(config: EncoderConfig):
  """(params, inputs) → [L, B, H, T, T]."""
  network: Any = embedding.encoder_of(config, record=True)
  return jax.jit(lambda params, inputs: network.apply({"params": params}, inputs)["attentions"])


@functools.cache
def _score(config: EncoderConfig, name: str):
  """(params, inputs of one row, mlm_positions [1, K]) → probabilities [K, V]."""
  network = networks.build(name, config, scan_layers=True)

  def score(params: Any, inputs: Inputs, mlm_positions: jax.Array) -> jax.Array:
    if name == "permutation_lm":
      # The query stream alone asks at a mask, and nothing looks at what stands there.
      length = inputs.token_ids.shape[1]
      mapping = jax.nn.one_hot(mlm_positions, length)
      hidden = jnp.broadcast_to(jnp.max(mapping, axis=1, keepdims=True) > 0, (1, length, length))
      asked = dataclasses.replace(inputs, hidden_tokens=hidden, target_mapping=mapping)
      outputs: Any = network.apply({"params": params}, asked)
    else:
      outputs = network.apply({"params": params}, inputs, mlm_positions=mlm_positions)
    return jax.nn.softmax(outputs["mlm_scores"].logits()[0], axis=-1)

  return jax.jit(score)


def load(path: epath.PathLike, step: int | None = None, head: str | None = None) -> Model:
  """Opens a model; see `bert_jax.load`."""
  if not jax.config.values["jax_compilation_cache_dir"]:  # who set one has set the rest too
    platform.use_compilation_cache()
  opened = open_model(path, step, head)
  return Model(opened.model, jax.device_put(opened.model.params, jax.devices()[0]), opened.run, opened.step)
