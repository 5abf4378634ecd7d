"""Reads a model from a Hugging Face folder, or from a TF1 checkpoint of google-research/bert."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from etils import epath
from flax import traverse_util

from bert_jax import foreign
from bert_jax.architectures import EncoderConfig
from bert_jax.inference import prompts
from bert_jax.inference.model import Model
from bert_jax.interop import (
  array_names,
  completeness,
  configs,
  foreign_configs,
  network_choice,
  sentence_folders,
  tokenizer_files,
  weights,
)
from bert_jax.interop.arrays import Entry, to_ours
from bert_jax.interop.families import family_of
from bert_jax.interop.params import flat, nested
from bert_jax.interop.sentence_folders import CONFIG
from bert_jax.interop.stored import Arrays
from bert_jax.models import networks
from bert_jax.objective_configs import Problem

TF1_CONFIG = "bert_config.json"


def has_huggingface_files(folder: epath.Path) -> bool:
  return any(foreign.is_regular(folder / name) for name in (CONFIG, TF1_CONFIG, sentence_folders.MODULES))


def read(folder: epath.PathLike, head: str | None = None, say: Callable[[str], None] = logging.info) -> Model:
  """Reads a folder.

  Args:
    folder: with config.json (or bert_config.json), weights and usually a tokenizer.
    head: the network to make of it, where it is not the one that config.json names. Then weights of other heads are
      left out, and a head that the file lacks gets new ones (seed 0); `say` is told of both.
    say: is told in words what the user should know.

  Raises:
    ValueError: there is no config, or it asks for what we do not compute; weights are missing, unexpected, of another
      shape, damaged or pickled; the tokenizer is another model's.
  """
  folder = epath.Path(folder)
  inner = sentence_folders.inner_folder(folder)
  unread = open_unread(inner, head, say)
  config, source = unread.config, unread.source
  params = to_ours(unread.arrays, [entry for entry in unread.entries if entry.key in unread.arrays])
  params = _with_new(params, unread)
  tokenizer = None
  try:
    tokenizer = tokenizer_files.read(inner, config, source.get("model_type"))
    if tokenizer is None:
      say(f"{folder} holds no tokenizer: what is made of it reads token ids, not text")
  except tokenizer_files.UnreadableTokenizer as error:
    say(f"the tokenizer cannot be read, so what is made of {folder} reads token ids, not text: {error}")
  assert config.vocab_size is not None
  if tokenizer is not None and tokenizer.vocab_size < config.vocab_size:
    say(
      f"the tokenizer has {tokenizer.vocab_size} tokens; the last {config.vocab_size - tokenizer.vocab_size} rows of"
      " the word table stand for none"
    )
  embedding = sentence_folders.within_positions(sentence_folders.embedding_of(folder, inner), config, say)
  files = sentence_folders.files_of(folder, inner)
  prompts.read(files, str(folder))
  return Model(
    config=config,
    network=unread.network,
    params=params,
    tokenizer=tokenizer,
    num_classes=unread.num_classes,
    class_names=_class_names(unread),
    problem=_problem(unread),
    embedding=embedding,
    source=source,
    files=files,
  )


def read_settings(folder: epath.Path) -> tuple[EncoderConfig, str | None]:
  """The settings of a folder's encoder and its model_type; weights are not read. It raises what `read` raises."""
  source, path = _config(folder)
  return configs.from_huggingface(source, path), source.get("model_type")


@dataclasses.dataclass(frozen=True)
class Unread:
  """A folder whose settings and arrays agree, and whose arrays are not read yet.

  Attributes:
    config: of the encoder.
    network: a name of `networks.NETWORKS`.
    num_classes: of a classifier's head.
    arrays: by Hugging Face's names, without those of a new head.
    entries: one for each array of the network.
    shapes: of the network's parameters.
    source: config.json.
  """

  config: EncoderConfig
  network: str
  num_classes: int
  arrays: Arrays
  entries: list[Entry]
  shapes: Any
  source: dict[str, Any]


def open_unread(folder: epath.Path, head: str | None = None, say: Callable[[str], None] = logging.info) -> Unread:
  """Like `read`, but it reads no arrays, except copies of tied ones, to compare them."""
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
  network_entries = array_names.entries(config, network)
  if head is not None:
    arrays = completeness.without_other_tasks(arrays, network_entries, configs.network_of(source), head, say)
  num_classes = _num_classes(network, network_entries, arrays, source)
  shapes = jax.eval_shape(networks.initial(network, config, num_classes))
  arrays = completeness.complete(arrays, network_entries, network, config, head is not None, origin, say)
  completeness.check_shapes(arrays, network_entries, shapes, origin)
  return Unread(config, network, num_classes, arrays, network_entries, shapes, source)


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


def _num_classes(network: str, network_entries: list[Entry], arrays: Arrays, source: dict[str, Any]) -> int:
  if network not in networks.CLASSIFIERS:
    return 2
  for entry in network_entries:
    if entry.path == ("classifier", "bias") and entry.key in arrays and len(arrays[entry.key].shape) == 1:
      return arrays[entry.key].shape[0]
  return len(source.get("id2label") or {}) or int(source.get("num_labels") or 2)


def _class_names(unread: Unread) -> tuple[str, ...]:
  """The names of a classifier's classes; none where config.json does not name each of them."""
  stated, wanted = unread.source.get("id2label") or {}, [str(number) for number in range(unread.num_classes)]
  if unread.network not in networks.CLASSIFIERS or set(stated) != set(wanted):
    return ()
  return tuple(stated[number] for number in wanted)


def _problem(unread: Unread) -> Problem:
  """What a classifier's outputs are; transformers answers by a sigmoid where one output is said to be nothing else."""
  stated = unread.source.get("problem_type")
  if stated is None and unread.num_classes == 1:
    return "multi_label"
  known: dict[Any, Problem] = {"regression": "regression", "multi_label_classification": "multi_label"}
  return known.get(stated, "single_label")


def _with_new(params: Any, unread: Unread) -> Any:
  """`params`, with initial ones where the file lacks some."""
  there = flat(params)
  lacking = set(traverse_util.flatten_dict(unread.shapes, sep="/")) - set(there)
  if not lacking:
    return params
  fresh = flat(jax.jit(networks.initial(unread.network, unread.config, unread.num_classes))())
  return nested({**there, **{path: fresh[path] for path in lacking}})
