"""The encoder with a head for a whole text (Devlin et al. 2018, 4.1; google-research/bert, run_classifier.py).

B batch, T tokens, D hidden size, C classes.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from bert_jax.models.bert import BertEncoder, BertModule, Pooler
from bert_jax.models.dropout import DropoutKey, dropout


class BertForSequenceClassification(BertModule):
  """Pooling, dropout, linear.

  `encoder` and `pooler` are named as in `BertForPretraining`, so its parameters drop in. A model that pretrains
  without a pooler gets one here, with dropout before it (RoBERTa: fairseq, roberta/model.py, classification head).

  Attributes:
    num_classes: C.
    pooling: `cls` is the pooler over the first token, as published; `mean` the mean over the text's tokens.
  """

  num_classes: int = 2
  pooling: Literal["cls", "mean"] = "cls"

  @nn.compact
  def __call__(
    self,
    token_ids: jax.Array,
    segment_ids: jax.Array,
    attention_mask: jax.Array,
    key: DropoutKey | None = None,
  ) -> jax.Array:
    """token_ids, segment_ids: int [B, T]; attention_mask: bool [B, T] → logits, float32 [B, C]."""
    c = self.config
    hidden, _ = BertEncoder(**self.settings(), name="encoder")(token_ids, segment_ids, attention_mask, key)
    # Places 0 to num_layers are the encoder's.
    before, after = (None, None) if key is None else (key.fold_in(c.num_layers + 1), key.fold_in(c.num_layers + 2))
    if self.pooling == "mean":
      weights = attention_mask / jnp.sum(attention_mask, axis=1, keepdims=True)
      pooled = jnp.einsum("btd,bt->bd", hidden, weights)
    else:
      first = hidden if c.pooler else dropout(hidden, c.hidden_dropout, before)
      pooled = Pooler(**self.settings(), name="pooler")(first)
    logits = self.dense(self.num_classes, "classifier")(dropout(pooled, c.hidden_dropout, after))
    return logits.astype(jnp.float32)
