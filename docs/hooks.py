"""What MkDocs does besides rendering: README and the list of experiments are pages too, all settings are one that is
made of `config.py`, and links to files that are not of the site become their names."""

import posixpath
import re
import sys
import typing
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {"index.md": "README.md", "experiments.md": "experiments/README.md", "changelog.md": "CHANGELOG.md"}
_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
  for name, source in PAGES.items():
    text = _moved((ROOT / source).read_text(encoding="utf-8"), source, name)
    files.append(File.generated(config, name, content=text))
  files.append(File.generated(config, "all_settings.md", content=all_settings()))
  return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
  """Drops the links that leave the folder of the documentation."""

  def kept(link: re.Match[str]) -> str:
    target = link["target"].partition("#")[0]
    if not target or re.match(r"\w+:", target):
      return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), target))
    return link[0] if files.get_file_from_path(path) or files.get_file_from_path(f"{path}/index.md") else link["text"]

  return _LINK.sub(kept, markdown)


def _moved(markdown: str, source: str, name: str) -> str:
  """A file's text with links as they are from the folder of the documentation."""
  pages = {target: page for page, target in PAGES.items() if page != name}

  def moved(link: re.Match[str]) -> str:
    target, mark, place = link["target"].partition("#")
    if not target or re.match(r"\w+:", target):
      return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    found = pages.get(path) or posixpath.relpath(path, "docs")
    return f"[{link['text']}]({found}{mark}{place})"

  return _LINK.sub(moved, markdown)


def all_settings() -> str:
  """Every setting: flag, type or choices, default, bounds, meaning and source."""
  sys.path.insert(0, str(ROOT))
  from bert_jax import config, settings  # of the standard library alone

  lines = [
    "# All settings",
    "",
    "Each is a flag, `--optim.peak_lr=1e-4`. Defaults are those of BERT-base's recipe or of a published base model; an",
    "experiment's scale and arms change them, and `--help` shows the values that they have in a command. What each",
    "means stands in `bert_jax/config.py`, `bert_jax/architectures.py` and `bert_jax/objective_configs.py`, of which",
    "this page is made.",
  ]
  for group, hint in typing.get_type_hints(config.Config).items():
    kinds: list[Any] = settings.kinds_of(hint)
    for kind in kinds:
      title = f"{group}, {kind.kind}" if len(kinds) > 1 else group
      what = (kind.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
      lines += ["", f"## {title}", "", what, "", "| setting | type | default | meaning |", "|---|---|---|---|"]
      for leaf in settings.leaves(kind, f"{group}."):
        bounds = f" ({leaf.bounds})" if "int" in str(leaf.type) or "float" in str(leaf.type) else ""
        cells = (f"`{leaf.path}`", settings.describe_type(leaf.type) + bounds, f"`{_shown(leaf.default)}`", leaf.help)
        lines.append("| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells) + " |")
  return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
  return str(value).lower() if value is None or isinstance(value, bool) else str(value)
