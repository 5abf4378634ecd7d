"""Fetches models from the Hugging Face hub into its own cache: only the files that bert_jax reads.

HF_ENDPOINT says where the hub is, HF_HOME where its cache is, and HF_TOKEN gives access to private models; these
are settings of huggingface_hub.
"""

import fnmatch
import os
import re
from collections.abc import Sequence
from typing import Any

from absl import logging
from etils import epath

from bert_jax.interop.tokenizer_files import TOKENIZER_FILES

_NAME = re.compile(r"(?!.*\.\.)\w[\w.-]{0,95}(/\w[\w.-]{0,95})?(@[\w./-]{1,255})?", re.ASCII)
_INNER = "0_Transformer/"  # where sentence-transformers kept a model before its version 2
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
_BESIDE = (
  *("README.md", "config.json", "bert_config.json", "modules.json", "sentence_bert_config.json"),
  *("config_sentence_transformers.json", "[0-9]_*/config.json", *TOKENIZER_FILES),
)


def fetch(path: epath.PathLike) -> tuple[epath.Path, str]:
  """The folder of a model, and where it came from.

  Args:
    path: a folder, or where nothing of that name exists, the name of a model on the hub: NAME or OWNER/NAME, and with
      @REVISION a branch, tag or commit of it.

  Returns:
    The folder, and a text with the name and commit of the model; it is empty where `path` is a folder.

  Raises:
    ValueError: there is neither a folder nor such a model, the hub cannot be reached and has left nothing in its cache,
      or the model has no weights that bert_jax reads.
  """
  folder = epath.Path(path)
  if folder.exists() or not _NAME.fullmatch(os.fspath(path)):
    return folder, ""
  name, _, revision = os.fspath(path).partition("@")
  import huggingface_hub  # not above: it takes a quarter of a second
  from huggingface_hub import errors

  try:
    info = huggingface_hub.HfApi().model_info(name, revision=revision or None)
  except errors.GatedRepoError as error:
    raise ValueError(f"{name} is on the hub and asks for its terms to be accepted; do so, and set HF_TOKEN") from error
  except errors.RevisionNotFoundError as error:
    raise ValueError(f"{name} has no revision {revision}; leave @{revision} out for its newest") from error
  except errors.RepositoryNotFoundError as error:
    raise ValueError(
      f"{path} is no folder here, and the hub has no model of that name (or none that you may see: set HF_TOKEN)"
    ) from error
  except Exception as error:  # network errors differ between versions of the library
    return _from_cache(name, revision, error)
  files = _chosen([file.rfilename for file in info.siblings or []], name)
  logging.info("fetching %s from the hub, as of %s: %s", name, info.sha, ", ".join(files))
  try:
    # By the name that was asked for, so that the cache knows it without a network; the folder's name is the commit.
    got = epath.Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=files))
  except Exception as error:
    raise ValueError(
      f"{name} could not be fetched whole: {_said(error)}; start again, it goes on where it was"
    ) from error
  return got, f"{name} of the Hugging Face hub, commit {got.name}"


def _from_cache(name: str, revision: str, reason: Exception) -> tuple[epath.Path, str]:
  """The folder that an earlier fetch left in the cache, and its origin."""
  import huggingface_hub

  try:
    # Without patterns, the files that were never fetched would count as missing.
    got = epath.Path(
      huggingface_hub.snapshot_download(
        name, revision=revision or None, local_files_only=True, allow_patterns=[*_WEIGHTS, *_BESIDE, f"{_INNER}*"]
      )
    )
  except Exception:
    got = None
  if got is None or not (got / "config.json").is_file():
    raise ValueError(
      f"{name} is no folder here, and the hub cannot be reached to look for a model of that name ({_said(reason)});"
      " give the path of a folder, or fetch it where there is a network: `hf download NAME --local-dir FOLDER`"
    ) from reason
  logging.warning("the hub cannot be reached; %s is what was fetched before, commit %s", name, got.name)
  return got, f"{name} of the Hugging Face hub, commit {got.name}"


def _chosen(files: Sequence[str], name: str) -> list[str]:
  """The files of a model that bert_jax reads."""

  def matching(patterns: Sequence[str]) -> list[str]:
    patterns = [*patterns, *(_INNER + p for p in patterns)]
    found = [
      file for file in files for p in patterns if fnmatch.fnmatchcase(file, p) and file.count("/") == p.count("/")
    ]
    return sorted(set(found))

  weights = matching(_WEIGHTS) or matching(["flax_model.msgpack"])
  if not weights:
    others = [file for file in files if file.endswith((".bin", ".pt", ".h5", ".ckpt", ".msgpack", ".safetensors"))]
    raise ValueError(
      f"{name} has no model.safetensors on the hub, but {', '.join(others) or 'no weights'}; look for a revision that"
      " has (NAME@refs/pr/N), or open it with transformers and save_pretrained it to a folder"
    )
  return matching(_BESIDE) + weights


def _said(error: Any) -> str:
  return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]
