"""A Hugging Face folder, or a TF1 checkpoint of google-research/bert, as a `Pretrained` model."""

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from flax import traverse_util

from bert_jax import foreign
from bert_jax.config import EncoderConfig
from bert_jax.interop import cards, configs, foreign_configs, keys, matching, names, pretrained, prompts, weights
from bert_jax.interop.entries import Entry, to_ours
from bert_jax.interop.pretrained import Embedding, Pretrained
from bert_jax.models import networks

CONFIG, TF1_CONFIG = "config.json", "bert_config.json"
_MODULES, _SENTENCES = "modules.json", "sentence_bert_config.json"  # of sentence-transformers

_LONGEST = 10_000_000  # tokens


def is_huggingface(folder: epath.Path) -> bool:
  return any(foreign.is_regular(folder / name) for name in (CONFIG, TF1_CONFIG, _MODULES))


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
  inner = _inner(folder)
  opened = open_folder(inner, head, say)
  encoder, arrays = opened.config, opened.arrays
  params = to_ours(arrays, [entry for entry in opened.entries if entry.key in arrays])
  params = _with_new(params, opened.network, encoder, opened.num_classes, opened.shapes)
  tokenizer = None
  try:
    tokenizer = pretrained.read_tokenizer(inner, encoder, opened.source.get("model_type"))
    if tokenizer is None:
      say(f"{folder} holds no tokenizer: what is made of it reads token ids, not text")
  except pretrained.UnreadableTokenizer as error:
    say(f"the tokenizer cannot be read, so what is made of {folder} reads token ids, not text: {error}")
  if tokenizer is not None and tokenizer.vocab_size < (encoder.vocab_size or 0):
    assert encoder.vocab_size is not None
    say(
      f"the tokenizer has {tokenizer.vocab_size} tokens; the last {encoder.vocab_size - tokenizer.vocab_size} rows of"
      " the word table stand for none"
    )
  embedding, files = _fitting(_embedding(folder, inner), encoder, say), _files(folder, inner)
  prompts.read(files, str(folder))
  return Pretrained(encoder, opened.network, params, tokenizer, opened.num_classes, embedding, opened.source, files)


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
  arrays: weights.Arrays
  entries: list[Entry]
  shapes: Any
  source: dict[str, Any]


def open_folder(folder: epath.Path, head: str | None = None, say: Callable[[str], None] = logging.info) -> Opened:
  """Like `read`, but no array is read yet, except copies of tied ones, which are compared."""
  source = _config(folder)
  arrays, file = weights.read(folder)
  arrays = names.modern(arrays)
  if source.get("legacy") is False and head != "enhanced_masked_lm":
    source, arrays = source | {"legacy": True}, names.legacy(arrays)
  origin = str(folder / file)
  encoder = configs.from_huggingface(source, str(folder / CONFIG))
  foreign_configs.encoder(encoder, len(arrays), str(folder / CONFIG))
  if head is not None and head not in configs.networks_of(source):
    raise ValueError(f"head={head!r} is none of this architecture's: {', '.join(configs.networks_of(source))}")
  network = head or matching.network(source, encoder, arrays, str(folder / CONFIG), say)
  encoder = configs.with_pooler(encoder, network, set(arrays))
  arrays = names.arranged(arrays, encoder, network, origin)
  found = keys.entries(encoder, network)
  if head is not None:
    arrays = matching.without_other_tasks(arrays, found, configs.network_of(source), head, say)
  num_classes = _num_classes(network, found, arrays, source)
  shapes = jax.eval_shape(networks.initial(network, encoder, num_classes))
  arrays = matching.complete(arrays, found, network, encoder, source, head is not None, origin, say)
  _check_shapes(arrays, found, shapes, origin)
  return Opened(encoder, network, num_classes, arrays, found, shapes, source)


def _config(folder: epath.Path) -> dict[str, Any]:
  if not folder.is_dir():
    raise ValueError(f"{folder} is no folder; give one with config.json and model.safetensors")
  for name in (CONFIG, TF1_CONFIG):
    if foreign.is_file(folder, name):
      values = foreign.read_object(folder, name)
      foreign_configs.config(values, str(folder / name))
      # google-research/bert saves its pretraining network, and its config does not name it.
      return values if name == CONFIG else {"model_type": "bert", "architectures": ["BertForPreTraining"]} | values
  raise ValueError(f"{folder} has no {CONFIG} (nor {TF1_CONFIG}); give the folder that save_pretrained wrote")


def _num_classes(network: str, found: list[Entry], arrays: weights.Arrays, source: dict[str, Any]) -> int:
  if network not in networks.CLASSIFIERS:
    return 2
  for entry in found:
    if entry.path == ("classifier", "bias") and entry.key in arrays and len(arrays[entry.key].shape) == 1:
      return arrays[entry.key].shape[0]
  return len(source.get("id2label") or {}) or int(source.get("num_labels") or 2)


def _check_shapes(arrays: weights.Arrays, found: list[Entry], shapes: Any, origin: str) -> None:
  """Raises ValueError, which lists the arrays that are of another shape."""
  wrong = [
    f"{key} has shape {list(arrays[key].shape)}, and config.json asks for {list(shape)}"
    for key, shape in _shapes(found, shapes, arrays).items()
    if arrays[key].shape != shape
  ]
  if wrong:
    raise ValueError(f"the weights in {origin} are not of the sizes in its config.json:\n{names.listed(wrong)}")


