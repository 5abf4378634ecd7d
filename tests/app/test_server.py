"""What the API answers: the same as Python does, and to hostile requests an error that a person understands."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra app")

from bert_jax.app import answers, openapi, schema, server, serving
from bert_jax.app.limits import BODY_SECONDS, MOST_BYTES, Limits
from bert_jax.cli import main
from bert_jax.inference.model import Model
from tests.app.conftest import CLASSES, Served
from tests.app.conftest import serving as on_a_port

TEXT = "the cat sat on the mat."
JSON = {"Content-Type": "application/json"}


def ask(
  served: Served, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
  """(status, JSON or text, headers); a body of bytes is sent as it is."""
  data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
  request = urllib.request.Request(served.address + path, data, headers or ({} if body is None else JSON))
  try:
    with urllib.request.urlopen(request, timeout=60) as response:
      status, content, given = response.status, response.read(), dict(response.headers)
  except urllib.error.HTTPError as error:
    status, content, given = error.code, error.read(), dict(error.headers)
  given = {name.lower(): value for name, value in given.items()}
  return status, json.loads(content) if "json" in given["content-type"] else content.decode(), given


def raw(served: Served, *parts: bytes, wait: float = 0.0) -> bytes:
  """What a client gets that sends these bytes, with a wait between them."""
  with socket.create_connection((served.host, served.port), timeout=30) as connection:
    for part in parts:
      connection.sendall(part)
      time.sleep(wait)
    found = b""
    while chunk := connection.recv(65_536):
      found += chunk
    return found


# ---- what it answers ----


def test_the_models_and_what_they_answer(served: Served) -> None:
  status, found, _ = ask(served, "/api/models")
  assert status == 200
  of = {model["name"]: model for model in schema.Models.model_validate(found).model_dump()["models"]}
  assert [of[name]["reads"] for name in ("masks", "classes", "tags", "answers")] == [None, "text", "text", "question"]
  assert "masks" in of["masks"]["answers"]
  assert "masks" not in of["classes"]["answers"]
  assert of["classes"]["classes"] == list(CLASSES)


BODIES: dict[schema.Kind, dict[str, Any]] = {
  "tokens": {"model": "masks", "text": TEXT, "pair": "snow is white"},
  "masks": {"model": "masks", "text": TEXT, "words": [1, 5], "top_k": 3},
  "attention": {"model": "masks", "text": TEXT},
  "predict": {"model": "classes", "texts": [TEXT, ["snow", "is white"]]},
  "similarity": {"model": "masks", "texts": [TEXT, "snow is white", "a ship"]},
}


@pytest.mark.parametrize("kind", BODIES)
def test_answers_are_those_of_python_in_the_documented_form(
  kind: schema.Kind, served: Served, models: dict[str, Model]
) -> None:
  body = BODIES[kind]
  status, found, _ = ask(served, f"/api/{kind}", body)
  assert status == 200, found
  schema.ANSWERED[kind].model_validate_json(json.dumps(found))
  model = models[body["model"]]
  if kind == "tokens":
    assert found == model.show_tokens(body["text"], body["pair"]).data()
  elif kind == "masks":
    assert [word["text"] for word in found["masked"]] == ["cat", "mat"]
    both = [word["pieces"][0]["expected"]["both"]["guesses"] for word in found["masked"]]
    filled = model.fill_masks("the [MASK] sat on the [MASK].", 3)
    assert [[g["token"] for g in some] for some in both] == [[c.token for c in some] for some in filled]
  elif kind == "attention":
    assert found == model.show_attention(body["text"]).data()
  elif kind == "predict":
    expected = model.predict([TEXT, ("snow", "is white")])
    assert [one["label"] for one in found["predictions"]] == [one.label for one in expected]
    for one, other in zip(found["predictions"], expected, strict=True):
      np.testing.assert_allclose(list(one["probabilities"].values()), other.probabilities, atol=1e-6)  # six digits
  else:
    vectors = model.embed(body["texts"], normalize=True)
    np.testing.assert_allclose(found["matrix"], vectors @ vectors.T, atol=1e-4)  # four digits


def test_tags_and_answers_stand_where_they_say(served: Served) -> None:
  text = "the cat 😀 sat on the mat."
  (found,) = ask(served, "/api/predict", {"model": "tags", "texts": [text]})[1]["predictions"]
  assert found["spans"]
  assert all(text[span["start"] : span["stop"]] == span["text"] for span in found["spans"])
  (found,) = ask(served, "/api/predict", {"model": "answers", "texts": [["where did it sit?", text]]})[1]["predictions"]
  assert text[found["start"] : found["stop"]] == found["answer"]


def test_many_clients_get_each_their_own_answer(served: Served, models: dict[str, Model]) -> None:
  words = TEXT[:-1].split()
  texts = [" ".join(words[i % 6 :] + words[: i % 6] * (i % 4)) for i in range(48)]
  with concurrent.futures.ThreadPoolExecutor(12) as pool:
    found = list(pool.map(lambda text: ask(served, "/api/predict", {"model": "classes", "texts": [text]}), texts))
  assert [status for status, *_ in found] == [200] * len(texts)
  expected = models["classes"].predict(texts)
  for (_, answer, _), other in zip(found, expected, strict=True):
    (one,) = answer["predictions"]
    assert one["label"] == other.label
    np.testing.assert_allclose(list(one["probabilities"].values()), other.probabilities, atol=1e-5)


def test_the_schema_is_openapi_and_its_examples_work(served: Served, models: dict[str, Model]) -> None:
  found = ask(served, "/openapi.json")[1]
  assert found == json.loads(json.dumps(openapi.document("masks")))
  assert set(found["paths"]) == {"/healthz", "/api/models", *(f"/api/{kind}" for kind in answers.KINDS)}
  references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)))
  assert references <= set(found["components"]["schemas"])
  for path, methods in found["paths"].items():
    if "post" in methods:
      example = methods["post"]["requestBody"]["content"]["application/json"]["example"]
      name = "classes" if path == "/api/predict" else "masks"
      assert ask(served, path, example | {"model": name})[0] == 200
  assert ask(served, "/healthz")[1] == {"status": "ok"}


def test_the_page_needs_nothing_from_elsewhere(served: Served) -> None:
  status, page, headers = ask(served, "/")
  assert status == 200
  assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
  assert "unsafe" not in headers["content-security-policy"]
  links = re.findall(r'(?:src|href)="([^"]*)"', page)
  assert {"draw.css", "app.css", "draw.js", "app.js"} <= set(links)
  assert not re.search(r"\son\w+=|<script>|style=", page), "a strict policy runs nothing inline"
  for link in links:
    if link != "data:,":
      status, content, headers = ask(served, f"/{link}")
      assert status == 200
      assert not re.search(r"https?://(?!www\.w3\.org)", str(content))
      assert headers["x-content-type-options"] == "nosniff"


def test_the_documentations_requests_work(served: Served) -> None:
  text = (Path(__file__).parents[2] / "docs" / "app.md").read_text()
  commands = re.findall(r"curl http://127\.0\.0\.1:8000(/\S+)(?: -H '([^']+)' \\\n\s+-d '([^']+)')?", text)
  assert {path for path, *_ in commands} == {"/healthz", "/api/models", *(f"/api/{kind}" for kind in answers.KINDS)}
  for path, header, body in commands:
    name, _, value = header.partition(": ")
    asked = body.replace('"demo"', '"masks"').replace('"BUNDLE"', '"classes"').encode() or None
    assert ask(served, path, asked, {name: value} if name else {})[0] == 200, path
  for number in (server.MOST_WAITING, schema.MOST_CHARACTERS, schema.MOST_TEXTS, MOST_BYTES):
    assert f"{number:,}" in text, "the limits that the page states"
  assert f"{BODY_SECONDS:g} seconds" in text
  assert f"{server.ANSWER_SECONDS:g} seconds" in text


# ---- hostile requests ----

LONG = "the " * 4000
WRONG: dict[str, tuple[str, Any, int, str]] = {
  "more tokens than positions": ("masks", {"model": "masks", "text": LONG}, 422, "positions end at"),
  "more characters than may be": ("tokens", {"model": "masks", "text": "a" * 20_001}, 422, "text: .*20000 characters"),
  "not UTF-8": ("tokens", b'{"model": "masks", "text": "\xff"}', 422, "not UTF-8"),
  "half a character": ("tokens", rb'{"model": "masks", "text": "\ud83d"}', 422, "."),
  "no JSON": ("tokens", b"{", 422, "JSON"),
  "not an object": ("tokens", b"[]", 422, "."),
  "deeply nested": ("tokens", b"[" * 100_000, 422, "."),
  "a wrong type": ("predict", {"model": "classes", "texts": "one"}, 422, "texts: .*array"),
  "a number for a text": (
    "predict",
    {"model": "classes", "texts": [3]},
    422,
    r"texts\.0: must be a text",
  ),
  "three of a pair": (
    "predict",
    {"model": "classes", "texts": [["a", "b", "c"]]},
    422,
    r"texts\.0: must be a text",
  ),
  "10,000 texts": ("predict", {"model": "classes", "texts": ["a"] * 10_000}, 422, "texts: .*256 items"),
  "no text": ("predict", {"model": "classes", "texts": []}, 422, "texts: .*1 item"),
  "too large": ("predict", {"model": "classes", "texts": ["a" * 3_000_000]}, 413, "2,000,000 bytes"),
  "another field": ("tokens", {"model": "masks", "text": "a", "file": "/etc/passwd"}, 422, "file: "),
  "a path for a model": ("tokens", {"model": "../../etc/passwd", "text": "a"}, 422, "no model '../../etc/passwd'"),
  "script for a model": ("tokens", {"model": "<script>", "text": "a"}, 422, "no model"),
  "no such word": ("masks", {"model": "masks", "text": TEXT, "words": [99]}, 422, "word 99 is none"),
  "no masks": ("masks", {"model": "classes", "text": TEXT}, 422, "fills no masks; serve"),
  "no head": ("predict", {"model": "masks", "texts": [TEXT]}, 422, "predicts nothing; fine-tune"),
  "no passage": ("predict", {"model": "answers", "texts": [TEXT]}, 422, "passage|pair|tuple"),
  "too many guesses": ("masks", {"model": "masks", "text": TEXT, "top_k": 51}, 422, "top_k: .*50"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_answered_in_words(what: str, served: Served) -> None:
  kind, body, wanted, words = WRONG[what]
  status, found, headers = ask(served, f"/api/{kind}", body)
  assert status == wanted, found
  assert re.search(words, schema.Error.model_validate(found).error), found
  assert len(found["error"]) < 500
  assert "content-security-policy" in headers
  assert ask(served, "/healthz")[0] == 200


def test_other_paths_methods_types_and_hosts(served: Served) -> None:
  assert ask(served, "/../../etc/passwd")[0] == 404
  assert ask(served, "/draw.js/../../setup.py")[0] == 404
  assert ask(served, "/api/tokens")[0] == 405
  assert ask(served, "/api/tokens", b"{}", {"Content-Type": "text/plain"})[0] == 415, "another site's form"
  assert ask(served, "/api/models", headers={"Host": "evil.example"})[0] == 421, "another site's name for loopback"
  assert ask(served, "/api/models", headers={"Host": "[::1]:80"})[0] == 200
  assert b"400" in raw(served, b"nonsense\r\n\r\n").splitlines()[0]


def test_script_in_a_text_comes_back_as_text(served: Served) -> None:
  hostile = "<script>alert(1)</script>"
  status, found, headers = ask(served, "/api/tokens", {"model": "masks", "text": hostile})
  assert status == 200
  assert "".join(found["words"]) == hostile
  assert headers["content-type"] == "application/json"


HEAD = b"POST /api/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_slow_and_cut_connections(served: Served) -> None:
  body = json.dumps({"model": "masks", "text": TEXT}).encode()
  length = b"Content-Length: %d\r\n\r\n" % len(body)
  begin = time.monotonic()
  found = raw(served, HEAD + length, body[:9], wait=0.3)
  assert b"408" in found.splitlines()[0]
  assert b"did not arrive whole within 1 seconds" in found
  assert time.monotonic() - begin < 20
  with socket.create_connection((served.host, served.port)) as cut:
    cut.sendall(HEAD + length + body[:9])
  chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
  part = b"%x\r\n" % 1_000_000 + b"a" * 1_000_000 + b"\r\n"
  assert b"413" in raw(served, chunked, part, part, part, b"0\r\n\r\n").splitlines()[0], "of no stated length"
  with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is cut off
    assert b"413" in raw(served, chunked, *[part] * 40).splitlines()[0], "without end"
  assert ask(served, "/healthz")[0] == 200


def test_too_much_at_a_time_and_too_slow_answers(models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
  def slow(model: Model, asked: Any) -> list[Any]:
    time.sleep(0.7)
    return [{"predictions": []} for _ in asked]

  monkeypatch.setitem(answers.KINDS, "predict", slow)
  body = {"model": "classes", "texts": [TEXT] * 256}  # two make a batch
  served = on_a_port(models, Limits(), most_waiting=4, answer_seconds=1.2)
  address = next(served)
  with concurrent.futures.ThreadPoolExecutor(12) as pool:
    found = list(pool.map(lambda _: ask(address, "/api/predict", body), range(12)))
  statuses = [status for status, *_ in found]
  assert statuses.count(200) >= 1
  assert statuses.count(429) >= 5
  assert statuses.count(503) >= 1
  assert set(statuses) == {200, 429, 503}
  refused = next(one for one in found if one[0] == 429)
  assert "try again" in refused[1]["error"]
  assert refused[2]["retry-after"] == "1"
  assert ask(address, "/healthz")[0] == 200
  served.close()


def test_a_bug_is_no_traceback(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
  def broken(model: Model, asked: Any) -> list[Any]:
    raise RuntimeError("inside")

  monkeypatch.setitem(answers.KINDS, "predict", broken)
  status, found, _ = ask(served, "/api/predict", {"model": "classes", "texts": [TEXT]})
  assert (status, found) == (500, {"error": "the server failed at this (RuntimeError); its log says more"})


def test_a_token_is_asked_for(with_token: Served) -> None:
  for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer é".encode().decode("latin-1")}):
    status, found, _ = ask(with_token, "/api/models", headers=headers)
    assert status == 401
    assert "token" in found["error"]
  assert ask(with_token, "/api/models", headers={"Authorization": "Bearer secret", "Host": "any.example"})[0] == 200
  assert ask(with_token, "/")[0] == 200, "the page, which has nothing of the models"


def test_an_app_of_no_model_is_refused() -> None:
  with pytest.raises(ValueError, match="give the app a model"):
    server.build({})


# ---- the command ----


def test_names_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs").mkdir()
  (tmp_path / "a=b").mkdir()
  assert serving.name_and_path("runs/") == ("runs", "runs/")
  assert serving.name_and_path("x=runs") == ("x", "runs")
  assert serving.name_and_path("a=b") == ("a=b", "a=b")
  assert serving.name_and_path("owner/model") == ("owner/model", "owner/model")


def test_the_demo_is_the_best_run_or_says_what_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(serving, "_MINILM", "no_such_package")
  with pytest.raises(ValueError, match=r"This makes one, in half an hour: python experiments/bert_vs_roberta\.py"):
    serving.demo_model()
  sweep = tmp_path / "runs" / "bert_vs_roberta-demo"
  for arm in ("bert", "better", "best"):
    (sweep / "runs" / arm / "seed-0" / "checkpoints").mkdir(parents=True)
  (sweep / "results.csv").write_text("arm,seed,mask_loss\nbert,0,5.1\nbetter,0,4.2\nbest,0,\nbest,1,3.0\n")
  assert Path(serving.demo_model()) == Path("runs/bert_vs_roberta-demo/runs/better/seed-0"), "the best that is there"
  assert serving.name_and_path("demo")[0] == "demo"


def test_wrong_flags_are_refused_before_anything_is_opened(
  capsys: pytest.CaptureFixture[str], models: dict[str, Model], tmp_path: Path
) -> None:
  models["masks"].save(tmp_path / "M")
  with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    cases = {
      f"{tmp_path / 'M'} --port=70000": "between 0 and 65535",
      f"{tmp_path / 'M'} --port={taken.getsockname()[1]}": "try another --port",
      f"{tmp_path / 'M'} --host=0.0.0.0 --token=": "a token is needed",
      f"{tmp_path / 'M'} {tmp_path / 'M'}": "two models are called M",
      f"{tmp_path / 'missing'}": "missing",
    }
    for arguments, words in cases.items():
      assert main.main(["serve", *arguments.split()]) == 1
      assert words in capsys.readouterr().err


@pytest.mark.slow
def test_it_serves_and_stops_on_sigterm(models: dict[str, Model], tmp_path: Path) -> None:
  models["masks"].save(tmp_path / "M")
  before = sorted(tmp_path.rglob("*"))
  program = "import sys; from bert_jax.cli.main import main; sys.exit(main())"
  command = [sys.executable, "-c", program, "serve", "M", "--host=0.0.0.0", "--port=0"]
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
  process = subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE)
  assert process.stderr is not None
  lines = []
  for line in process.stderr:
    lines.append(line)
    if line.startswith("open "):
      break
  found = re.fullmatch(r"open http://0\.0\.0\.0:(\d+)/#token=(\S{20,}) \(Ctrl-C stops\)\n", lines[-1])
  assert found, lines
  assert any("whoever reaches" in line for line in lines)
  served = Served("127.0.0.1", int(found[1]))
  assert ask(served, "/api/models")[0] == 401
  token = {"Authorization": f"Bearer {found[2]}"}
  assert ask(served, "/api/tokens", {"model": "M", "text": TEXT}, JSON | token)[0] == 200
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=30)
  assert process.returncode == 0, errors
  assert errors == ""
  assert sorted(tmp_path.rglob("*")) == before, "it writes nothing"
