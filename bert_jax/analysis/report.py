"""The report of a sweep: `write_report` reads its folder and writes every table, plot and page beside the runs."""

from pathlib import Path

from etils import epath

from bert_jax import records
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
    ValueError: `folder` holds no sweep, a file in it holds what it must not, or nothing can be written there.
  """
  folder = epath.Path(folder)
  sweep = runs.read_sweep(folder)
  results = comparisons.compute(sweep)
  drawn = plots.draw(results)
  pictures = {name: (f"plots/{name}.png", figure.element) for name, figure in drawn.items()}
  blocks = sections.report(results, pictures)

  (folder / "plots").mkdir(parents=True, exist_ok=True)
  for name, figure in drawn.items():
    records.write_bytes(folder / "plots" / f"{name}.png", figure.png)
    records.write_text(folder / "plots" / f"{name}.svg", figure.svg)
  records.write_text(folder / "results.csv", tables.results_csv(sweep))
  records.write_text(folder / "times.csv", tables.times_csv(sweep))
  records.write_text(folder / "results.json", tables.results_json(results))
  records.write_text(folder / "report.html", document.page(sweep.question, blocks))
  records.write_text(folder / "report.md", document.markdown(blocks))
  return Path(folder / "report.md")
