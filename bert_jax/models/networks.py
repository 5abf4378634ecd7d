"""Encoders with heads: what a run trains, a checkpoint holds and a task uses.

B batch, T tokens, D hidden size, K predictions, V vocabulary, C classes, A answers to choose from, N starts.

All take token_ids and segment_ids, int [B, T], attention_mask, bool [B, T], and the dropout's key. Their parameters
are `encoder`, the same in all of them, and their heads': so one network's encoder drops into another.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from bert_jax.config import EncoderConfig, ModelConfig
from bert_jax.models.bert import MlmHead, Pooler, RobertaPooler
from bert_jax.models.dropout import DropoutKey, dropout
from bert_jax.models.electra import DiscriminatorHead
from bert_jax.models.family import architecture_of
from bert_jax.models.modernbert import ModernBertEncoder
from bert_jax.models.module import Encoded, EncoderModule, text_mean
from bert_jax.models.vocabulary import VocabularyScores


class Network(EncoderModule):
  """What all networks have."""

  def encode(self, *inputs: Any, **more: Any) -> Encoded:
    return architecture_of(self.config).encoder(**self.settings(), name="encoder")(*inputs, **more)

  def pool(self, encoded: Encoded, attention_mask: jax.Array, key: DropoutKey | None) -> jax.Array:
    c, pooler = self.config, architecture_of(self.config).pooler
    if type(c) is ModelConfig and not c.pooler:
      pooler = RobertaPooler  # as for all models that get their pooler for a task
    place = key and key.fold_in(c.num_layers + 1)
    return pooler(**self.settings(), name="pooler")(encoded.hidden, attention_mask, place)

  def score(self, encoded: Encoded, mlm_positions: jax.Array | None) -> VocabularyScores:
    """Scores of the vocabulary at mlm_positions, int [B, K]; None for all T."""
    scored = encoded.hidden
    if mlm_positions is not None:
      scored = jnp.take_along_axis(scored, mlm_positions[..., None], axis=1)
    biased = architecture_of(self.config).encoder is not ModernBertEncoder
    return MlmHead(**self.settings(), use_bias=biased, name="mlm_head")(scored, encoded.words)

  def classify(self, x: jax.Array, classes: int, rate: float, key: DropoutKey | None) -> jax.Array:
    """Dropout and a task's linear layer: [..., D] → float32 [..., C]."""
    x = dropout(x, rate, key and key.fold_in(self.config.num_layers + 2))  # places up to num_layers are the encoder's
    return self.dense(classes, "classifier")(x).astype(jnp.float32)

  def outputs(self, encoded: Encoded, **more: Any) -> dict[str, Any]:
    found = {"hidden": encoded.hidden, **more}
    if self.record:
      found |= {"hidden_states": encoded.hidden_states, "attentions": encoded.attentions}
    return found


class ForPretraining(Network):
  """The encoder with masked-token prediction and, where the architecture has a pooler, a sentence pair's label."""

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    mlm_positions: jax.Array | None = None,
    key: DropoutKey | None = None,
  ) -> dict[str, Any]:
    """Encodes a batch and scores it.

    Args:
      mlm_positions: int [B, K], the positions to score; None for all T.

    Returns:
      `hidden` float32 [B, T, D]; `mlm_scores`, `VocabularyScores` of [B, K, V] (or [B, T, V]); with a pooler also
      `pooled` float32 [B, D] and `nsp_logits` float32 [B, 2], in which 0 is "next" and 1 "random" (BERT), or 0 "in
      order" and 1 "swapped" (ALBERT).
    """
    c = self.config
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    outputs = self.outputs(encoded, mlm_scores=self.score(encoded, mlm_positions))
    if isinstance(c, ModelConfig) and c.pooler:
      outputs["pooled"] = Pooler(**self.settings(), name="pooler")(encoded.hidden, attention_mask)
      outputs["nsp_logits"] = self.dense(2, "nsp_head")(outputs["pooled"]).astype(jnp.float32)
    return outputs


class ForSentencePairs(Network):
  """The encoder, its pooler and a sentence pair's label alone."""

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None
  ) -> dict[str, Any]:
    """→ `nsp_logits` float32 [B, 2]; see `ForPretraining`."""
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    pooled = Pooler(**self.settings(), name="pooler")(encoded.hidden, attention_mask)
    return self.outputs(encoded, nsp_logits=self.dense(2, "nsp_head")(pooled).astype(jnp.float32))


class ForEncoding(Network):
  """The encoder alone, with its pooler where it was pretrained with one."""

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None
  ) -> dict[str, Any]:
    """→ `hidden` float32 [B, T, D], and `pooled` float32 [B, D] where there is a pooler."""
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    if isinstance(self.config, ModelConfig) and self.config.pooler:
      return self.outputs(encoded, pooled=Pooler(**self.settings(), name="pooler")(encoded.hidden, attention_mask))
    return self.outputs(encoded)


class ForEnhancedMaskedLM(Network):
  """DeBERTa with its enhanced mask decoder, as its authors pretrain it (Hugging Face's model has no such decoder)."""

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    mlm_positions: jax.Array | None = None,
    key: DropoutKey | None = None,
  ) -> dict[str, Any]:
    """See `ForPretraining`."""
    encoder = architecture_of(self.config).encoder(**self.settings(), enhanced=True, name="encoder")
    encoded = encoder(token_ids, segment_ids, attention_mask, key)
    return self.outputs(encoded, mlm_scores=self.score(encoded, mlm_positions))


