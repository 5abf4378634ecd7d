"""The experiments, listed, copied and run by name; from a clone and from what a wheel holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bert_jax.cli import main

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "experiments").glob("*.py"))


def test_they_are_listed_and_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
  assert main.main(["experiments"]) == 0
  shown = capsys.readouterr().out
  for file in FILES:
    assert any(line.startswith(f"{file.stem} ") and len(line) > len(file.stem) + 20 for line in shown.splitlines())
  assert main.main(["experiments", "--copy", str(tmp_path / "mine")]) == 0
  assert {file.name: file.read_bytes() for file in (tmp_path / "mine").iterdir()} == {
    file.name: file.read_bytes() for file in FILES
  }
  (tmp_path / "mine" / "nsp.py").write_text("changed")
  assert main.main(["experiments", "--copy", str(tmp_path / "mine")]) == 1
  assert f"holds {FILES[0].name}" in capsys.readouterr().err
  assert (tmp_path / "mine" / "nsp.py").read_text() == "changed"
  assert main.main(["run", "none_such"]) == 1
  assert f"there is no experiment none_such; there are {FILES[0].stem}, {FILES[1].stem}" in capsys.readouterr().err


def test_a_wheel_carries_them_and_the_page(tmp_path: Path) -> None:
  build = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path / "lib")]
  subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
  package = tmp_path / "lib" / "bert_jax"
  assert sorted(file.name for file in (package / "experiments").iterdir()) == [file.name for file in FILES]
  for name in ("app/page/index.html", "app/page/app.js", "inference/page/draw.js", "py.typed"):
    assert (package / name).read_bytes() == (ROOT / "bert_jax" / name).read_bytes()
  program = "import sys, bert_jax; from bert_jax.cli.main import main; print(bert_jax.__file__); sys.exit(main())"
  environment = os.environ | {"PYTHONPATH": str(tmp_path / "lib"), "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", program, "run", "bert_vs_roberta", "--scale=smoke", "--arms=typo"],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.stdout.startswith(str(package)), done
  assert "--arms=typo: there is no such arm; there are bert, dynamic_masks" in done.stderr
  assert done.returncode == 1


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_the_verbs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
  pytest.importorskip("shtab", reason="needs shtab")
  with pytest.raises(SystemExit, match="0"):
    main.main(["--print-completion", shell])
  script = capsys.readouterr().out
  assert all(verb in script for verb in main.VERBS)
  assert "--top-k" in script
  if shell == "bash":
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
  with pytest.raises(SystemExit, match="2"):
    main.main(["--print-completion", "fish"])
  assert "must be bash or zsh" in capsys.readouterr().err
