"""A Hugging Face folder, or a TF1 checkpoint of google-research/bert, as a `Pretrained` model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from etils import epath
from flax import traverse_util

from bert_jax import foreign
from bert_jax.architectures import EncoderConfig
from bert_jax.interop import (
  array_names,
  completeness,
  configs,
  foreign_configs,
  network_choice,
  pretrained,
  prompts,
  sentence_folders,
  weights,
)
from bert_jax.interop.arrays import Entry, to_ours
from bert_jax.interop.families import family_of
from bert_jax.interop.pretrained import Pretrained
from bert_jax.interop.sentence_folders import CONFIG
from bert_jax.interop.stored import Arrays
from bert_jax.models import networks

TF1_CONFIG = "bert_config.json"


def is_huggingface(folder: epath.Path) -> bool:
  return any(foreign.is_regular(folder / name) for name in (CONFIG, TF1_CONFIG, sentence_folders.MODULES))


def read(folder: epath.PathLike, head: str | None = None, say: Callable[[str], None] = logging.info) -> Pretrained:
  """Reads a folder.

  Args:
    folder: with config.json (or bert_config.json), weights, and, as a rule, a tokenizer.
    head: the network to make of it, where it is not the one that config.json names. Then weights of other heads are
      left out, and those of a head that the file lacks are new (seed 0); both are said.
    say: is told in words what the user should know.

  Raises:
    ValueError: there is no config, or one that we do not compute; weights are missing, unexpected, of another shape,
      damaged or pickled; the tokenizer is another model's.
  """
  folder = epath.Path(folder)
  inner = sentence_folders.inner_folder(folder)
  opened = open_folder(inner, head, say)
  config, source = opened.config, opened.source
  params = to_ours(opened.arrays, [entry for entry in opened.entries if entry.key in opened.arrays])
  params = _with_new(params, opened)
  tokenizer = None
  try:
    tokenizer = pretrained.read_tokenizer(inner, config, source.get("model_type"))
    if tokenizer is None:
      say(f"{folder} holds no tokenizer: what is made of it reads token ids, not text")
  except pretrained.UnreadableTokenizer as error:
    say(f"the tokenizer cannot be read, so what is made of {folder} reads token ids, not text: {error}")
  assert config.vocab_size is not None
  if tokenizer is not None and tokenizer.vocab_size < config.vocab_size:
    say(
      f"the tokenizer has {tokenizer.vocab_size} tokens; the last {config.vocab_size - tokenizer.vocab_size} rows of"
      " the word table stand for none"
    )
  embedding = sentence_folders.fitting(sentence_folders.embedding_of(folder, inner), config, say)
  files = sentence_folders.files_of(folder, inner)
  prompts.read(files, str(folder))
  return Pretrained(config, opened.network, params, tokenizer, opened.num_classes, embedding, source, files)


def read_settings(folder: epath.Path) -> tuple[EncoderConfig, str | None]:
  """The settings of a folder's encoder and its model_type, without its weights; raises as `read`."""
  source, path = _config(folder)
  return configs.from_huggingface(source, path), source.get("model_type")


@dataclasses.dataclass(frozen=True)
class Opened:
  """A folder whose settings and arrays agree, and whose arrays are not read yet.

  Attributes:
    config: of the encoder.
    network: a name of `networks.NETWORKS`.
    num_classes: of a classifier's head.
    arrays: by Hugging Face's names; those of a head that is new are not there.
    entries: of all arrays of the network.
    shapes: the network's parameters, as shapes.
    source: config.json.
  """

  config: EncoderConfig
  network: str
  num_classes: int
  arrays: Arrays
  entries: list[Entry]
  shapes: Any
  source: dict[str, Any]


def open_folder(folder: epath.Path, head: str | None = None, say: Callable[[str], None] = logging.info) -> Opened:
  """Like `read`, but no array is read yet, except copies of tied ones, which are compared."""
  source, path = _config(folder)
  config = configs.from_huggingface(source, path)
  heads = family_of(config).heads
  if head is not None and head not in heads:
    raise ValueError(f"head={head!r} is none of this architecture's: {', '.join(heads)}")
  arrays, file = weights.read(folder)
  origin = str(folder / file)
  source, arrays = family_of(config).rename(source, array_names.modern(arrays), head)
  foreign_configs.encoder(config, len(arrays), path)
  network = head or network_choice.choose(source, config, arrays, path, say)
  arrays = array_names.arranged(arrays, config, network, origin)
  found = array_names.entries(config, network)
  if head is not None:
    arrays = completeness.without_other_tasks(arrays, found, configs.network_of(source), head, say)
  num_classes = _num_classes(network, found, arrays, source)
  shapes = jax.eval_shape(networks.initial(network, config, num_classes))
  arrays = completeness.complete(arrays, found, network, config, head is not None, origin, say)
  completeness.check_shapes(arrays, found, shapes, origin)
  return Opened(config, network, num_classes, arrays, found, shapes, source)


def _config(folder: epath.Path) -> tuple[dict[str, Any], str]:
  """The config.json of a folder, with types and ranges checked, and its path."""
  if not folder.is_dir():
    raise ValueError(f"{folder} is no folder; give one with config.json and model.safetensors")
  for name in (CONFIG, TF1_CONFIG):
    if foreign.is_file(folder, name):
      values, path = foreign.read_object(folder, name), str(folder / name)
      if name == TF1_CONFIG:  # google-research/bert saves its pretraining network, and its config does not name it
        values = {"model_type": "bert", "architectures": ["BertForPreTraining"]} | values
      foreign_configs.config(values, path)
      return values, path
  raise ValueError(f"{folder} has no {CONFIG} (nor {TF1_CONFIG}); give the folder that save_pretrained wrote")


def _num_classes(network: str, found: list[Entry], arrays: Arrays, source: dict[str, Any]) -> int:
  if network not in networks.CLASSIFIERS:
    return 2
  for entry in found:
    if entry.path == ("classifier", "bias") and entry.key in arrays and len(arrays[entry.key].shape) == 1:
      return arrays[entry.key].shape[0]
  return len(source.get("id2label") or {}) or int(source.get("num_labels") or 2)


def _with_new(params: Any, opened: Opened) -> Any:
  """`params`, and initial ones where they lack some."""
  there = pretrained.flat(params)
  lacking = set(traverse_util.flatten_dict(opened.shapes, sep="/")) - set(there)
  if not lacking:
    return params
  fresh = pretrained.flat(jax.jit(networks.initial(opened.network, opened.config, opened.num_classes))())
  return pretrained.nested({**there, **{path: fresh[path] for path in lacking}})
