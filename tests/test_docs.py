"""The documentation: what stands in its code blocks runs, or the reason why it is not run here; links; settings."""

import dataclasses
import doctest
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.serialization
import numpy as np
import pytest
from etils import epath

import bert_jax
from bert_jax import console, settings, sweep
from bert_jax.cli import main
from bert_jax.config import Config, TokenizerConfig
from bert_jax.data import tokenizers
from bert_jax.interop import reading, writing
from bert_jax.interop.params import fingerprint
from tests import tiny
from tests.interop import small
from tests.interop.test_folders import arrays_of, to_flax

ROOT = Path(__file__).parent.parent


def commands_of(page: str) -> list[str]:
  """Those of a page's code blocks."""
  return [line.strip() for line in (ROOT / page).read_text().splitlines() if line.startswith("    ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """What the page starts from: HF, FLAX, W and texts.txt."""
  folder = tmp_path_factory.mktemp("readme")
  model = small.make("bert", tokenizer=small.tokenizer_of())
  writing.write_files(model, epath.Path(folder / "HF"))
  writing.write_files(dataclasses.replace(model, tokenizer=None), epath.Path(folder / "FLAX"))
  tree = to_flax(arrays_of(folder / "FLAX"))
  (folder / "FLAX" / "model.safetensors").unlink()
  (folder / "FLAX" / "flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
  source = tiny.write_text(folder / "text")
  assert sweep.run(tiny.plan(source, folder / "W", arms=["bert"])) == 0
  (folder / "texts.txt").write_text("Snow is white.\nThe sea is cold.\n")
  return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> Path:
  """The folder after the page's commands."""
  commands = commands_of("docs/huggingface.md")
  assert len(commands) == 8
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.setattr(console, "log_own_lines_only", lambda: None)
    for command in commands:
      program, *arguments = shlex.split(command)
      if program == "bert-jax":
        assert main.main(arguments) == 0, command
      else:
        assert program == "python", command
        run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        assert run.stdout == "(2, 24)\n", run.stderr
  return folder


def test_both_directions_and_the_rescue(done: Path) -> None:
  assert np.load(done / "vectors.npy").shape == (2, 24)
  given, back = (reading.read(done / name, say=lambda _: None) for name in ("HF", "FOR_TRANSFORMERS"))
  rescued = reading.read(done / "RESCUED_FOR_TRANSFORMERS", say=lambda _: None)
  wanted = fingerprint(given.params)
  assert fingerprint(back.params) == wanted
  assert fingerprint(rescued.params) == wanted
  own = reading.read(done / "W_FOR_TRANSFORMERS", say=lambda _: None)
  assert fingerprint(own.params) == fingerprint(bert_jax.load(done / "W").params)
  for name in ("FOR_TRANSFORMERS", "RESCUED_FOR_TRANSFORMERS", "W_FOR_TRANSFORMERS"):
    assert json.loads((done / name / "receipt.json").read_text())["max_difference"] == 0


@pytest.mark.parity
def test_transformers_opens_a_run_of_ours_and_gives_its_outputs(done: Path) -> None:
  import torch
  import transformers

  ours = bert_jax.load(done / "W")
  tokenizer: Any = transformers.AutoTokenizer.from_pretrained(done / "W_FOR_TRANSFORMERS")
  theirs = transformers.AutoModel.from_pretrained(done / "W_FOR_TRANSFORMERS", attn_implementation="eager").eval()
  text = (done / "text" / "000.txt").read_text()[:60]
  batch = tokenizer(text, return_tensors="pt")
  assert batch["input_ids"][0].tolist() == ours.encode(text).token_ids.tolist()
  with torch.no_grad():
    hidden = theirs(**batch).last_hidden_state[0].numpy()
  vectors = ours.token_embeddings(text).vectors
  assert np.abs(vectors - hidden).max() <= 1e-5 * np.abs(hidden).max()  # float32 sums in another order


def test_every_fault_that_is_promised_to_be_survived_has_its_test() -> None:
  rows = [line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if line.startswith("| ")][2:]
  assert len(rows) >= 15
  for row in rows:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
    assert named, row
    for path, name in named:
      assert f"def {name}(" in (ROOT / path).read_text(), f"{path} has no {name}"


# ---- code blocks ----

# What no test runs as it stands, and why.
NOT_RUN = {
  r"pip install ": "an installation; .ci/run makes one of its own",
  r"python -m pytest ": "the tests themselves",
  r"python -m tests.soak ": "takes an hour; tests/test_sweep.py and test_checkpoints.py do a little of it",
  r"python benchmarks/": "speed is not tested; benchmarks are run by hand, and their figures stand beside them",
  r"bert-jax serve ": "tests/app starts it",
  r"bert-jax adapt ": "tests/cli/test_adapt.py runs it on text of its own",
  r"bert-jax prepare ": "tests/cli/test_prepare.py and tests/data/test_beam.py make such stores",
  r"bert-jax doctor ": "tests/planning looks at texts of its own",
  r"bert-jax selftest": "tests/planning runs it, on four devices",
  r"bert-jax plan ": "tests/planning runs it; what needs the compiler of TPUs, where that is installed",
  r"python docs/note/": "tests/test_note.py runs both",
  r"curl ": "tests/app/test_server.py sends each of them",
  r"#!/bin/bash|#SBATCH |export MEET|srun |if \[ ": "for a scheduler, which is not here",
  r"gcloud |xpk ": "for a cloud, which is not here",
  r"bert-jax finetune MiniLM --task=tagging": "needs WNUT 2017; tests/transfer/test_kinds.py tags other text",
}
# Blocks of what is no command.
NO_COMMANDS = {"architecture.md", "results.md", "api.md", "CHANGELOG.md"}


def blocks() -> list[tuple[str, str]]:
  """(page, line) of every line of a code block that is no continuation and no output, `&&` taken apart."""
  found = []
  for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
    text = page.read_text().replace("\\\n", "")
    for line in text.splitlines() if page.name not in NO_COMMANDS else ():
      if re.match(r"    \S", line) and not re.match(r"    f1 on", line):
        found += [(page.name, part.strip()) for part in line.split("&&")]
  return found


def test_every_line_of_code_is_run_or_said_why_not(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.chdir(done)
  monkeypatch.setattr(console, "log_own_lines_only", lambda: None)
  Path("FOLDER").mkdir()
  shutil.copy("texts.txt", "FOLDER")
  words = ["snow", "is", "white", "and", "the", "sea", "is", "cold"]
  rows = [f"{' '.join(words[i % 8 :] + words[: i // 8])},{'ab'[i % 2]}" for i in range(40)]
  Path("train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
  Path("new.csv").write_text("text\nsnow\n")
  Path("texts.csv").write_text("question\nwhere is the sea\nis snow white\n")
  used, experiments = set(), {}
  for page, line in blocks():
    reason = next((pattern for pattern in NOT_RUN if re.match(pattern, line)), None)
    if reason is not None:
      used.add(reason)
    elif page == "huggingface.md":
      pass  # `done` runs the page
    elif line.startswith("bert-jax "):
      more = ["--max-tokens=24", "--baselines=trivial"] if " finetune " in line else []
      assert main.main([*shlex.split(line)[1:], *more]) == 0, line
    elif line.startswith("python experiments/"):
      _, file, *flags = shlex.split(line.replace("…", "").partition("  #")[0])
      of_machines = "--(platform|coordinator|num_processes|process_index)="
      experiments.setdefault(file, []).extend(flag for flag in flags if not re.match(of_machines, flag))
    elif line.startswith("python -c "):
      exec(shlex.split(line)[2], {})
    else:
      assert line.startswith("model"), (page, line)
      exec(f"import bert_jax; model = bert_jax.load('MODEL'); {line}", {})
  assert used == set(NOT_RUN), "a reason without a line"
  for file, flags in experiments.items():  # what their flags do, tests/test_experiments.py and others run
    command = [sys.executable, str(ROOT / file), *flags, "--print_settings"]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, (flags, run.stderr)


# ---- examples of docstrings ----

PUBLIC = (bert_jax.load, *(method for method in vars(bert_jax.Model).values() if inspect.isfunction(method)))
SHOWN: list[Any] = [what for what in PUBLIC if ">>>" in (what.__doc__ or "")]


def test_the_examples_of_docstrings_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.chdir(tmp_path)
  tokenizer = tokenizers.train(small.SENTENCES * 50, TokenizerConfig(kind="wordpiece", vocab_size=84, lowercase=True))
  small.make("bert", tokenizer=tokenizer).save("MODEL")
  classifier = small.make("bert", "sequence_classification", tokenizer)
  dataclasses.replace(classifier, class_names=tuple("abcde")).save("CLASSIFIER")
  names = {"bert_jax": bert_jax, "model": bert_jax.load("MODEL")}
  assert {what.__name__ for what in SHOWN} >= {"load", "encode", "embed", "predict", "fill_mask"}
  for what in SHOWN:
    for test in doctest.DocTestFinder(recurse=False).find(what, what.__name__, globs=names):
      failed, tried = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
      assert tried > 0, what
      assert failed == 0, what


# ---- links and settings ----

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "experiments" / "README.md"]


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
  text = page.read_text()
  links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
  for link in links:
    target, _, place = link.partition("#")
    if re.match(r"\w+:", target):
      continue
    found = (page.parent / target).resolve() if target else page
    assert found.exists(), link
    if place:
      titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
      assert place in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link


def test_every_setting_is_on_the_page_of_settings() -> None:
  pytest.importorskip("mkdocs", reason="needs the extra docs")
  import importlib.util

  spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
  assert spec is not None
  assert spec.loader is not None
  hooks: Any = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(hooks)
  page = hooks.all_settings()
  for leaf in settings.leaves(Config):
    (row, *_) = [line for line in page.splitlines() if line.startswith(f"| `{leaf.path}` |")]
    assert leaf.help.split("|")[0].split("\n")[0][:40] in row
    assert row.count(" | ") >= 3
