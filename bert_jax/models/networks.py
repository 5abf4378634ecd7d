"""Encoders with heads: what a run trains, a checkpoint holds and a task uses.

B batch, T tokens, D hidden size, K predictions, V vocabulary, C classes, A answers to choose from, N starts.

All take `Inputs` and noise. Their parameters are `encoder`, the same in all of them, and their heads': so one network's
encoder drops into another.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Bool, Float, Float32, Int

from bert_jax.architectures import EncoderConfig
from bert_jax.models import inputs as inputs_of
from bert_jax.models.arrays import Array
from bert_jax.models.bert import Pooler
from bert_jax.models.dropout import Noise, OutsideLayers, dropout, outside_layers
from bert_jax.models.encoder import Encoded, EncoderModule, text_mean
from bert_jax.models.family import architecture_of
from bert_jax.models.inputs import Inputs
from bert_jax.models.vocabulary import VocabularyScores

ClassifierPooling = Literal["cls", "first", "mean"]


class Network(EncoderModule):
  """What all networks have."""

  def encode(self, inputs: Inputs, noise: Noise | None, **more: Any) -> Encoded:
    return architecture_of(self.config).encoder(**self.settings(), **more, name="encoder")(inputs, noise)

  def pool(self, encoded: Encoded, inputs: Inputs, noise: Noise | None) -> Float[Array, "B W"]:
    """A text's vector by the architecture's pooler, of its width: D, but for the crammed BERT."""
    place = outside_layers(noise, self.config.num_layers, OutsideLayers.POOLER)
    pooler = architecture_of(self.config).pooler(**self.settings(), name="pooler")
    return pooler(encoded.hidden, inputs.attention_mask, place)

  def pooled(self, encoded: Encoded, inputs: Inputs) -> Float[Array, "texts D"]:
    """A text's vector by the pooler of pretraining: BERT's, whatever the architecture.

    A row is one text, or where several are packed into it all that may be, row by row.
    """
    hidden, seen = encoded.hidden, inputs.attention_mask
    if inputs.sequence_starts is not None:
      firsts = at_positions(hidden, inputs.sequence_starts)
      hidden, seen = firsts.reshape(-1, 1, firsts.shape[-1]), jnp.ones((firsts.shape[0] * firsts.shape[1], 1), bool)
    return Pooler(**self.settings(), name="pooler")(hidden, seen)

  def score(self, encoded: Encoded, mlm_positions: Int[Array, "B K"] | None) -> VocabularyScores:
    """Scores of the vocabulary at these positions; None for all T."""
    scored = at_positions(encoded.hidden, mlm_positions)
    return architecture_of(self.config).mlm_head(**self.settings(), name="mlm_head")(scored, encoded.words)

  def label_pair(self, pooled: Float[Array, "texts D"]) -> Float32[Array, "texts 2"]:
    """Logits, of which 0 is "next" and 1 "random" (BERT), or 0 "in order" and 1 "swapped" (ALBERT)."""
    return self.dense(2, "nsp_head")(pooled).astype(jnp.float32)

  def classify(
    self, x: Float[Array, "*rows D"], classes: int, rate: float, noise: Noise | None
  ) -> Float32[Array, "*rows C"]:
    """Dropout and a task's linear layer."""
    x = dropout(x, rate, outside_layers(noise, self.config.num_layers, OutsideLayers.CLASSIFIER))
    return self.dense(classes, "classifier")(x).astype(jnp.float32)

  def outputs(self, encoded: Encoded, **more: Any) -> dict[str, Any]:
    found = {"hidden": encoded.hidden, **more}
    if self.record:
      found |= {"hidden_states": encoded.hidden_states, "attentions": encoded.attentions}
    return found


class ForPretraining(Network):
  """The encoder with masked-token prediction and a sentence pair's label."""

  @nn.compact
  def __call__(
    self, inputs: Inputs, noise: Noise | None = None, mlm_positions: Int[Array, "B K"] | None = None
  ) -> dict[str, Any]:
    """Encodes a batch and scores it.

    Args:
      mlm_positions: the positions to score; None for all T.

    Returns:
      `hidden` float32 [B, T, D]; `mlm_scores`, `VocabularyScores` of [B, K, V] (or [B, T, V]); `pooled` float32 [B, D];
      `pair_logits` float32 [B, 2], see `label_pair`. Of rows with several texts these are [B · S, D] and [B · S, 2].
    """
    encoded = self.encode(inputs, noise)
    scores, pooled = self.score(encoded, mlm_positions), self.pooled(encoded, inputs)
    return self.outputs(encoded, mlm_scores=scores, pooled=pooled, pair_logits=self.label_pair(pooled))


class ForMaskedLM(Network):
  """The encoder with masked-token prediction alone."""

  @nn.compact
  def __call__(
    self, inputs: Inputs, noise: Noise | None = None, mlm_positions: Int[Array, "B K"] | None = None
  ) -> dict[str, Any]:
    """→ `hidden` and `mlm_scores`; see `ForPretraining`."""
    encoded = self.encode(inputs, noise)
    return self.outputs(encoded, mlm_scores=self.score(encoded, mlm_positions))


