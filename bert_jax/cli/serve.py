"""Opens a page to look into models with, and a JSON API beside it.

On the page: mask words and see what is expected there; see what each head looks at; give texts to a fine-tuned model;
compare sentences. Give several models to compare them. `demo` is the best run of README's first command. The page needs
nothing from elsewhere, and the server writes nothing. It listens on this machine only, unless --host says otherwise;
then it draws a token, without which it answers nobody.
"""

import argparse
import importlib.util

HELP = "a page to look into models with, and a JSON API"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "models", metavar="MODEL", nargs="+", help="a run, a bundle or another folder of a model, or NAME=FOLDER; or demo"
  )
  parser.add_argument("--port", type=int, default=8000, help="to listen at; 0 for any that is free (8000)")
  parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all of this machine's")
  parser.add_argument("--token", help="that clients have to give; without it, one is drawn where others can reach it")


def run(given: argparse.Namespace) -> int:
  if not 0 <= given.port <= 65_535:
    raise ValueError(f"--port={given.port} must be between 0 and 65535")
  missing = [name for name in ("pydantic", "starlette", "uvicorn") if importlib.util.find_spec(name) is None]
  if missing:
    raise ValueError(f"serve needs {', '.join(missing)}: in a clone, pip install -e '.[app]' brings what it needs")
  from bert_jax.app import serving

  return serving.serve(given.models, given.host, given.port, given.token)
