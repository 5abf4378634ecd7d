"""Rows as XLNet reads them. B batch, T tokens, K predictions."""

from collections.abc import Mapping

import jax.numpy as jnp

from bert_jax.models.arrays import Array

_CLS_SEGMENT = 2  # data_utils.py, SEG_ID_CLS
_BY_TOKEN = ("token_ids", "segment_ids", "attention_mask", "ranks")


def cls_last(batch: Mapping[str, Array]) -> dict[str, Array]:
  """A batch of `<cls> text <sep> text <sep>` as `text <sep> text <sep> <cls>`, whose <cls> is a segment of its own.

  Done here, so that the batches of the host are the same for all arms. The padding stays behind: XLNet pads in front,
  but knows distances alone, so that both read the same, and here the text stands next to its memory.

  Args:
    batch: token_ids, segment_ids, attention_mask and, where they are, ranks, all [B, T]; mlm_positions [B, K]. What
      else it has is passed on.
  """
  length = batch["token_ids"].shape[1]
  places = jnp.arange(length)[None]
  last = jnp.maximum(jnp.sum(batch["attention_mask"], axis=1, dtype=jnp.int32) - 1, 0)[:, None]  # of padding alone: 0
  source = jnp.where(places < last, places + 1, jnp.where(places == last, 0, places))
  moved = {name: jnp.take_along_axis(batch[name], source, axis=1) for name in _BY_TOKEN if name in batch}
  moved["segment_ids"] = jnp.where(places == last, _CLS_SEGMENT, moved["segment_ids"])
  positions = batch["mlm_positions"]
  moved["mlm_positions"] = jnp.where(positions == 0, last, positions - 1)
  return {**batch, **moved}
