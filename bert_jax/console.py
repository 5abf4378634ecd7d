"""What a command says on stderr while it works."""

import logging as stdlib_logging
import os
import sys
import warnings
from typing import Any

from absl import logging
from tqdm import tqdm


class _Lines(stdlib_logging.Handler):
  """Log records as lines for a person: a message, above the progress bar where there is one."""

  def emit(self, record: stdlib_logging.LogRecord) -> None:
    kind = "" if record.levelno < stdlib_logging.WARNING else f"{record.levelname.lower()}: "
    tqdm.write(kind + record.getMessage(), file=sys.stderr)


def log_own_lines_only() -> None:
  """Shows this package's lines, and only the warnings of the libraries below it.

  Orbax logs what it does at every save, and asyncio repeats what goes wrong in it. What goes wrong is raised as well,
  so none of their lines are shown.
  """
  own = os.path.dirname(os.path.abspath(__file__))
  silent = (f"{os.sep}orbax{os.sep}", f"{os.sep}asyncio{os.sep}")

  def shown(record: stdlib_logging.LogRecord) -> bool:
    path = os.path.abspath(record.pathname)
    warns = record.levelno >= stdlib_logging.WARNING
    return path.startswith(own) or (warns and not any(folder in path for folder in silent))

  logging.set_verbosity(logging.INFO)
  lines = _Lines()
  lines.addFilter(shown)
  root = stdlib_logging.getLogger()
  root.removeHandler(logging.get_absl_handler())
  for handler in list(root.handlers):
    if type(handler) is stdlib_logging.StreamHandler or isinstance(handler, _Lines):  # a notebook has one of its own
      root.removeHandler(handler)
  root.addHandler(lines)

  # TensorStore reads on after one array of a damaged checkpoint, and would say so with a traceback for each other one.
  unraisable = sys.unraisablehook

  def of_orbax(what: Any) -> bool:
    code = getattr(what.object, "cr_code", None)  # of a coroutine
    return str(what.exc_value) == "Event loop is closed" or (code is not None and silent[0] in code.co_filename)

  sys.unraisablehook = lambda what: None if of_orbax(what) else unraisable(what)


def progress_bar(total: int, unit: str, shown: bool | None = None) -> tqdm:
  """A bar: lines on stderr, and in a notebook a widget; where `shown` is None, on a terminal and in a notebook only."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a notebook without ipywidgets has no widget; lines do
    from tqdm.auto import tqdm as best  # which is another in a notebook
    from tqdm.notebook import tqdm_notebook

  if shown is None:
    shown = issubclass(best, tqdm_notebook) or sys.stderr.isatty()
  return best(total=total, unit=unit, disable=not shown, leave=False)


def raise_what_is_no_users(error: Exception) -> None:
  """Raises an ImportError again, unless it says what to install: the reader of a bucket, say, and no module's name."""
  if isinstance(error, ImportError) and error.name is not None:
    raise error
