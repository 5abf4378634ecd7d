"""Encoders of the BERT family in JAX: pretrain, compare, transfer."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from bert_jax.config import Config
  from bert_jax.inference.masks import Candidate
  from bert_jax.inference.model import Model
  from bert_jax.inference.predictions import Prediction
  from bert_jax.inference.tokens import Attentions, Encoding, TokenEmbeddings

__version__ = "0.1.0"
__all__ = ["Attentions", "Candidate", "Config", "Encoding", "Model", "Prediction", "TokenEmbeddings", "load"]

_MODULE_OF = {
  "Config": "config",
  "Candidate": "inference.masks",
  "Model": "inference.model",
  "Prediction": "inference.predictions",
  **dict.fromkeys(("Attentions", "Encoding", "TokenEmbeddings"), "inference.tokens"),
}


def __getattr__(name: str) -> Any:
  """Public names, imported when they are first used: `import bert_jax` is instant, and JAX is not."""
  if name in _MODULE_OF:
    return getattr(importlib.import_module(f"bert_jax.{_MODULE_OF[name]}"), name)
  if name in ("architectures", "config", "recipes", "scales"):
    return importlib.import_module(f"bert_jax.{name}")
  raise AttributeError(f"module 'bert_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__, "architectures", "config", "recipes", "scales"})


def load(path: "str | os.PathLike[str]", step: int | None = None, head: str | None = None) -> "Model":
  """Opens a model; it answers on one device, whatever devices saved it.

  Args:
    path: a workdir with one run, the folder of a run or of a checkpoint; a folder that `bert-jax import` wrote; or a
      Hugging Face folder (config.json, model.safetensors, tokenizer). Nothing else is needed. Where no folder has that
      name, a model on the Hugging Face hub: NAME, OWNER/NAME, or either with @REVISION.
    step: the checkpoint of a run; by default the best one, or the latest where none was evaluated.
    head: the network to open, where it is not the one that the config.json of a Hugging Face folder names, or not the
      first that a run trained.

  Returns:
    The model, which has `encode`, `embed`, `token_embeddings`, `attentions`, `logits`, `predict`, `fill_mask`, `save`
    and `export`; `show_tokens`, `show_masks` and `show_attention`; and its config, tokenizer and parameters.

  Raises:
    ValueError: there is no model, or there are several runs (which are listed), or the model is damaged (for a
      checkpoint, the error names the one before).

  Examples:
    >>> model = bert_jax.load("MODEL")
    >>> model.config.kind
    'bert'
  """
  from bert_jax.interop import load as loading  # not above: `import bert_jax` is instant, and JAX is not

  return loading.load(path, step, head)
