"""Models by their name on the hub: a hub of our own on this machine, in the place of huggingface.co."""

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import console
from bert_jax.cli import main
from bert_jax.interop import hub, imported, writing
from tests.interop import small

SHA = "0123456789abcdef0123456789abcdef01234567"
UNREAD = ("pytorch_model.bin", "onnx/model.safetensors", "onnx/config.json", "tf_model.h5")


class Hub(http.server.BaseHTTPRequestHandler):
  """What the client asks of huggingface.co for one model, small/bert."""

  def __init__(self, *arguments: Any, folder: Path, fetched: list[str], **more: Any):
    self.folder, self.fetched = folder, fetched
    super().__init__(*arguments, **more)

  def log_message(self, *_: Any) -> None: ...

  def do_HEAD(self) -> None:
    self.do_GET()

  def do_GET(self) -> None:
    path = self.path.partition("?")[0]
    files = sorted(str(f.relative_to(self.folder)) for f in self.folder.rglob("*") if f.is_file())
    if path.startswith("/api/models/small/bert/tree/"):
      rows = [{"type": "file", "path": n, "size": (self.folder / n).stat().st_size, "oid": "1"} for n in files]
      return self.answer(200, json.dumps(rows).encode())
    if path.startswith("/api/models/small/bert") and not path.endswith("/revision/gone"):
      listed = [{"rfilename": name} for name in files]
      about = {"id": "small/bert", "_id": "1", "modelId": "small/bert", "sha": SHA, "siblings": listed}
      return self.answer(200, json.dumps(about).encode())
    name = path.removeprefix(f"/small/bert/resolve/{SHA}/")
    if name not in files:
      wrong = "RevisionNotFound" if path.endswith("/gone") else "RepoNotFound"
      return self.answer(404, b"{}", {"X-Error-Code": wrong})
    if self.command == "GET":
      self.fetched.append(name)
    content = (self.folder / name).read_bytes()
    return self.answer(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": SHA})

  def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
    self.send_response(status)
    for name, value in (
      {"Content-Length": str(len(content)), "Content-Type": "application/json"} | (headers or {})
    ).items():
      self.send_header(name, value)
    self.end_headers()
    if self.command == "GET":
      self.wfile.write(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
  folder = tmp_path / "on_the_hub"
  writing.write_files(small.make("bert", tokenizer=small.tokenizer_of()), epath.Path(folder))
  for name in UNREAD:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"{}")
  return folder


@pytest.fixture
def fetched(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
  """Names of the files that were fetched; the hub is up as long as the test runs."""
  names: list[str] = []
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, folder=folder, fetched=names))
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
  yield names
  server.shutdown()
  server.server_close()
  thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
  """The library reads its environment once, when it is imported; so its functions are told."""
  api = functools.partial(huggingface_hub.HfApi, endpoint=endpoint, token=False)
  download = functools.partial(huggingface_hub.snapshot_download, endpoint=endpoint, cache_dir=cache, token=False)
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # tests may run with it
  monkeypatch.setattr(huggingface_hub, "HfApi", api)
  monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
  monkeypatch.setattr(console, "log_own_lines_only", lambda: None)


def test_a_name_is_fetched_and_its_commit_kept(
  fetched: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.chdir(tmp_path)
  assert main.main(["import", "small/bert", str(tmp_path / "M")]) == 0
  assert f"small/bert of the Hugging Face hub, commit {SHA} is imported to" in capsys.readouterr().out
  assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt"} <= set(fetched)
  assert not set(fetched) & set(UNREAD)
  assert imported.load(tmp_path / "M").origin == f"small/bert of the Hugging Face hub, commit {SHA}"
  expected = bert_jax.load(folder).embed("Snow is white.")
  for name in (tmp_path / "M", "small/bert", "small/bert@main"):
    np.testing.assert_array_equal(bert_jax.load(name).embed("Snow is white."), expected)


def test_a_path_goes_before_a_name(fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.chdir(tmp_path)
  (tmp_path / "small" / "bert").mkdir(parents=True)
  with pytest.raises(ValueError, match="small/bert holds no run"):
    bert_jax.load("small/bert")
  with pytest.raises(ValueError, match=r"\./small/bart is no folder"):
    bert_jax.load("./small/bart")
  assert fetched == []


def test_what_the_hub_has_not_is_said(fetched: list[str], folder: Path) -> None:
  with pytest.raises(ValueError, match="small/bart is no folder here, and the hub has no model of that name"):
    bert_jax.load("small/bart")
  with pytest.raises(ValueError, match="small/bert has no revision gone"):
    bert_jax.load("small/bert@gone")
  (folder / "model.safetensors").unlink()
  with pytest.raises(ValueError, match=r"no model\.safetensors on the hub, but .*pytorch_model\.bin"):
    bert_jax.load("small/bert")
  assert fetched == []


def test_without_the_hub_what_was_fetched_opens(
  fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  hub.fetch("small/bert")
  monkeypatch.undo()
  use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "cache")
  assert hub.fetch("small/bert")[1] == f"small/bert of the Hugging Face hub, commit {SHA}"
  with pytest.raises(ValueError, match="bert-base-uncased is no folder here, and the hub cannot be reached"):
    bert_jax.load("bert-base-uncased")
  assert main.main(["import", "bert-base-uncased", str(tmp_path / "M")]) == 1