class ForEnhancedMaskedLM(Network):
  """DeBERTa with its enhanced mask decoder, as its authors pretrain it (Hugging Face's model has no such decoder)."""

  @nn.compact
  def __call__(
    self, inputs: Inputs, noise: Noise | None = None, mlm_positions: Int[Array, "B K"] | None = None
  ) -> dict[str, Any]:
    """→ `hidden` and `mlm_scores`; see `ForPretraining`."""
    encoded = self.encode(inputs, noise, enhanced=True)
    return self.outputs(encoded, mlm_scores=self.score(encoded, mlm_positions))


class ForSentencePairs(Network):
  """The encoder, its pooler and a sentence pair's label alone."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """→ `pair_logits` float32 [B, 2]; see `label_pair`."""
    encoded = self.encode(inputs, noise)
    return self.outputs(encoded, pair_logits=self.label_pair(self.pooled(encoded, inputs)))


class ForEncoding(Network):
  """The encoder alone."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """→ `hidden` float32 [B, T, D]."""
    return self.outputs(self.encode(inputs, noise))


class ForPooledEncoding(Network):
  """The encoder with the pooler that it was pretrained with."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """→ `hidden` float32 [B, T, D] and `pooled` float32 [B, D]."""
    encoded = self.encode(inputs, noise)
    return self.outputs(encoded, pooled=self.pooled(encoded, inputs))


class ForReplacedTokens(Network):
  """The discriminator of ELECTRA and of DeBERTaV3."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """→ `replaced_logits` float32 [B, T], above 0 for replaced."""
    encoded = self.encode(inputs, noise)
    head = architecture_of(self.config).discriminator_head(**self.settings(), name="discriminator_head")
    return self.outputs(encoded, replaced_logits=head(encoded.hidden))


class ForPermutationLM(Network):
  """XLNet with its language model: scores through the word table, without a layer between."""

  @nn.compact
  def __call__(
    self, inputs: Inputs, noise: Noise | None = None, mlm_positions: Int[Array, "B K"] | None = None
  ) -> dict[str, Any]:
    """Encodes a batch and scores it.

    Args:
      inputs: with a `target_mapping`, what the query stream predicts is scored, otherwise the content stream.
      mlm_positions: the positions of the content stream to score; None for all T.

    Returns:
      `hidden` and `mlm_scores`, `VocabularyScores` of [B, K, V] (or [B, T, V]).
    """
    assert inputs.target_mapping is None or mlm_positions is None
    encoded = self.encode(inputs, noise)
    scored = at_positions(encoded.hidden, mlm_positions).astype(self.dtype)
    bias = self.param("lm_bias", nn.initializers.zeros, (encoded.words.shape[0],))
    return self.outputs(encoded, mlm_scores=VocabularyScores(scored, encoded.words, bias))


# ---- tasks ------------------------------------------------------------------------------------------------------


class ForSequenceClassification(Network):
  """One label for a text: a vector of it, dropout, linear.

  `encoder` and `pooler` are named as in `ForPretraining`, so its parameters drop in. An architecture that pretrains
  without a pooler gets one here.

  Attributes:
    num_classes: C.
    pooling: `cls` is the architecture's pooler, as published; `first` the first token as it is, ELECTRA's own way;
      `mean` the mean over the text's tokens.
  """

  num_classes: int = 2
  pooling: ClassifierPooling = "cls"

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """→ `logits` float32 [B, C]."""
    encoded = self.encode(inputs, noise)
    if self.pooling == "mean":
      pooled = text_mean(encoded.hidden, inputs.attention_mask)
    elif self.pooling == "first":
      pooled = encoded.hidden[:, 0]
    else:
      pooled = self.pool(encoded, inputs, noise)
    return self.outputs(encoded, logits=self.classify(pooled, self.num_classes, self.head_rate(), noise))


class ForTokenClassification(Network):
  """One label for each token: dropout, linear.

  Attributes:
    num_classes: C.
  """

  num_classes: int = 2

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """→ `logits` float32 [B, T, C]."""
    encoded = self.encode(inputs, noise)
    x = encoded.hidden
    layer = architecture_of(self.config).token_layer
    if layer is not None:
      x = layer(**self.settings(), name="token_layer")(x)
    return self.outputs(encoded, logits=self.classify(x, self.num_classes, self.head_rate(), noise))


class ForMultipleChoice(Network):
  """Which of A texts fits: each is scored by itself."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """inputs: of [B, A, T]; the noise has B · A rows → `logits` float32 [B, A]."""
    choices = inputs.token_ids.shape[:2]
    flat = inputs_of.flat(inputs)
    encoded = self.encode(flat, noise)
    logits = self.classify(self.pool(encoded, flat, noise), 1, self.head_rate(), noise)
    return self.outputs(encoded, logits=logits.reshape(choices))


class ForQuestionAnswering(Network):
  """Where an answer starts and ends: a linear layer with two outputs (Devlin et al. 2018, 4.2)."""

  @nn.compact
  def __call__(self, inputs: Inputs, noise: Noise | None = None) -> dict[str, Any]:
    """→ `start_logits` and `end_logits`, float32 [B, T]."""
    encoded = self.encode(inputs, noise)
    x, rate = encoded.hidden, self.config.span_dropout
    layer = architecture_of(self.config).token_layer
    if layer is not None:
      x, rate = layer(**self.settings(), name="token_layer")(x), self.head_rate()
    logits = self.classify(x, 2, rate, noise)
    return self.outputs(encoded, start_logits=logits[..., 0], end_logits=logits[..., 1])


class ForSpans(Network):
  """Question answering with the end given the start and answerability: XLNet's and ELECTRA's."""

  @nn.compact
  def __call__(
    self, inputs: Inputs, noise: Noise | None = None, starts: Int[Array, "B N"] | None = None
  ) -> dict[str, Any]:
    """→ `start_logits` [B, T], `end_logits` [B, N, T], `no_answer_logits` [B], all float32."""
    encoded = self.encode(inputs, noise)
    head = architecture_of(self.config).span_head
    assert head is not None, type(self.config)
    start, end, answer = head(**self.settings(), name="span_head")(encoded.hidden, inputs.attention_mask, starts)
    return self.outputs(encoded, start_logits=start, end_logits=end, no_answer_logits=answer)


NETWORKS: dict[str, type[Network]] = {
  "encoder": ForEncoding,
  "pooled_encoder": ForPooledEncoding,
  "pretraining": ForPretraining,
  "masked_lm": ForMaskedLM,
  "enhanced_masked_lm": ForEnhancedMaskedLM,
  "sentence_pairs": ForSentencePairs,
  "replaced_tokens": ForReplacedTokens,
  "permutation_lm": ForPermutationLM,
  "sequence_classification": ForSequenceClassification,
  "token_classification": ForTokenClassification,
  "multiple_choice": ForMultipleChoice,
  "question_answering": ForQuestionAnswering,
  "spans": ForSpans,
}


CLASSIFIERS = ("sequence_classification", "token_classification")


def build(
  name: str, config: EncoderConfig, num_classes: int = 2, pooling: ClassifierPooling = "cls", **computation: Any
) -> Network:
  """The network of a name in `NETWORKS`.

  Args:
    num_classes: of a classifier; the other networks have none.
    pooling: of a classifier of texts; the other networks have none.
    computation: attributes of `EncoderModule` beside the config.
  """
  classes = {"num_classes": num_classes} if name in CLASSIFIERS else {}
  pooled = {"pooling": pooling} if name == "sequence_classification" else {}
  return NETWORKS[name](config, **classes, **pooled, **computation)


def initial(
  name: str, config: EncoderConfig, num_classes: int = 2, pooling: ClassifierPooling = "cls"
) -> Callable[[], Any]:
  """A function that makes the parameters of seed 0; `jax.eval_shape` of it gives their shapes."""
  return lambda: init(build(name, config, num_classes, pooling, scan_layers=True), name, jax.random.key(0))


def init(network: Network, name: str, key: Array) -> Any:
  """Initial parameters of a network, which `name` says: a function of its settings and the key alone."""
  # The inputs are made here, and so in the trace of who calls: nothing of a trace is kept.
  inputs = inputs_of.example()
  if name == "multiple_choice":
    inputs = jax.tree.map(lambda x: x[:, None], inputs)
  more: dict[str, Any] = {"starts": jnp.zeros((1, 1), jnp.int32)} if name == "spans" else {}
  return network.init(key, inputs, **more)["params"]


def word_table(params: Any) -> Float[Array, "V E"]:
  """The word table of a network's parameters."""
  encoder = params["encoder"]
  return encoder.get("embeddings", encoder)["words"]


def at_positions(hidden: Float[Array, "B T D"], positions: Int[Array, "B K"] | None) -> Float[Array, "B K D"]:
  """The hidden states at these positions; None for all."""
  return hidden if positions is None else jnp.take_along_axis(hidden, positions[..., None], axis=1)


# ---- one vector for a text --------------------------------------------------------------------------------------


def embed(
  hidden: Float[Array, "B T D"],
  attention_mask: Bool[Array, "B T"],
  pooling: Literal["cls", "mean", "max"],
  normalize: bool,
) -> Float[Array, "B D"]:
  """A text's embedding (Reimers and Gurevych 2019, section 3).

  Args:
    pooling: the first token, or mean or maximum over the text's tokens.
    normalize: to length 1.
  """
  seen = attention_mask[..., None]
  if pooling == "cls":
    first = jnp.argmax(attention_mask, axis=1)
    pooled = jnp.take_along_axis(hidden, first[:, None, None], axis=1)[:, 0]
  elif pooling == "mean":
    pooled = text_mean(hidden, attention_mask)
  else:
    pooled = jnp.max(jnp.where(seen, hidden, -jnp.inf), axis=1)
  if normalize:
    pooled /= jnp.maximum(jnp.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
  return pooled
