"""Imports run one way, the core needs no other framework, and what should start at once does."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bert_jax"

# The order of imports: a part imports itself and what stands before its line, never its own line's other parts.
ORDER = (
  ("settings", "foreign", "records", "preemption"),
  ("results",),
  ("architectures", "objective_configs"),
  ("config",),
  ("validation", "published", "costs"),
  ("recipes", "flags", "scales", "provenance", "console", "data"),
  ("models",),
  ("objectives",),
  ("training",),
  ("inference",),
  ("interop",),
  ("transfer",),
  ("analysis",),
  ("adaptation",),
  ("experiment", "claims"),
  ("workdir",),
  ("gates", "parallel", "one_run"),
  ("sweep", "planning"),
  ("command_line",),
  ("app",),
  ("cli",),
)
RANKS = {part: rank for rank, parts in enumerate(ORDER) for part in parts}

# They are doors, and import what is behind them when they are opened.
DOORS = {
  ("bert_jax", "config"),
  ("bert_jax", "inference"),
  ("bert_jax", "interop"),
  ("inference", "interop"),
}

MODULES = sorted(
  ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in PACKAGE.rglob("*.py")
)


def part_of(module: str) -> str:
  """`bert_jax.data.store` is of the part `data`; the package's own file is the part `bert_jax`."""
  return module.split(".")[1] if "." in module else module


def imports_of(source: str, is_package: bool = False, module: str = "bert_jax.x") -> Iterator[str]:
  """Every module or name that a source imports, in functions too, as absolute dotted names."""
  package = module if is_package else module.rpartition(".")[0]
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
      for name in node.names:
        yield ".".join(piece for piece in (base, node.module, name.name) if piece)


def steps_back(module: str, imported: Iterator[str]) -> list[str]:
  """The imports of a module that break the order."""
  part = part_of(module)
  wrong = []
  for name in imported:
    target = part_of(name)
    if not name.startswith("bert_jax.") or target == part or target not in RANKS or (part, target) in DOORS:
      continue
    if part == "bert_jax" or RANKS[target] >= RANKS[part]:
      wrong.append(name)
  return wrong


def run(code: str) -> subprocess.CompletedProcess[str]:
  return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_every_part_has_its_place_in_the_order() -> None:
  assert {part_of(module) for module in MODULES} - {"bert_jax"} <= set(RANKS)


@pytest.mark.parametrize("module", MODULES)
def test_no_import_steps_back(module: str) -> None:
  file = ROOT.joinpath(*module.split("."))
  is_package = file.is_dir()
  source = (file / "__init__.py" if is_package else file.with_suffix(".py")).read_text(encoding="utf-8")
  assert steps_back(module, imports_of(source, is_package, module)) == []


@pytest.mark.parametrize(
  ("module", "source", "wrong"),
  [
    ("bert_jax.data.store", "from bert_jax.training import loop", ["bert_jax.training.loop"]),
    ("bert_jax.data.store", "def f():\n  import bert_jax.models.bert", ["bert_jax.models.bert"]),
    ("bert_jax.data.store", "from bert_jax import recipes", ["bert_jax.recipes"]),
    ("bert_jax.data.store", "from ..models import bert", ["bert_jax.models.bert"]),
    ("bert_jax.data.store", "from . import tokenizers\nfrom ..config import Config\nimport jax", []),
    ("bert_jax.config", "from bert_jax.settings import assign", []),
    ("bert_jax.settings", "from bert_jax.config import Config", ["bert_jax.config.Config"]),
    ("bert_jax.experiment", "from bert_jax import sweep", ["bert_jax.sweep"]),
    ("bert_jax.training.loop", "from bert_jax import sweep, __version__", ["bert_jax.sweep"]),
  ],
)
def test_the_check_sees_steps_back(module: str, source: str, wrong: list[str]) -> None:
  assert steps_back(module, imports_of(source, module=module)) == wrong


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.py")), ids=lambda file: file.stem)
def test_an_experiment_imports_the_package_only(file: Path) -> None:
  allowed = sys.stdlib_module_names | {"bert_jax"}
  assert {name.split(".")[0] for name in imports_of(file.read_text(encoding="utf-8"))} <= allowed


def blocked(names: list[str], modules: list[str]) -> str:
  """Code that imports modules where others cannot be found, as where they are not installed."""
  return f"""
import importlib, importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
  def find_spec(self, name, path=None, target=None):
    if name.split(".")[0] in {names!r}:
      raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
for module in {modules!r}:
  importlib.import_module(module)
"""


def test_the_core_needs_neither_torch_nor_transformers_nor_tensorflow() -> None:
  done = run(blocked(["torch", "transformers", "tensorflow"], MODULES))
  assert done.returncode == 0, done.stderr


def test_data_needs_no_jax() -> None:
  done = run(blocked(["jax", "jaxlib", "flax"], [module for module in MODULES if part_of(module) == "data"]))
  assert done.returncode == 0, done.stderr


def test_the_block_blocks() -> None:
  done = run(blocked(["jax"], ["jax.numpy"]))
  assert done.returncode == 1
  assert "No module named 'jax'" in done.stderr


# A wrong flag costs no more than a second, and neither does the package's version.
@pytest.mark.parametrize("module", ["bert_jax", "bert_jax.command_line"])
def test_the_doors_open_at_once(module: str) -> None:
  heavy = {"jax", "flax", "optax", "orbax", "tensorflow_datasets", "matplotlib", "scipy", "sklearn"}
  done = run(f"import sys, {module}; print(*({heavy!r} & set(sys.modules)))")
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == []


def test_public_names_are_found_when_they_are_asked_for() -> None:
  code = """
import sys, bert_jax
assert 'jax' not in sys.modules and 'bert_jax.recipes' not in sys.modules
assert bert_jax.Config().train and bert_jax.recipes.RECIPES
assert 'jax' not in sys.modules
assert {'Model', 'Config', 'recipes', 'load'} <= set(dir(bert_jax))
try: bert_jax.Modell
except AttributeError as error: assert 'Modell' in str(error)
else: raise SystemExit(1)
from bert_jax import *
assert all(getattr(bert_jax, name) is not None for name in bert_jax.__all__)
"""
  done = run(code)
  assert done.returncode == 0, done.stderr
  assert (PACKAGE / "py.typed").is_file()
  assert "py.typed" in (ROOT / "setup.py").read_text(encoding="utf-8")
