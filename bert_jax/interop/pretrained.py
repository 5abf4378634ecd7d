"""A pretrained model in memory: what the bridge reads, writes and hands on."""

import dataclasses
import hashlib
from typing import Any, Literal

import jax
import numpy as np
from etils import epath
from flax import traverse_util

from bert_jax import foreign
from bert_jax.architectures import EncoderConfig
from bert_jax.data import tokenizers
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.interop.families import family_of

TOKENIZER_FILES = (
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.txt",
  "vocab.json",
  "merges.txt",
  "spiece.model",
  "spm.model",
  "sentencepiece.bpe.model",
)


@dataclasses.dataclass(frozen=True)
class Embedding:
  """How a model was made to embed texts, as sentence-transformers' files say.

  Attributes:
    pooling: which; None where nothing is said.
    normalize: to length 1.
    max_tokens: of a text, special ones counted; None where nothing is said.
  """

  pooling: Literal["cls", "mean", "max"] | None = None
  normalize: bool = False
  max_tokens: int | None = None


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A network with its parameters, its tokenizer and what came with them.

  Attributes:
    config: of the encoder.
    network: a name of `networks.NETWORKS`.
    params: numpy arrays, float32.
    tokenizer: None where it came without one.
    num_classes: of a classifier's head.
    embedding: how it embeds texts, where that is known.
    source: the config.json that it came with; empty for a model of our own.
    files: name → content of the tokenizer's and sentence-transformers' files that it came with.
    origin: name and commit of a model from the hub; empty for others.
  """

  config: EncoderConfig
  network: str
  params: Any = dataclasses.field(repr=False)
  tokenizer: Tokenizer | None
  num_classes: int = 2
  embedding: Embedding = Embedding()
  source: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
  files: dict[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
  origin: str = ""


class UnreadableTokenizer(ValueError):
  """The tokenizer cannot be read; the weights of its model still can."""


def read_tokenizer(folder: epath.Path, config: EncoderConfig, model_type: str | None = None) -> Tokenizer | None:
  """The tokenizer of a folder, with its config.json's model_type; None where there is none.

  Raises:
    UnreadableTokenizer: it is damaged, or none that we have the rules of.
    ValueError: it has more tokens than the model.
  """
  if not any(
    foreign.is_file(folder, name) for name in TOKENIZER_FILES if "config" not in name and "special" not in name
  ):
    return None
  try:
    tokenizer = tokenizers.load(folder, None, family_of(config).lowercases, model_type)
  except ValueError as error:
    raise UnreadableTokenizer(str(error)) from error
  known = config.vocab_size
  if known is not None and tokenizer.vocab_size > known:
    raise ValueError(
      f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, and the model's vocab_size is {known}: it is not"
      " this model's; put the model's own there"
    )
  return tokenizer


def files_of(folder: epath.Path) -> list[str]:
  """The files of a folder and of the folders in it, sorted, by their paths in it."""
  top = list(folder.iterdir())  # no glob: the folder's own path may hold brackets
  found = [path for path in [*top, *(path for sub in top if sub.is_dir() for path in sub.iterdir())] if path.is_file()]
  return sorted(str(path.relative_to(folder)) for path in found)


def sha256(content: bytes) -> str:
  """In hex."""
  return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: epath.Path) -> str:
  """In hex; the file is read in parts."""
  hasher = hashlib.sha256()
  with path.open("rb") as file:
    while part := file.read(2**20):
      hasher.update(part)
  return hasher.hexdigest()


def fingerprint(params: Any) -> str:
  """sha256 of the parameters, in hex: equal bits, equal text."""
  hasher = hashlib.sha256()
  for path, array in sorted(flat(params).items()):
    hasher.update(path.encode())
    hasher.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return hasher.hexdigest()


def flat(params: Any) -> dict[str, np.ndarray]:
  """`encoder/layers/query/kernel` → array."""
  return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}


def nested(arrays: dict[str, np.ndarray]) -> Any:
  """The inverse of `flat`."""
  return traverse_util.unflatten_dict(arrays, sep="/")


def describe(model: Pretrained) -> str:
  """In a line, for people."""
  parameters = sum(x.size for x in jax.tree.leaves(model.params))
  tokenizer = f"{model.tokenizer.vocab_size} tokens" if model.tokenizer else "no tokenizer"
  return f"{model.config.kind}, {model.network}, {parameters:,} parameters, {tokenizer}"
