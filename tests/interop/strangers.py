"""Folders as strangers may send them: sound ones of several kinds, and single changes to one of their files."""

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from etils import epath

from bert_jax.interop import writing
from tests.interop import small

DEEP = "DEEP"  # stands for 100,000 levels of nesting, which Python's encoder cannot write
_VALUES: list[Any] = [
  *(
    None,
    True,
    False,
    "",
    "abc",
    "\ud800",
    "é\0",
    -1,
    0,
    1,
    2,
    3,
    7,
    24,
    0.0,
    -0.0,
    0.5,
    1.5,
    -2.5,
    768.0,
    1e-12,
    1e300,
  ),
  *(float("nan"), float("inf"), -float("inf"), 1000, 10**6, 2**31, 2**31 - 1, 10**9, 10**12, 2**63, 10**30, -(2**40)),
  *("10", "1e-12", "NaN", "true", "gelu", "../x", "/etc/passwd", "a/b", "a\\b", "c2p|x", "float8", "x" * 100_000),
  *([], {}, [[]], [None], [1, 2], ["c2p"], ["full_attention"], {"a": 1}, {"a": {"rope_theta": None}}, [{}], DEEP),
  *({"Regex": "(a+)+$"}, {"Regex": "((((("}, {"Regex": "(\\w|\\d)*!"}, {"Regex": ".*.*.*.*!"}, {"String": ""}),
  *({"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 99}, {"type": "Sequence", "normalizers": []}),
  *(
    {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False},
    {"type": "Precompiled"},
  ),
]
_KEYS = (
  *("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings", "hidden_act"),
  *("num_hidden_groups", "inner_group_num", "layer_norm_eps", "norm_eps", "id2label", "num_labels", "architectures"),
  *("auto_map", "model_type", "pos_att_type", "rope_parameters", "local_attention", "layer_types", "pad_token_id"),
  *(
    "classifier_dropout",
    "embedding_size",
    "type_vocab_size",
    "conv_kernel_size",
    "position_buckets",
    "max_seq_length",
  ),
  *("weight_map", "dropout", "unk_id", "type", "path", "pooling_mode_cls_token", "do_lower_case", "strip_accents"),
)


def folders(parent: Path) -> list[Path]:
  """Sound folders: each kind of tokenizer, several architectures, shards, sentence-transformers' files."""
  kinds = {
    "bert": "wordpiece",
    "roberta": "bpe",
    "albert": "unigram",
    "deberta-v2": "unigram",
    "modernbert": "bpe",
    "xlnet": "unigram",
    "distilbert": "wordpiece",
  }
  made = []
  for name, kind in kinds.items():
    folder = parent / name
    writing.write_files(small.make(name, tokenizer=small.tokenizer_of(kind)), epath.Path(folder))
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": "[MASK]"}))
    made.append(folder)
  bert, roberta, _, deberta, *_ = made
  rows = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
  modules = [{"idx": i, "name": str(i), "path": path, "type": f"x.{kind}"} for i, (path, kind) in enumerate(rows)]
  (bert / "modules.json").write_text(json.dumps(modules))
  (bert / "1_Pooling").mkdir()
  (bert / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "word_dim": 24}))
  (bert / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, "do_lower_case": False}))
  shard(roberta)
  content = json.loads((roberta / "tokenizer.json").read_text())
  vocab = content["model"]["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
  (roberta / "vocab.json").write_text(json.dumps(vocab))
  merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
  (roberta / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
  (roberta / "tokenizer.json").unlink()
  (deberta / "added_tokens.json").write_text(json.dumps({}))
  (deberta / "tokenizer.json").unlink()
  return made


def shard(folder: Path) -> None:
  """Parts a folder's weights in three."""
  arrays = sorted(safetensors.numpy.load_file(folder / "model.safetensors").items())
  (folder / "model.safetensors").unlink()
  places: dict[str, str] = {}
  for number in range(3):
    file = f"model-{number + 1:05}-of-00003.safetensors"
    some: dict[str, np.ndarray] = dict(arrays[number::3])
    safetensors.numpy.save_file(some, folder / file)
    places |= dict.fromkeys(some, file)
  (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def change(draw: random.Random, folder: Path) -> tuple[Path, bytes, str]:
  """One change: the file, its new content, and what it is in words."""
  files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".txt", ".model"))
  weights = [3 if path.name in ("config.json", "modules.json", "tokenizer.json") else 1 for path in files]
  file = draw.choices(files, weights)[0]
  if file.suffix != ".json" or draw.random() < 0.25:
    kind = draw.choice(_BYTES)
    return file, kind(draw, file.read_bytes()), f"{folder.name}/{file.name}: {kind.__name__}"
  values, said = _in_json(draw, json.loads(file.read_text()))
  text = json.dumps(values).replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
  return file, text.encode(), f"{folder.name}/{file.name}: {said}"


def _in_json(draw: random.Random, values: Any) -> tuple[Any, str]:
  """A tree with one node replaced, taken out or put in."""
  values, value = copy.deepcopy(values), copy.deepcopy(draw.choice(_VALUES))
  if draw.random() < 0.03:
    return value, f"all = {value!r:.60}"
  node, name = values, None
  while isinstance(node, dict | list) and node:
    if isinstance(node, dict) and draw.random() < 0.15:
      key = draw.choice(_KEYS)
      node[key] = value
      return values, f"{key} = {value!r:.60}"
    parent, name = node, draw.choice([*node] if isinstance(node, dict) else range(len(node)))
    node = parent[name]
    if not isinstance(node, dict | list) or draw.random() < 0.3:
      if draw.random() < 0.15:
        del parent[name]
        return values, f"no {name}"
      if type(node) in (int, float) and draw.random() < 0.2:
        value = -node if draw.random() < 0.5 else node + draw.choice([-1, 1, 2**31])
      parent[name] = value
      break
  return values, f"{name} = {value!r:.60}"


def flipped(draw: random.Random, content: bytes) -> bytes:
  changed = bytearray(content)
  for _ in range(draw.choice([1, 1, 3])):
    if changed:
      changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
  return bytes(changed)


def cut(draw: random.Random, content: bytes) -> bytes:
  return content[: draw.randrange(len(content) + 1)]


def put_in(draw: random.Random, content: bytes) -> bytes:
  place = draw.randrange(len(content) + 1)
  new = draw.choice(
    [b"\xff", b"\0", b"{", b'"', b"\xed\xa0\x80", b"[" * 100_000, b"\n\n", b"9" * 5000, b"a b c\n", b"1e999"]
  )
  return content[:place] + new + content[place:]


def taken_out(draw: random.Random, content: bytes) -> bytes:
  first = draw.randrange(len(content) + 1)
  return content[:first] + content[first + draw.randrange(1, 40) :]


_BYTES: list[Callable[[random.Random, bytes], bytes]] = [flipped, cut, put_in, taken_out]
