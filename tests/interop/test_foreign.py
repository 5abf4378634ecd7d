"""A folder from a stranger: a clear error or a right model, nothing else, in bounded time and memory."""

import dataclasses
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax.data import checksums
from bert_jax.inference.model import Model
from bert_jax.interop import imported, reading, writing
from bert_jax.interop.params import fingerprint, flat
from bert_jax.models import networks
from bert_jax.models.inputs import example
from tests.interop import small, strangers

TEXTS = [*small.SENTENCES, "", "1990, and  \t é 漢字 😀" * 20]
SECONDS = 30  # of one folder, on a machine with much else to do; a second as a rule


def silent(_: str) -> None:
  pass


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
  return strangers.folders(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def _alarm() -> Any:
  def ring(*_: Any) -> None:
    raise TimeoutError(f"a folder took over {SECONDS} s")

  before = signal.signal(signal.SIGALRM, ring)
  yield
  signal.alarm(0)
  signal.signal(signal.SIGALRM, before)


def refusal(folder: Path, traced: set[Any]) -> str:
  """Opens a folder and uses what comes of it; the error's text, or "" where all goes well."""
  signal.alarm(SECONDS)
  said, kind = "", ValueError
  try:
    uses(reading.read(folder, say=silent), traced)
  except ValueError as error:
    said, kind = str(error), type(error)
  finally:
    signal.alarm(0)
  assert kind is ValueError, f"a bare {kind}: {said}"
  assert not said or folder.name in said, f"names no file: {said}"
  said.encode()  # so that it can be printed
  assert len(said) < 5000
  return said


def uses(model: Model, traced: set[Any]) -> None:
  """A model that opened is one: its numbers are finite, its network runs, its tokenizer gives ids that it has."""
  for name, array in flat(model.params).items():
    assert array.dtype == np.float32, name
    assert np.isfinite(array).all(), name
  key = (model.config, model.network, model.num_classes)
  if key not in traced:  # a config once; as shapes, since compiling takes long
    network = networks.build(model.network, model.config, model.num_classes, scan_layers=True)
    shapes = jax.eval_shape(lambda params: network.apply({"params": params}, example(5)), model.params)
    assert jax.tree.leaves(shapes)
    traced.add(key)
  if model.tokenizer is not None:
    assert model.config.vocab_size is not None
    for ids, starts in model.tokenizer.encode(TEXTS):
      assert len(ids) == len(starts)
      assert not len(ids) or 0 <= ids.min() <= ids.max() < model.config.vocab_size
      model.tokenizer.decode(ids).encode()


def try_changes(folders: list[Path], count: int, seed: int) -> dict[str, int]:
  draw, traced, found = random.Random(seed), set(), {"refused": 0, "opened": 0}
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  slowest = 0.0
  for number in range(count):
    folder = folders[number % len(folders)]
    file, content, said = strangers.change(draw, folder)
    before = file.read_bytes()
    file.write_bytes(content)
    start = time.perf_counter()
    try:
      found["refused" if refusal(folder, traced) else "opened"] += 1
    except BaseException as error:
      raise AssertionError(f"change {number} of seed {seed}, {said}: {error!r:.500}") from error
    finally:
      file.write_bytes(before)
    slowest = max(slowest, time.perf_counter() - start)
  grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 2**10
  print(f"{count} changes: {found}; the slowest took {slowest:.1f} s, memory grew by {grown:.0f} MiB at most")
  assert grown < 1000, f"memory grew by {grown:.0f} MiB"
  return found


@pytest.mark.usefixtures("_alarm")
def test_sound_folders_open(sound: list[Path]) -> None:
  for folder in sound:
    assert refusal(folder, set()) == ""


@pytest.mark.usefixtures("_alarm")
def test_a_changed_folder_is_refused_in_words_or_opens(sound: list[Path]) -> None:
  found = try_changes(sound, 60, seed=0)
  assert min(found.values()) > 7


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.usefixtures("_alarm")
def test_two_thousand_changed_folders(sound: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
  with capsys.disabled():
    found = try_changes(sound, 2000, seed=1)
  assert sum(found.values()) == 2000


# ---- paths ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
  writing.write_files(small.make("bert", tokenizer=small.tokenizer_of()), epath.Path(tmp_path / "src"))
  return tmp_path / "src"


def refused(folder: Path, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    reading.read(folder, say=silent)


@pytest.mark.parametrize(
  "path", ["l/../../../victim", "../victim", "/tmp/victim", "a/b", ".", "..", "x.y", "\x00", "l\n"]
)
def test_a_module_stands_beside_its_modules_json(path: str, folder: Path) -> None:
  (folder / "modules.json").write_text(json.dumps([{"type": "x.Transformer", "path": path}]))
  refused(folder, r"src/modules.json: entry 0 has path=.* the name of a folder beside it")


def test_a_link_that_leads_out_is_neither_read_nor_copied(folder: Path, tmp_path: Path) -> None:
  secret = tmp_path / "secret"
  secret.write_text("{}")
  for name in ("special_tokens_map.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
    (folder / name).symlink_to(secret)
    refused(folder, rf"src/{name} is a link to .*secret, outside of its folder")
    (folder / name).unlink()
  (tmp_path / "pooling").mkdir()
  (tmp_path / "pooling" / "config.json").write_text("{}")
  (folder / "1_Pooling").symlink_to(tmp_path / "pooling")
  (folder / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": "1_Pooling"}]))
  refused(folder, "src/1_Pooling/config.json is a link to .*pooling/config.json, outside")
  (folder / "modules.json").unlink()
  for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
    content = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(content)
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / name)
    refused(folder, rf"src/{name} is a link to .*, outside of its folder; put a copy of the file in its place")
    (folder / name).unlink()
    (folder / name).write_bytes(content)
  (folder / "special_tokens_map.json").symlink_to("tokenizer_config.json")  # inside
  reading.read(folder, say=silent)


@pytest.mark.parametrize(
  "place", ["../x.safetensors", "/tmp/x.safetensors", "a/../../x.safetensors", "out.safetensors", ""]
)
def test_shards_stand_beside_their_index(place: str, folder: Path, tmp_path: Path) -> None:
  (tmp_path / "x.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
  strangers.shard(folder)
  index = folder / "model.safetensors.index.json"
  values = json.loads(index.read_text())
  if place == "out.safetensors":
    (folder / place).symlink_to(tmp_path / "x.safetensors")
  values["weight_map"] = dict.fromkeys(values["weight_map"], place)
  index.write_text(json.dumps(values))
  refused(folder, "names the path .* does not lie inside it|is a link to .*x.safetensors, outside")


def test_a_download_of_the_hub_is_links_to_its_blobs(folder: Path, tmp_path: Path) -> None:
  """As huggingface_hub keeps it: snapshots/REVISION/config.json → ../../blobs/HASH."""
  repository = tmp_path / "models--a--b"
  snapshot, blobs = repository / "snapshots" / "0123abcd", repository / "blobs"
  snapshot.mkdir(parents=True)
  blobs.mkdir()
  for number, path in enumerate(sorted(folder.iterdir())):
    (blobs / str(number)).write_bytes(path.read_bytes())
    (snapshot / path.name).symlink_to(f"../../blobs/{number}")
  assert reading.read(snapshot, say=silent).files == reading.read(folder, say=silent).files
  (tmp_path / "secret").write_text("{}")
  (snapshot / "added_tokens.json").symlink_to("../../../secret")
  refused(snapshot, "outside of its folder")


def test_what_a_model_brings_is_written_inside_only(tmp_path: Path) -> None:
  import dataclasses

  model = small.make("bert", tokenizer=small.tokenizer_of())
  for name in ("../victim", "/tmp/victim", "a/../../victim"):
    evil = dataclasses.replace(model, files={name: b"x"})
    for write in (imported.save, writing.write):
      with pytest.raises(ValueError, match="does not lie inside it"):
        write(evil, tmp_path / "out")
  assert not list(tmp_path.iterdir())


# ---- pipes, bombs ----


@pytest.mark.usefixtures("_alarm")
@pytest.mark.parametrize(
  "name",
  [
    "config.json",
    "model.safetensors",
    "tokenizer_config.json",
    "tokenizer.json",
    "modules.json",
    "1_Pooling/config.json",
  ],
)
def test_a_pipe_is_not_waited_for(name: str, folder: Path) -> None:
  (folder / "1_Pooling").mkdir()
  (folder / "1_Pooling" / "config.json").touch()
  if name.startswith("1_"):
    (folder / "modules.json").write_text(json.dumps([{"type": "x.Pooling", "path": "1_Pooling"}]))
  (folder / name).unlink(missing_ok=True)
  os.mkfifo(folder / name)
  start = time.perf_counter()
  said = refusal(folder, set())
  assert time.perf_counter() - start < SECONDS / 2
  assert said or name in ("tokenizer_config.json", "tokenizer.json", "modules.json")  # as if it were not there


@pytest.mark.usefixtures("_alarm")
def test_a_shard_that_is_a_pipe_is_not_waited_for(folder: Path) -> None:
  strangers.shard(folder)
  (folder / "model-00002-of-00003.safetensors").unlink()
  os.mkfifo(folder / "model-00002-of-00003.safetensors")
  refused(folder, r"model-00002-of-00003\.safetensors is missing, or no regular file")


@pytest.mark.usefixtures("_alarm")
@pytest.mark.parametrize(
  ("name", "values", "message"),
  [
    ("bert", {"num_hidden_layers": 10**6}, "num_hidden_layers=1000000, which must be a whole number from 1 to 1,000"),
    ("bert", {"num_hidden_layers": 1000}, "asks for 1000 blocks, and its file holds .* arrays"),
    ("bert", {"hidden_size": 10**12}, "hidden_size=1000000000000, which must be"),
    ("bert", {"hidden_size": 2**16, "intermediate_size": 2**18}, "not of the sizes in its config.json"),
    ("deberta", {"hidden_size": 2**16, "pooler_hidden_size": 2**16}, "not of the sizes in its config.json"),
    ("bert", {"num_attention_heads": 7}, r"hidden_size=24 must be divisible by num_heads=7; try 21"),
    ("bert", {"layer_norm_eps": float("nan")}, "layer_norm_eps=NaN, which must be"),
    ("bert", {"layer_norm_eps": -1}, "layer_norm_eps=-1, which must be"),
    ("bert", {"vocab_size": "61"}, 'vocab_size="61", which must be'),
    ("bert", {"vocab_size": None}, "vocab_size=null, which must be"),
    ("bert", {"architectures": "BertModel"}, "architectures=.*BertModel.*must be a list of texts, or null"),
    ("bert", {"auto_map": ["x"]}, "auto_map=.* must be an object"),
    ("bert", {"model_type": ["bert"]}, "model_type=.* must be a text"),
    ("albert", {"num_hidden_groups": 10**6}, "num_hidden_groups=1000000, which must be"),
    ("albert", {"num_hidden_groups": 4}, "num_groups=4 must be at most num_layers=3"),
    ("albert", {"inner_group_num": 1000}, "asks for 2000 blocks, and its file holds"),
    ("deberta-v2", {"pos_att_type": {"c2p": 1}}, "pos_att_type=.* must be a text or a list of texts"),
    ("deberta-v2", {"conv_kernel_size": 4}, "convolution_size=4 must be odd"),
    ("modernbert", {"classifier_activation": ["gelu"]}, "classifier_activation=.* must be a text"),
    ("modernbert", {"local_attention": -1}, "local_attention=-1, which must be"),
    ("modernbert", {"global_rope_theta": float("nan")}, "global_rope_theta=NaN, which must be"),
    ("modernbert", {"rope_parameters": {"full_attention": 3}}, "rope_parameters=.* must be an object of objects"),
    ("modernbert", {"classifier_pooling": "max"}, 'classifier_pooling="max", which must be one of cls, mean'),
    ("bert", {"hidden_act": "tanh"}, "hidden_act='tanh'; bert_jax knows gelu, gelu_python, .*relu$"),
    ("bert", {"type_vocab_size": 0}, "type_vocab_size=0, which must be a whole number from 1"),
    ("bert", {"initializer_range": 10**400}, "initializer_range=1000.*, which must be a number, above 0"),
    (
      "electra",
      {"summary_type": "x" * 100_000},
      "summary_type='xxx.{,100}; bert_jax computes summary_type='first' only",
    ),
    ("roberta", {"pad_token_id": None}, "pad_token_id"),
    ("roberta", {"pad_token_id": 50}, "leave -9 positions"),
  ],
  ids=str,
)
def test_settings_are_refused_before_anything_is_made(
  name: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
  writing.write_files(small.make(name), epath.Path(tmp_path / "src"))
  config = tmp_path / "src" / "config.json"
  content = json.loads(config.read_text()) | values
  config.write_text(json.dumps(content))
  start = time.perf_counter()
  refused(tmp_path / "src", message)
  assert time.perf_counter() - start < SECONDS


def test_a_config_of_google_research_is_checked_as_berts(folder: Path) -> None:
  """bert_config.json, which says neither architecture nor class."""
  whole = json.loads((folder / "config.json").read_text())
  (folder / "config.json").unlink()
  values = {key: value for key, value in whole.items() if key not in ("model_type", "architectures")}
  (folder / "bert_config.json").write_text(json.dumps(values))
  assert reading.read(folder, say=silent).network == "pretraining"
  (folder / "bert_config.json").write_text(json.dumps(values | {"hidden_size": "24"}))
  refused(folder, r'src/bert_config\.json has hidden_size="24", which must be a whole number')
  (folder / "bert_config.json").write_text(json.dumps(values | {"num_attention_heads": 7}))
  refused(folder, r"src/bert_config\.json is of no model that can be built: hidden_size=24 must be divisible by")


@pytest.mark.parametrize("name", small.CONFIGS)
def test_a_vocabulary_without_a_size_has_that_of_their_class(name: str, tmp_path: Path) -> None:
  writing.write_files(small.make(name), epath.Path(tmp_path / "src"))
  config = tmp_path / "src" / "config.json"
  whole = json.loads(config.read_text())
  config.write_text(json.dumps({key: value for key, value in whole.items() if key != "vocab_size"}))
  refused(
    tmp_path / "src", r"not of the sizes in its config.json:(.|\n)*has shape \[61, \d+\], and config.json asks for"
  )


def test_deep_nesting_and_half_characters_name_the_file(folder: Path) -> None:
  for text, message in (
    ("[" * 100_000 + "]" * 100_000, "nested more than 64 levels deep"),
    ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested more than 64 levels deep"),
    ('{"architectures": ["\\ud800"]}', "holds half a character"),
    ("[1, 2]", "holds no object"),
    ('{"a": 1' + "0" * 5000 + "}", "is damaged"),
    ("\ufeff{}", "is damaged"),
  ):
    (folder / "config.json").write_text(text)
    refused(folder, f"src/config.json.*{message}")
  (folder / "config.json").write_bytes(b'{"a": "\xff"}')
  refused(folder, "src/config.json is damaged: not UTF-8 at byte 7")


# ---- ours ----


@pytest.mark.parametrize("name", list(small.CONFIGS))
def test_many_layers_are_no_bomb_however_they_are_stored(
  name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Theirs are an array for each layer and weight, ours one for all layers: 48 of them need not 48 arrays."""
  monkeypatch.setitem(small.CONFIGS, name, dataclasses.replace(small.CONFIGS[name], num_layers=48))
  model = small.make(name)
  writing.write_files(model, epath.Path(tmp_path / "theirs"))
  imported.save(reading.read(tmp_path / "theirs", say=silent), tmp_path / "ours")
  again = imported.load(tmp_path / "ours")
  assert again.config.num_layers == 48
  assert fingerprint(again.params) == fingerprint(model.params)


def test_an_imported_folder_of_ours_says_which_file_was_changed(folder: Path, tmp_path: Path) -> None:
  ours = tmp_path / "ours"
  imported.save(reading.read(folder, say=silent), ours)
  files = sorted(path for path in ours.rglob("*") if path.is_file())
  assert len(files) >= 5
  draw = random.Random(0)
  for path in files:
    whole = path.read_bytes()
    for _ in range(5):
      content = bytearray(whole)
      content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
      path.write_bytes(bytes(content))
      if path.name == "model.json" and _json(bytes(content)) == json.loads(whole):
        continue  # a blank became another
      with pytest.raises(ValueError, match=path.name):
        imported.load(ours)
    path.write_bytes(whole)
  (ours / "source" / "added_tokens.json").write_text("{}")
  with pytest.raises(ValueError, match=r"source/added_tokens.json was not written with the model"):
    imported.load(ours)
  (ours / "source" / "added_tokens.json").unlink()
  (ours / "source" / "vocab.txt").unlink()
  with pytest.raises(ValueError, match=r"source/vocab.txt is missing"):
    imported.load(ours)


def _json(content: bytes) -> Any:
  try:
    return json.loads(content)
  except ValueError:
    return None


def describe(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
  """Changes a model.json as a stranger may who knows how its digest is made."""
  values = json.loads((folder / "model.json").read_text())
  values.pop("digest")
  change(values)
  (folder / "model.json").write_text(json.dumps(values | {"digest": imported._digest(values)}))


@pytest.mark.parametrize("number", [1, imported.FORMAT - 1, imported.FORMAT + 1, str(imported.FORMAT), None])
def test_a_folder_of_another_format_is_refused_by_its_number(number: Any, folder: Path, tmp_path: Path) -> None:
  ours = tmp_path / "ours"
  imported.save(reading.read(folder, say=silent), ours)
  describe(ours, lambda values: values.update(format=number))
  said = f"model.json is of format {json.dumps(number)}, and this version of bert_jax reads {imported.FORMAT}; import"
  with pytest.raises(ValueError, match=said):
    imported.load(ours)


@pytest.mark.parametrize(
  ("place", "value", "message"),
  [
    ("model/hidden_size", "24", 'cannot be read: hidden_size="24" must be a whole number from 1 to'),
    ("model/hidden_size", 10**400, "cannot be read: hidden_size=1000.* must be a whole number from 1 to"),
    ("model/vocab_size", None, "cannot be read: vocab_size=null must be a whole number from 1 to"),
    ("model/layer_norm_eps", 10**400, "cannot be read: layer_norm_eps=1000.* must be a number, above 0 and at most 1"),
    ("model/head_dropout", 1.0, "cannot be read: head_dropout=1.0 must be a number, at least 0 and below 1, or null"),
    ("model/activation", "swish", 'cannot be read: activation="swish" must be one of gelu, gelu_tanh, relu'),
    ("model/num_heads", 7, "is of no model that can be built: hidden_size=24 must be divisible by num_heads=7"),
    ("model/num_layers", 1000, "it asks for 1000 blocks, and its file holds"),
    ("model/pooler", True, r"cannot be read: .*unknown \['pooler'\]"),
    ("architecture", "gpt2", "cannot be read: 'gpt2'"),
    ("architecture", ["bert"], "cannot be read"),
    ("network", "spans", 'cannot be read: network="spans" must be one of'),
    ("network", "enhanced_masked_lm", 'cannot be read: network="enhanced_masked_lm" must be one of'),
    ("network", "encoder", r"params\.safetensors does not hold what model.json describes"),
    ("class_names", "ham", 'cannot be read: class_names="ham" must be a list of texts'),
    ("class_names", ["ham"], "cannot be read: class_names are 1, and num_classes=2"),
    ("classifier_pooling", "sum", 'cannot be read: classifier_pooling="sum" must be one of cls, first, mean'),
    ("finetuned", 3, "cannot be read: finetuned=3 must be a text of at most 200"),
    ("num_classes", 0, "cannot be read: num_classes=0 must be a whole number from 1"),
    ("embedding/pooling", "sum", 'cannot be read: embedding.pooling="sum" must be one of cls, mean, max, or null'),
    ("embedding/max_tokens", 0, "cannot be read: embedding.max_tokens=0 must be a whole number from 1"),
    ("source/num_hidden_layers", "3", 'its source, has num_hidden_layers="3", which must be a whole number'),
    ("files_sha256", None, "cannot be read: files_sha256=null must be an object of texts"),
  ],
  ids=str,
)
def test_settings_of_ours_are_checked_too(place: str, value: Any, message: str, folder: Path, tmp_path: Path) -> None:
  ours = tmp_path / "ours"
  imported.save(reading.read(folder, say=silent), ours)
  *groups, name = place.split("/")

  def change(values: dict[str, Any]) -> None:
    for group in groups:
      values = values[group]
    values[name] = value

  describe(ours, change)
  with pytest.raises(ValueError, match=message) as error:
    imported.load(ours)
  assert "ours/" in str(error.value)
  assert len(str(error.value)) < 5000


# ---- out ----


def test_a_write_that_fails_leaves_nothing_in_the_way(
  folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  model = reading.read(folder, say=silent)

  def fails(*_: Any) -> Any:
    raise OSError(28, "No space left on device")

  for write, place in ((writing.write, "hash_file"), (imported.save, "sha256")):
    for there in (False, True):
      out = tmp_path / f"{place}-{there}"
      if there:
        out.mkdir()
      with monkeypatch.context() as patch:
        patch.setattr(checksums if place == "hash_file" else imported, place, fails)
        with pytest.raises(OSError, match="No space"):
          write(model, out)
      assert out.exists() == there
      assert not there or not list(out.iterdir())
      write(model, out)
      assert bert_jax.load(out).network == model.network
  assert {path.name for path in tmp_path.iterdir()} == {
    *("src", "sha256-False", "sha256-True", "hash_file-False", "hash_file-True")
  }


def test_what_a_killed_write_left_is_not_in_the_way(folder: Path, tmp_path: Path) -> None:
  out = tmp_path / "out"
  (out / ".partial-123").mkdir(parents=True)
  (out / ".partial-123" / "model.safetensors").write_bytes(b"x")
  imported.save(reading.read(folder, say=silent), out)
  imported.load(out)


def test_a_place_that_cannot_be_written_is_known_before_the_work(folder: Path, tmp_path: Path) -> None:
  (tmp_path / "file").write_text("")
  model = reading.read(folder, say=silent)
  for write in (writing.write, imported.save):
    with pytest.raises(ValueError, match=r"cannot be written: .*file is no folder"):
      write(model, tmp_path / "file" / "out")
