"""Lists the experiments that come with the package, or copies their files to be changed.

Each is one file that asks one question; `bert-jax run NAME --help` shows its flags and settings.
"""

import argparse
import ast
import runpy
import shutil
from pathlib import Path
from typing import Any

import bert_jax

HELP = "the experiments, listed or copied"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("--copy", metavar="DIR", help="write their files into this folder, which must not hold them yet")


def run(given: argparse.Namespace) -> int:
  files = found()
  if given.copy is None:
    width = max(map(len, files))
    for name, file in files.items():
      print(f"{name:{width}}  {question(file)}")
    print("\nbert-jax run NAME --help says more; --copy DIR writes the files, to be changed")
    return 0
  target = Path(given.copy)
  there = [file.name for file in files.values() if (target / file.name).exists()]
  if there:
    raise ValueError(f"{target} holds {', '.join(there)} already; give another folder")
  target.mkdir(parents=True, exist_ok=True)
  for file in files.values():
    shutil.copyfile(file, target / file.name)
  print(f"{len(files)} experiments in {target}; python {target / 'bert_vs_roberta.py'} --scale=smoke runs one")
  return 0


def found() -> dict[str, Path]:
  """The experiments by name: of the installed package, or of the clone that it is run from."""
  package = Path(bert_jax.__file__).parent
  folders = (package / "experiments", package.parent / "experiments")  # setup.py puts them into a wheel
  folder = next((folder for folder in folders if (folder / "bert_vs_roberta.py").is_file()), None)
  if folder is None:
    raise ValueError(f"there are no experiments beside {package}; install the package anew, or run a clone's")
  return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix == ".py"}


def declared(experiment: str) -> tuple[Path, Any]:
  """The file of an experiment, which is a path or a name, and what it declares.

  Raises:
    ValueError: there is none, or it declares no `EXPERIMENT`, as those that train nothing from scratch do not.
  """
  file = Path(experiment)
  if file.suffix != ".py":
    files = found()
    if experiment not in files:
      raise ValueError(f"there is no experiment {experiment}; there are {', '.join(files)}")
    file = files[experiment]
  if not file.is_file():
    raise ValueError(f"there is no file {file}")
  if (declaration := runpy.run_path(str(file)).get("EXPERIMENT")) is None:
    raise ValueError(f"{file} declares no EXPERIMENT; its flags are its own")
  return file, declaration


def question(file: Path) -> str:
  """The first line of an experiment's docstring; nothing of the file is run."""
  return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
