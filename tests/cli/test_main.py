"""`bert-jax VERB` as a person at a terminal has it."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import console
from bert_jax.cli import main
from bert_jax.interop import writing
from tests.interop import small

LINES = ["Snow is white.", "", "The cat sat on the mat, and the sea is cold.", "Café"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """A Hugging Face folder of a small BERT."""
  folder = tmp_path_factory.mktemp("model") / "hf"
  writing.write_files(small.make("bert", tokenizer=small.tokenizer_of()), epath.Path(folder))
  return folder


@pytest.fixture(autouse=True)
def _logging_stays(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(console, "log_own_lines_only", lambda: None)


def call(*arguments: object) -> int:
  return main.main([str(argument) for argument in arguments])


def test_import_export_and_embed_agree(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert call("import", folder, tmp_path / "M") == 0
  assert "bert, pretraining, " in capsys.readouterr().out
  assert call("export", tmp_path / "M", tmp_path / "back") == 0
  assert "as BertForPreTraining" in capsys.readouterr().out
  (tmp_path / "texts").write_text("\n".join(LINES) + "\n")
  expected = bert_jax.load(folder).embed(LINES)
  for model in (tmp_path / "M", tmp_path / "back", folder):
    assert call("embed", model, tmp_path / "texts", "--output", tmp_path / "v.npy") == 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, rtol=1e-5, atol=1e-6)
  assert "1 of 4 lines of" in capsys.readouterr().err
  assert call("embed", tmp_path / "M", tmp_path / "texts", "--output", tmp_path / "v.jsonl") == 0
  rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
  assert [row["text"] for row in rows] == LINES
  np.testing.assert_allclose([row["embedding"] for row in rows], expected, rtol=1e-5, atol=1e-6)
  assert (
    call("embed", tmp_path / "M", tmp_path / "texts", "--pooling=max", "--normalize", "-o", tmp_path / "w.npy") == 0
  )
  other = bert_jax.load(folder).embed(LINES, "max", True)
  np.testing.assert_allclose(np.load(tmp_path / "w.npy"), other, rtol=1e-5, atol=1e-6)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["M", "back", "texts", "v.jsonl", "v.npy", "w.npy"]


def test_masks_are_filled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert call("fill-mask", folder, "the [MASK] is [MASK].", "--top-k", 2) == 0
  lines = capsys.readouterr().out.splitlines()
  assert [line for line in lines if not line.startswith("  ")] == [
    "the [MASK] is [MASK].  (mask 1)",
    "the [MASK] is [MASK].  (mask 2)",
  ]
  assert len(lines) == 6


def test_the_model_can_grow_at_import(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  (tmp_path / "tokens").write_text("seawhite\n")
  assert call("import", folder, tmp_path / "M", "--extend-vocab", tmp_path / "tokens", "--extend-positions", 50) == 0
  said = capsys.readouterr().err
  assert "1 new tokens, from id 84" in said
  assert "the model has 50 positions (before, 40)" in said
  model = bert_jax.load(tmp_path / "M")
  assert model.encode("seawhite").tokens == ["[CLS]", "seawhite", "[SEP]"]
  assert model.config.max_positions == 50  # pyright: ignore[reportAttributeAccessIssue]


def test_another_head_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert call("import", folder, tmp_path / "M", "--head", "encoder") == 0
  assert "that encoder does not use are left out" in capsys.readouterr().err
  assert call("fill-mask", tmp_path / "M", "[MASK]") == 1
  assert "error: the model has the head encoder, which fills no masks" in capsys.readouterr().err


def test_what_goes_wrong_is_a_line_and_leaves_nothing(
  folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  (tmp_path / "empty").write_text("")
  (tmp_path / "latin").write_bytes("one\nCafé\n".encode("latin-1"))
  (tmp_path / "good").write_text("one\n")
  out = tmp_path / "v.npy"
  for arguments, message in (
    (("embed", folder, tmp_path / "empty", "-o", out), "empty is empty; give it one text a line"),
    (("embed", folder, tmp_path / "latin", "-o", out), "latin, line 2: not UTF-8"),
    (("embed", folder, tmp_path / "nowhere", "-o", out), "nowhere: No such file"),
    (("embed", folder, tmp_path / "good", "-o", "v.txt"), "--output=v.txt must end in .npy or .jsonl"),
    (("embed", folder, tmp_path / "good", "-o", out, "--max-tokens", 41), "max_tokens=41 must be"),
    (("import", tmp_path / "nowhere", tmp_path / "M"), "nowhere is no folder"),
    (("import", folder, folder), "is there already"),
    (("import", folder, tmp_path / "M", "--head", "nose"), "head='nose'"),
    (("export", tmp_path, tmp_path / "M"), "holds no run"),
  ):
    assert call(*arguments) == 1, arguments
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
  assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "good", "latin"]


def test_a_misspelt_verb_costs_no_second() -> None:
  code = "import sys; from bert_jax.cli import main; print('jax' in sys.modules, 'numpy' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "False False\n"
  with pytest.raises(SystemExit) as stopped:
    call("embde")
  assert stopped.value.code == 2


def test_lines_come_from_stdin_and_go_to_stdout(folder: Path) -> None:
  program = [
    sys.executable,
    "-c",
    "import sys; from bert_jax.cli.main import main; sys.exit(main())",
    "embed",
    str(folder),
  ]
  done = subprocess.run(program, input="\ufeffSnow is white.\r\nthe sea\r\n", capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  rows = [json.loads(line) for line in done.stdout.splitlines()]
  assert [row["text"] for row in rows] == ["Snow is white.", "the sea"]
  assert done.stderr == ""


# ---- streams and files, as shells leave them ----


def program(*arguments: object, shell: str = "") -> subprocess.CompletedProcess[bytes]:
  """`bert-jax ARGUMENTS` in a process of its own, with a shell's redirections."""
  code = "import sys; from bert_jax.cli.main import main; sys.exit(main())"
  command = shlex.join([sys.executable, "-c", code, *map(str, arguments)])
  return subprocess.run(["bash", "-c", f"{command} {shell}"], capture_output=True, stdin=subprocess.DEVNULL)


