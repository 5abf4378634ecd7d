"""Encoders of the BERT family in JAX: pretrain, compare, transfer."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from bert_jax.config import Config
  from bert_jax.transfer.inference import Attentions, Encoding, Model, TokenEmbeddings
  from bert_jax.transfer.masks import Candidate

__version__ = "0.1.0"
__all__ = ["Attentions", "Candidate", "Config", "Encoding", "Model", "TokenEmbeddings", "load"]

_MODULE_OF = {
  "Config": "config",
  "Candidate": "transfer.masks",
  **dict.fromkeys(("Attentions", "Encoding", "Model", "TokenEmbeddings"), "transfer.inference"),
}


def __getattr__(name: str) -> Any:
  """Public names, imported when they are asked for: `import bert_jax` is instant, and JAX is not."""
  if name in _MODULE_OF:
    return getattr(importlib.import_module(f"bert_jax.{_MODULE_OF[name]}"), name)
  if name in ("architectures", "config", "recipes", "scales"):
    return importlib.import_module(f"bert_jax.{name}")
  raise AttributeError(f"module 'bert_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__, "architectures", "config", "recipes", "scales"})


def load(path: "str | os.PathLike[str]", step: int | None = None, head: str | None = None) -> "Model":
  """Opens a pretrained model, on one device, whatever devices saved it.

  Args:
    path: a workdir with one run, a run's folder or a checkpoint's; a folder that `bert-jax import` wrote; or a Hugging
      Face folder (config.json, model.safetensors, tokenizer). Nothing else is needed. Where there is nothing of that
      name, a model of the Hugging Face hub: NAME, OWNER/NAME, or with @REVISION.
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
