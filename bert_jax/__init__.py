"""Encoders of the BERT family in JAX: pretrain, compare, transfer."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from bert_jax.transfer.inference import Model

__version__ = "0.1.0"


def load(path: "str | os.PathLike[str]", step: int | None = None, head: str | None = None) -> "Model":
  """Opens a pretrained model, on one device, whatever devices saved it.

  Args:
    path: a workdir with one run, a run's folder or a checkpoint's; a folder that `bert-jax import` wrote; or a Hugging
      Face folder (config.json, model.safetensors, tokenizer). Nothing else is needed.
    step: of a run, which checkpoint; without it the best one, or the latest where none was evaluated.
    head: of a Hugging Face folder, the network to make of it where it is not the one that its config.json names.

  Returns:
    The model, with `encode`, `embed`, `token_embeddings`, `attentions` and `fill_mask`, and its config, tokenizer and
    parameters.

  Raises:
    ValueError: there is no model there, or there are several runs (which are listed), or it is damaged (of a
      checkpoint, the one before is named).
  """
  from bert_jax.transfer import inference  # not above: `import bert_jax` is instant, and JAX is not

  return inference.load(path, step, head)