def _shapes(found: list[Entry], shapes: Any, arrays: weights.Arrays) -> dict[str, tuple[int, ...]]:
  """Their shape of every array of `arrays`, in which one of another size has ours: nothing of that size is made."""
  result = {}
  for entry in found:
    if entry.key not in arrays:
      continue
    node = shapes
    for name in entry.path:
      node = node[name]
    shape = node.shape if entry.layer is None else node.shape[1:]
    alike = math.prod(shape) == arrays[entry.key].size
    result[entry.key] = entry.theirs(np.broadcast_to(np.float32(0), shape)).shape if alike else shape
  return result


def _with_new(params: Any, network: str, encoder: EncoderConfig, num_classes: int, shapes: Any) -> Any:
  """`params`, and initial ones where they lack some."""
  there = pretrained.flat(params)
  lacking = set(traverse_util.flatten_dict(shapes, sep="/")) - set(there)
  if not lacking:
    return params
  fresh = pretrained.flat(jax.jit(networks.initial(network, encoder, num_classes))())
  return pretrained.nested({**there, **{path: fresh[path] for path in lacking}})


# ---- what comes with it -----------------------------------------------------------------------------------------


def _inner(folder: epath.Path) -> epath.Path:
  """Where config.json, weights and tokenizer are: the folder itself, or, with sentence-transformers before 2, the one
  in it that modules.json names, 0_Transformer."""
  for module in _modules(folder):
    path = module["path"]
    if _kind(module) == "Transformer" and path and foreign.is_file(folder, f"{path}/{CONFIG}"):
      return foreign.inside(folder, path)
  return folder


def _kind(module: dict[str, Any]) -> str:
  return module["type"].rpartition(".")[2]


def _files(folder: epath.Path, inner: epath.Path) -> dict[str, bytes]:
  """The tokenizer's files, sentence-transformers' own, and the card; those of 0_Transformer as of the folder itself."""
  modules = _modules(folder)
  found = [cards.CARD, _MODULES, "config_sentence_transformers.json"]
  found += [f"{module['path']}/{CONFIG}" for module in modules if module["path"] and _kind(module) != "Transformer"]
  files = {name: foreign.read_bytes(folder, name) for name in found if foreign.is_file(folder, name)}
  beside = [*pretrained.TOKENIZER_FILES, _SENTENCES]
  files |= {name: foreign.read_bytes(inner, name) for name in beside if foreign.is_file(inner, name)}
  if inner != folder:
    flat = [module | ({"path": ""} if _kind(module) == "Transformer" else {}) for module in modules]
    files[_MODULES] = (json.dumps(flat, indent=2) + "\n").encode()
  return files


def _modules(folder: epath.Path) -> list[dict[str, Any]]:
  if not foreign.is_file(folder, _MODULES):
    return []
  return foreign_configs.modules(foreign.read_json(folder, _MODULES), str(folder / _MODULES))


def _embedding(folder: epath.Path, inner: epath.Path) -> Embedding:
  """What sentence-transformers' files say of it, in the forms of its versions up to 6.

  Raises:
    ValueError: they ask for a module, or a pooling, that we do not compute.
  """
  result = Embedding()
  for module in _modules(folder):
    kind = _kind(module)
    if kind == "Pooling":
      place = f"{module['path']}/{CONFIG}".lstrip("/")
      values = foreign.read_object(folder, place)
      asked = [name for name, value in values.items() if name.startswith("pooling_mode_") and value is True]
      modes = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
      if "pooling_mode" in values:
        asked, modes = [values["pooling_mode"]], {mode: mode for mode in ("cls", "mean", "max")}
      if len(asked) != 1 or not isinstance(asked[0], str) or asked[0] not in modes:
        raise ValueError(f"{folder / place} asks for {asked}; bert_jax embeds by one of {', '.join(modes)}")
      result = dataclasses.replace(result, pooling=modes[asked[0]])
    elif kind == "Normalize":
      result = dataclasses.replace(result, normalize=True)
    elif kind != "Transformer":
      raise ValueError(
        f"{folder / _MODULES} asks for a module {kind}; bert_jax embeds by Transformer, Pooling and"
        " Normalize only. Take that line out to go without it"
      )
  stated = foreign.read_object(inner, _SENTENCES) if foreign.is_file(inner, _SENTENCES) else {}
  most = foreign_configs.max_seq_length(stated, str(inner / _SENTENCES))
  if most is None and _modules(folder) and foreign.is_file(inner, "tokenizer_config.json"):
    # Where nothing is known, transformers writes a number of 30 digits there.
    said = foreign.read_object(inner, "tokenizer_config.json").get("model_max_length")
    most = said if type(said) is int and 0 < said <= _LONGEST else None
  return dataclasses.replace(result, max_tokens=most)


def _fitting(embedding: Embedding, encoder: EncoderConfig, say: Callable[[str], None]) -> Embedding:
  """`embedding` with no more tokens than the model has positions."""
  stated, most = embedding.max_tokens, pretrained.longest(encoder)
  if stated is None or most is None or stated <= most:
    return embedding
  say(
    f"its files ask for texts of up to {stated} tokens, and the model has {most} positions: so many are read at a time"
  )
  return dataclasses.replace(embedding, max_tokens=most)
