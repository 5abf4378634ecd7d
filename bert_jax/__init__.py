"""Encoders of the BERT family in JAX: pretrain, compare, transfer."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from bert_jax.transfer.inference import Model

__version__ = "0.1.0"


def load(path: "str | os.PathLike[str]", step: int | None = None) -> "Model":
  """Opens a pretrained model, on one device, whatever devices saved it.

  Args:
    path: a workdir with one run, a run's folder, or a checkpoint's. Nothing else is needed.
    step: which checkpoint; without it the best one, or the latest where none was evaluated.

  Returns:
    The model, with `fill_mask`, and its config, tokenizer, parameters and step.

  Raises:
    ValueError: there is no run there, or there are several (which are listed), or the checkpoint is damaged (the one
      before is named).
  """
  from bert_jax.transfer import inference  # not above: `import bert_jax` is instant, and JAX is not

  return inference.load(path, step)