class ForReplacedTokens(Network):
  """ELECTRA's discriminator."""

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None
  ) -> dict[str, Any]:
    """→ `replaced_logits` float32 [B, T], above 0 for replaced."""
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    head = DiscriminatorHead(**self.settings(), name="discriminator_head")
    return self.outputs(encoded, replaced_logits=head(encoded.hidden))


class ForPermutationLM(Network):
  """XLNet with its language model: scores through the word table, without a layer between."""

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    key: DropoutKey | None = None,
    perm_mask: jax.Array | None = None,
    target_mapping: jax.Array | None = None,
    memory: jax.Array | None = None,
  ) -> dict[str, Any]:
    """→ `mlm_scores` of [B, K, V] (or [B, T, V] without `target_mapping`); arguments as of `XlnetEncoder`."""
    more = {"perm_mask": perm_mask, "target_mapping": target_mapping, "memory": memory}
    encoded = self.encode(token_ids, segment_ids, attention_mask, key, **more)
    bias = self.param("lm_bias", nn.initializers.zeros, (encoded.words.shape[0],))
    return self.outputs(encoded, mlm_scores=VocabularyScores(encoded.hidden.astype(self.dtype), encoded.words, bias))


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
  pooling: Literal["cls", "first", "mean"] = "cls"

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None
  ) -> dict[str, Any]:
    """→ `logits` float32 [B, C]."""
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    if self.pooling == "mean":
      pooled = text_mean(encoded.hidden, attention_mask)
    elif self.pooling == "first":
      pooled = encoded.hidden[:, 0]
    else:
      pooled = self.pool(encoded, attention_mask, key)
    return self.outputs(encoded, logits=self.classify(pooled, self.num_classes, self.head_rate(), key))


class ForTokenClassification(Network):
  """One label for each token: dropout, linear.

  Attributes:
    num_classes: C.
  """

  num_classes: int = 2

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None
  ) -> dict[str, Any]:
    """→ `logits` float32 [B, T, C]."""
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    x = encoded.hidden
    layer = architecture_of(self.config).token_layer
    if layer is not None:
      x = layer(**self.settings(), name="token_layer")(x)
    return self.outputs(encoded, logits=self.classify(x, self.num_classes, self.head_rate(), key))


class ForMultipleChoice(Network):
  """Which of A texts fits: each is scored by itself."""

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None
  ) -> dict[str, Any]:
    """token_ids, segment_ids, attention_mask: [B, A, T]; the key's rows are B · A → `logits` float32 [B, A]."""
    choices = token_ids.shape[:2]
    flat = [x.reshape(-1, x.shape[-1]) for x in (token_ids, segment_ids, attention_mask)]
    encoded = self.encode(*flat, key)
    logits = self.classify(self.pool(encoded, flat[2], key), 1, self.head_rate(), key)
    return self.outputs(encoded, logits=logits.reshape(choices))


class ForQuestionAnswering(Network):
  """Where an answer starts and ends: a linear layer with two outputs (Devlin et al. 2018, 4.2)."""

  @nn.compact
  def __call__(
    self, token_ids: jax.Array, segment_ids: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None
  ) -> dict[str, Any]:
    """→ `start_logits` and `end_logits`, float32 [B, T]."""
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    x, rate = encoded.hidden, getattr(self.config, "span_dropout", 0.0)
    layer = architecture_of(self.config).token_layer
    if layer is not None:
      x, rate = layer(**self.settings(), name="token_layer")(x), self.head_rate()
    logits = self.classify(x, 2, rate, key)
    return self.outputs(encoded, start_logits=logits[..., 0], end_logits=logits[..., 1])


class ForSpans(Network):
  """Question answering with the end given the start and answerability: XLNet's and ELECTRA's."""

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    starts: jax.Array,
    key: DropoutKey | None = None,
  ) -> dict[str, Any]:
    """starts: int [B, N] → `start_logits` [B, T], `end_logits` [B, N, T], `no_answer_logits` [B], all float32."""
    encoded = self.encode(token_ids, segment_ids, attention_mask, key)
    head = architecture_of(self.config).span_head
    assert head is not None, type(self.config)
    start, end, answer = head(**self.settings(), name="span_head")(encoded.hidden, attention_mask, starts)
    return self.outputs(encoded, start_logits=start, end_logits=end, no_answer_logits=answer)


NETWORKS: dict[str, type[Network]] = {
  "encoder": ForEncoding,
  "pretraining": ForPretraining,
  "masked_lm": ForPretraining,
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


def build(name: str, config: EncoderConfig, num_classes: int = 2, **computation: Any) -> Network:
  """The network of a name in `NETWORKS`.

  Args:
    num_classes: of a classifier; the other networks have none.
    computation: attributes of `EncoderModule` beside the config.
  """
  classes = {"num_classes": num_classes} if name in CLASSIFIERS else {}
  return NETWORKS[name](config, **classes, **computation)


def initial(name: str, config: EncoderConfig, num_classes: int = 2) -> Callable[[], Any]:
  """A function that makes the parameters of seed 0; `jax.eval_shape` of it gives their shapes."""
  network = build(name, config, num_classes, scan_layers=True)
  token_ids = jnp.zeros((1, 1, 2) if name == "multiple_choice" else (1, 2), jnp.int32)
  more = (jnp.zeros((1, 1), jnp.int32),) if name == "spans" else ()
  return lambda: network.init(jax.random.key(0), token_ids, token_ids, token_ids == 0, *more)["params"]


# ---- one vector for a text --------------------------------------------------------------------------------------


def embed(
  hidden: jax.Array, attention_mask: jax.Array, pooling: Literal["cls", "mean", "max"], normalize: bool
) -> jax.Array:
  """A text's embedding (Reimers and Gurevych 2019, section 3): float32 [B, T, D] and bool [B, T] → [B, D].

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
