"""A model: its network and parameters, its tokenizer, and what it answers.

N texts, T tokens, C classes, A answers to choose from, D hidden size, L layers, H heads.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, overload

import jax
import numpy as np
from etils import epath

from bert_jax import console
from bert_jax.architectures import EncoderConfig
from bert_jax.config import Config
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import embedding, guesses, masks, predictions, prompts, readings, scores, tokens, views
from bert_jax.inference.embedding import EmbeddingSettings, Pooling
from bert_jax.inference.masks import Candidate
from bert_jax.inference.tokens import Attentions, Encoding, TokenEmbeddings
from bert_jax.models.networks import ClassifierPooling
from bert_jax.objective_configs import (
  ClassificationConfig,
  Objective,
  Problem,
  SimilarityConfig,
  TaggingConfig,
)
from bert_jax.objectives import objective_of


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
  """A network with its parameters, its tokenizer, and what came with them.

  Attributes:
    config: of the encoder.
    network: a name of `networks.NETWORKS`: the encoder with its head.
    params: of the network, float32, as numpy arrays or on devices.
    tokenizer: None where the model came without one that can be read.
    num_classes: of a classifier's head.
    class_names: of a classifier's head, in the order of its logits; empty where they are not known.
    classifier_pooling: what a classifier of texts reads; see `ForSequenceClassification`.
    problem: what the outputs of a classifier of texts are; see `ClassificationConfig`.
    null_threshold: of a model that finds answers: from which margin on it says that there is none; see `Answer`. None:
      there always is one.
    max_tokens: of the texts that its head was fine-tuned on, special ones counted; None where that is not known.
    embedding: how the model was made to embed texts, where that is known.
    source: the config.json that it came with; empty for a model of our own.
    files: name → content of the files of its tokenizer, of sentence-transformers and of its card that it came with.
    origin: name and commit of a model from the Hugging Face hub; empty for others.
    finetuned: in words, what a model was fine-tuned on after all that; empty for others.
    run: the config of the run that trained it; None for a model from elsewhere.
    step: the optimizer steps of that run; None for a model from elsewhere.
  """

  config: EncoderConfig
  network: str
  params: Any
  tokenizer: Tokenizer | None
  num_classes: int = 2
  class_names: tuple[str, ...] = ()
  classifier_pooling: ClassifierPooling = "cls"
  problem: Problem = "single_label"
  null_threshold: float | None = None
  max_tokens: int | None = None
  embedding: EmbeddingSettings = EmbeddingSettings()
  source: dict[str, Any] = dataclasses.field(default_factory=dict)
  files: dict[str, bytes] = dataclasses.field(default_factory=dict)
  origin: str = ""
  finetuned: str = ""
  run: Config | None = None
  step: int | None = None

  @classmethod
  def of_run(cls, run: Config, params: Any, tokenizer: Tokenizer, step: int, network: str | None = None) -> "Model":
    """A model that a run has trained.

    Args:
      run: its config.
      params: of its objective.
      network: which of the networks that it trained; by default the one that it is about.

    Raises:
      ValueError: it has trained no such network.
    """
    trained = objective_of(run).trained(params)
    name = network or next(iter(trained))
    if name not in trained:
      raise ValueError(f"head={network!r} is none of the networks that this run trained: {', '.join(trained)}")
    config, params = trained[name]
    return cls(config, name, params, tokenizer, run=run, step=step, **_head_of(run.objective))

  def with_head(self, objective: Objective, params: Any, class_names: tuple[str, ...], finetuned: str) -> "Model":
    """The model that a fine-tuning of this one leaves.

    Args:
      objective: what it was fine-tuned for.
      params: of that network.
      class_names: of its outputs, where they have names.
      finetuned: see `Model`.
    """
    architecture: Any = self.config
    network, *_ = objective_of(Config(architecture, objective=objective)).trained(params)
    return dataclasses.replace(
      self,
      network=network,
      params=params,
      source={name: value for name, value in self.source.items() if name != "problem_type"},  # of another head
      class_names=class_names,
      finetuned=finetuned,
      **{"max_tokens": None, "null_threshold": None} | _head_of(objective),
    )

  def __repr__(self) -> str:
    of_run = "" if self.step is None else f", step {self.step:,}"
    return f"<bert_jax.Model: {self.describe()}{of_run}>"

  def describe(self) -> str:
    """Architecture, network and sizes in a line."""
    parameters = sum(x.size for x in jax.tree.leaves(self.params))
    tokenizer = f"{self.tokenizer.vocab_size} tokens" if self.tokenizer else "no tokenizer"
    return f"{self.config.kind}, {self.network}, {parameters:,} parameters, {tokenizer}"

  @functools.cached_property
  def device_params(self) -> Any:
    """`params` on the first device, where the first answer puts them."""
    # Inside a caller's jax.jit, device_put would give a value of that trace, which must not be kept.
    with jax.ensure_compile_time_eval():
      return jax.device_put(self.params, jax.local_devices()[0])

  def require_tokenizer(self) -> Tokenizer:
    """Raises ValueError where the model came without a tokenizer."""
    if self.tokenizer is None:
      raise ValueError(
        "the model came without a tokenizer that can be read, so it reads no text; put its tokenizer.json beside it"
      )
    return self.tokenizer

  @property
  def prompts(self) -> prompts.Prompts:
    """What the files that it came with ask for before a text is embedded."""
    return prompts.read(self.files, "the model's files")

  # ---- on disk ----

  def save(self, folder: epath.PathLike) -> None:
    """Writes a folder in bert_jax's own format, as `bert-jax import` does; `bert_jax.load` opens it.

    Raises:
      ValueError: something stands there already.
    """
    from bert_jax.interop import imported  # not above: interop builds on this module

    imported.save(self, folder)

  def export(self, folder: epath.PathLike) -> dict[str, Any]:
    """Writes a Hugging Face folder, as `bert-jax export` does, and returns its receipt; see `writing.write`."""
    from bert_jax.interop import writing  # not above: interop builds on this module

    return writing.write(self, folder)

  # ---- tokens ----

  @overload
  def encode(self, texts: str) -> Encoding: ...
  @overload
  def encode(self, texts: Sequence[str]) -> list[Encoding]: ...
  def encode(self, texts: str | Sequence[str]) -> Encoding | list[Encoding]:
    """Texts as the model reads them, with special tokens; long ones are not cut.

    Examples:
      >>> model.encode("Snow is white.").tokens
      ['[CLS]', 'snow', 'is', 'white', '.', '[SEP]']
      >>> [len(one.token_ids) for one in model.encode(["Snow is white.", "Snow"])]
      [6, 3]
    """
    one = isinstance(texts, str)
    found = tokens.encode(self, [texts] if one else texts)
    return found[0] if one else found

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
    one before (the last ends with the text). Its vector is the mean of theirs, or their maximum with `max`; a token
    in two windows counts twice. With `long="cut"` only its first tokens are read, as sentence-transformers does.
    The log says when either happens.

    Args:
      pooling: `cls`, `mean` or `max` over the tokens, special ones included; by default what the model was made for,
        else `mean`.
      normalize: whether to scale vectors to length 1; by default what the model was made for, else not.
      batch_size: the most texts at a time; on a CPU, long texts come in smaller batches.
      max_tokens: of a window, special tokens counted; by default what the model was made for, else all its positions.
      stride: tokens from one window to the next; by default half a window.
      prompt: the name of one of the model's own prompts (sentence-transformers' `prompts`), whose words go right before
        each text; by default the model's default prompt, if it has one; "" for none.
      long: how to read a text beyond `max_tokens`.
      progress: whether to show a progress bar on stderr; by default on a terminal only.

    Returns:
      float32 [N, D], in the order of the texts; [D] for one text.

    Raises:
      ValueError: a setting is out of its range, or a text is not a str.

    Examples:
      >>> vectors = model.embed(["Snow is white.", "The sea is cold."], normalize=True)
      >>> similarities = vectors @ vectors.T
      >>> similarities.shape
      (2, 2)
    """
    one = isinstance(texts, str)
    some = tokens.checked([texts] if one else texts)
    with console.progress_bar(len(some), "text", False if one else progress) as bar:
      found = embedding.embed(self, some, pooling, normalize, batch_size, max_tokens, stride, prompt, long, bar)
    return found[0] if one else found

  @overload
  def token_embeddings(self, texts: str, *, batch_size: int = 32) -> TokenEmbeddings: ...
  @overload
  def token_embeddings(self, texts: Sequence[str], *, batch_size: int = 32) -> list[TokenEmbeddings]: ...
  def token_embeddings(
    self, texts: str | Sequence[str], *, batch_size: int = 32
  ) -> TokenEmbeddings | list[TokenEmbeddings]:
    """The last layer's vectors of the tokens of each text.

    Args:
      batch_size: texts at a time.

    Returns:
      Those of each text in a list; for one text, without the list.

    Raises:
      ValueError: a text has more tokens than the model has positions.

    Examples:
      >>> found = model.token_embeddings("Snow is white.")
      >>> found.vectors.shape == (len(found.tokens), model.config.hidden_size)
      True
    """
    one = isinstance(texts, str)
    found = tokens.embeddings(self, [texts] if one else texts, batch_size)
    return found[0] if one else found

  def attentions(self, text: str, pair: str | None = None) -> Attentions:
    """What each token attends to, in every layer and head.

    Args:
      pair: a second text, which is read together with the first.

    Raises:
      ValueError: the text has more tokens than the model has positions.

    Examples:
      >>> found = model.attentions("Snow is white.")
      >>> layer, head, token = 0, 1, found.tokens.index("white")
      >>> looked_at = found.tokens[found.probabilities[layer, head, token].argmax()]
      >>> looked_at in found.tokens
      True
    """
    read = readings.read(self, *tokens.checked([text] if pair is None else [text, pair]))
    return Attentions(read.tokens, embedding.attention(self, read.token_ids, read.segment_ids))

  # ---- to look at, in a notebook or as plain text ----

  def show_tokens(self, text: str, pair: str | None = None) -> views.TokensView:
    """A text, or a pair, as the model reads it: tokens, ids, segments and positions.

    Raises:
      ValueError: the text has more tokens than the model has positions.

    Examples:
      >>> print(model.show_tokens("Snow is white.", "The sea"))
      position  token       id  segment
             0  [CLS]        2        0
             1  snow        80        0
             2  is          48        0
             3  white       81        0
             4  .            6        0
             5  [SEP]        3        0
             6  the         47        1
             7  sea         79        1
             8  [SEP]        3        1
    """
    return views.TokensView(readings.read(self, *tokens.checked([text] if pair is None else [text, pair])))

  def show_masks(self, text: str, top_k: int = 5) -> views.MasksView:
    """What the model expects in the place of each word, and of it from the left or the right context alone.

    Args:
      text: `[MASK]`, or the tokenizer's own mask token, stays a mask in it.
      top_k: tokens shown of each place.

    Raises:
      ValueError: the text is longer than the model's positions or has no word, top_k is out of its range, or the model
        was not made to fill masks.
    """
    read = readings.read(self, *tokens.checked([text]))
    return views.MasksView(read, guesses.one_by_one(self, read, top_k))

  def show_attention(self, text: str, pair: str | None = None) -> views.AttentionView:
    """What each head of each layer looks at.

    Raises:
      ValueError: the text has more tokens than the model has positions, or more than can be drawn.
    """
    read = readings.read(self, *tokens.checked([text] if pair is None else [text, pair]))
    return views.AttentionView.of(self, read)

  # ---- a task's head ----

  def logits(self, texts: Any, *, batch_size: int = 32) -> Any:
    """What the model's head says of texts, before any softmax.

    Classes are in the order of `class_names`.

    Args:
      texts: a list of texts; each is a str, or a tuple of two that are read as a pair (two sentences, or a question
        and its context). For `multiple_choice`, each is a list of A such answers. One str or tuple is one text.
      batch_size: texts at a time.

    Returns:
      float32, without the first axis for one text. It depends on the network:
      `sequence_classification` [N, C]; `sentence_pairs` [N, 2], of which 0 is "next"; `multiple_choice` [N, A].
      The networks that answer for each token give a list of N arrays with a row for each token, special ones included
      (for a single text, those of `encode`): `token_classification` [T, C]; `question_answering` [T, 2], start and end;
      `replaced_tokens` [T].

    Raises:
      ValueError: the network is another; a text is neither a str nor a pair, or has more tokens than the model has
        positions.
    """
    one = isinstance(texts, str | tuple)
    self.require_tokenizer()
    found = scores.logits(self, [texts] if one else list(texts), batch_size)
    return found[0] if one else found

  def predict(self, texts: Any, *, batch_size: int = 32) -> Any:
    """What the model's head says of texts.

    A text longer than those that the head was fine-tuned on is cut, and the log says how many are; taggers and models
    that find answers read it in windows.

    Args:
      texts: a list. For a classifier each is a str, or a tuple of two that are read as a pair; for a tagger a str, or a
        list of its words; for question answering a tuple of a question and a passage; for multiple choice a list of
        texts or pairs to choose from; for an encoder a tuple of two texts to compare. One str or tuple is one text.
      batch_size: texts at a time.

    Returns:
      A prediction for each text, in their order; for one text, without the list. Of a classifier it is a `Prediction`
      (or `Labels`, or a `Value`, by `problem`), of a tagger `Tags`, of question answering an `Answer`, of multiple
      choice a `Choice`, of an encoder a `Value`, the cosine; see `bert_jax.inference.predictions`.

    Raises:
      ValueError: the model has no such head; a text is not what it reads.

    Examples:
      >>> classifier = bert_jax.load("CLASSIFIER")
      >>> first, second = classifier.predict(["Snow is white.", "The sea is cold."])
      >>> first.label in classifier.class_names
      True
    """
    one = isinstance(texts, str | tuple)
    found = predictions.predict(self, [texts] if one else list(texts), batch_size)
    return found[0] if one else found

  # ---- masks ----

  def fill_mask(self, text: str, top_k: int = 5) -> list[Candidate] | list[list[Candidate]]:
    """The likeliest tokens in the place of a mask; see `fill_masks`.

    Returns:
      The candidates of the mask, the likeliest first; for several masks, such a list for each. `fill_masks` always
      gives a list for each.

    Examples:
      >>> first, *others = model.fill_mask("Snow is [MASK].", top_k=3)
      >>> first.sequence.startswith("Snow is")
      True
      >>> first.probability >= others[0].probability
      True
    """
    found = self.fill_masks(text, top_k)
    return found if len(found) > 1 else found[0]

  def fill_masks(self, text: str, top_k: int = 5) -> list[list[Candidate]]:
    """The likeliest tokens in the place of each mask, special tokens left out.

    Args:
      text: with `[MASK]`, or the tokenizer's own mask token, once or more.
      top_k: candidates of a mask.

    Returns:
      For each mask its candidates, the likeliest first. Masks are filled independently.

    Raises:
      ValueError: there is no mask, the text is longer than the model's positions, top_k is out of its range, or
        the model was not made to fill masks.
    """
    self.require_tokenizer()
    return masks.fill(self, tokens.checked([text])[0], top_k)

  def check_length(self, length: int) -> None:
    """Raises ValueError where a text of so many tokens is longer than the model's positions."""
    most = self.config.longest_input
    if most is not None and length > most:
      raise ValueError(
        f"the text has {length} tokens, special ones counted, and the model's positions end at"
        f" model.max_positions={most}; shorten it"
      )


def _head_of(objective: Objective) -> dict[str, Any]:
  """What a model says of the head that an objective trains."""
  if isinstance(objective, ClassificationConfig):
    names = ("num_classes", "problem")
    return {name: getattr(objective, name) for name in names} | {"classifier_pooling": objective.pooling}
  if isinstance(objective, TaggingConfig):
    return {"num_classes": objective.num_classes}
  if isinstance(objective, SimilarityConfig):
    return {"embedding": EmbeddingSettings(objective.pooling, normalize=True)}
  return {}
