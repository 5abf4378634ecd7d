"""The report of a sweep: `write_report` reads its folder and writes every table, plot and page beside the runs."""

from pathlib import Path

from etils import epath

from bert_jax.analysis import comparisons, document, plots, runs, sections, tables


def write_report(folder: epath.PathLike) -> Path:
  """Writes results.csv, times.csv, results.json, report.md, report.html and the plots as PNG and SVG.

  It may be called at any time, finished runs or not: what is missing is said in words. Each file is replaced
  as a whole. All but times.csv and the two reports are equal, byte for byte, where the runs are.

  Args:
    folder: what an experiment was given as --workdir.

  Returns:
    Where report.md is.

  Raises:
    ValueError: `folder` holds no sweep, or a file in it holds what it must not.
  """
  folder = epath.Path(folder)
  sweep = runs.read_sweep(folder)
  results = comparisons.compute(sweep)
  drawn = plots.draw(results)
  pictures = {name: (f"plots/{name}.png", figure.element) for name, figure in drawn.items()}
  blocks = sections.report(results, pictures)

  (folder / "plots").mkdir(parents=True, exist_ok=True)
  for name, figure in drawn.items():
    _replace(folder / "plots" / f"{name}.png", figure.png)
    _replace(folder / "plots" / f"{name}.svg", figure.svg.encode())
  _replace(folder / "results.csv", tables.results_csv(sweep).encode())
  _replace(folder / "times.csv", tables.times_csv(sweep).encode())
  _replace(folder / "results.json", tables.results_json(results).encode())
  _replace(folder / "report.html", document.page(sweep.question, blocks).encode())
  _replace(folder / "report.md", document.markdown(blocks).encode())
  return Path(folder / "report.md")


def _replace(path: epath.Path, content: bytes) -> None:
  """Writes a file so that a reader, or a run that is killed, sees the old or the new one and never a part."""
  draft = path.with_name(f".{path.name}.tmp")
  draft.write_bytes(content)
  draft.replace(path)