def test_a_place_that_cannot_be_written_is_said_before_any_work(
  folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(bert_jax, "load", lambda *_: pytest.fail("a model was opened"))
  (tmp_path / "texts").write_text("one\n")
  (tmp_path / "texts.jsonl").write_text("one\n")
  (tmp_path / "link.jsonl").symlink_to(tmp_path / "texts.jsonl")
  (tmp_path / "folder.npy").mkdir()
  for source, output, message in (
    ("texts", "missing/v.npy", "there is no folder"),
    ("texts", "texts/v.npy", "there is no folder"),
    ("texts", "folder.npy", "is there and no file"),
    ("texts.jsonl", "texts.jsonl", "is read, and would be overwritten"),
    ("texts.jsonl", "link.jsonl", "is read, and would be overwritten"),
    ("link.jsonl", "texts.jsonl", "is read, and would be overwritten"),
  ):
    assert call("embed", folder, tmp_path / source, "-o", tmp_path / output) == 1
    assert message in capsys.readouterr().err
  assert (tmp_path / "texts.jsonl").read_text() == "one\n"


def test_no_other_file_is_touched(folder: Path, tmp_path: Path) -> None:
  (tmp_path / "texts").write_text("one\n")
  (tmp_path / "v.npy.tmp").write_text("the user's")
  (tmp_path / "real.npy").write_text("old")
  (tmp_path / "v.npy").symlink_to("real.npy")
  assert call("embed", folder, tmp_path / "texts", "-o", tmp_path / "v.npy") == 0
  assert (tmp_path / "v.npy.tmp").read_text() == "the user's"
  assert (tmp_path / "v.npy").is_symlink()
  assert np.load(tmp_path / "real.npy").shape[0] == 1
  assert sorted(path.name for path in tmp_path.iterdir()) == ["real.npy", "texts", "v.npy", "v.npy.tmp"]


@pytest.mark.parametrize("verb", ["embed", "fill-mask"])
@pytest.mark.parametrize(("shell", "message"), [("<&-", b"stdin is closed"), (">&-", b"stdout is closed")])
def test_closed_streams_end_in_words(folder: Path, verb: str, shell: str, message: bytes) -> None:
  done = program(verb, folder, shell=shell)
  assert (done.returncode, done.stdout) == (1, b"")
  assert message in done.stderr
  assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_and_a_full_disk_end_in_words(folder: Path) -> None:
  done = program("fill-mask", folder, "[MASK]", shell=">/dev/full")
  assert done.returncode == 1
  assert done.stderr == b"error: [Errno 28] No space left on device\n"
  done = program("fill-mask", folder, "[MASK]", shell="2>&1 | true")
  assert done.stdout + done.stderr == b""


def test_half_a_character_ends_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert call("fill-mask", folder, "a \udcff [MASK]") == 1
  assert "text 0 holds half a character, U+DCFF at 2" in capsys.readouterr().err
  model = bert_jax.load(folder)
  for ask in (model.embed, model.encode, model.token_embeddings, model.attentions, model.fill_mask):
    with pytest.raises(ValueError, match=r"text 0 holds half a character, U\+D83D at 4"):
      ask("the \ud83d [MASK]")
