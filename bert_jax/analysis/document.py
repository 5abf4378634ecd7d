"""A report as a list of blocks, written as Markdown and as one self-contained HTML page.

Text in blocks may hold `**bold**` and `` `code` ``; everything else stands for itself.
"""

import dataclasses
import html
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Heading:
  level: int
  text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
  text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
  items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
  """`numeric`: the columns that are right-aligned."""

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  numeric: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Picture:
  """`path` is relative to the Markdown file; `svg` stands in the page itself."""

  path: str
  svg: str
  alt: str
  caption: str


@dataclasses.dataclass(frozen=True)
class Folded:
  """Blocks behind a line that opens them."""

  summary: str
  blocks: Sequence["Block"]


Block = Heading | Paragraph | Bullets | Table | Picture | Folded

VERDICT_CLASSES = {
  "better": "better",
  "worse": "worse",
  "void": "void",
  "plateau": "void",
  "agrees": "better",
  "disagrees": "worse",
}


# ---- Markdown ----


def markdown(blocks: Sequence[Block]) -> str:
  """The blocks as GitHub-flavoured Markdown."""
  return "\n\n".join(_markdown_block(block) for block in blocks) + "\n"


def _markdown_block(block: Block) -> str:
  match block:
    case Heading(level, text):
      return f"{'#' * level} {_markdown_text(text)}"
    case Paragraph(text):
      return _markdown_text(text)
    case Bullets(items):
      return "\n".join(f"- {_markdown_text(item)}" for item in items)
    case Table(header, rows, numeric):
      marks = ["---:" if column in numeric else "---" for column in range(len(header))]
      lines = [
        [_markdown_cell(cell) for cell in header],
        marks,
        *([_markdown_cell(cell) for cell in row] for row in rows),
      ]
      return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    case Picture(path, _, alt, caption):
      return f"![{alt}]({path})\n\n{_markdown_text(caption)}"
    case Folded(summary, inner):
      # The blank lines make GitHub read what is inside as Markdown.
      return f"<details><summary>{html.escape(summary)}</summary>\n\n{markdown(inner)}\n</details>"


def _markdown_text(text: str) -> str:
  """Text whose `<` and lone `*` stand for themselves, outside of code."""
  parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
  parts[::2] = [re.sub(r"(?<!\*)\*(?!\*)", r"\\*", part).replace("<", "&lt;") for part in parts[::2]]
  return "".join(parts)


def _markdown_cell(text: str) -> str:
  return _markdown_text(text).replace("|", "\\|")


# ---- HTML ----


def page(title: str, blocks: Sequence[Block]) -> str:
  """The blocks as one HTML page that needs no other file and no network."""
  body = "\n".join(_html_block(block) for block in blocks)
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
    "</body>\n</html>\n"
  )


def _html_block(block: Block) -> str:
  match block:
    case Heading(level, text):
      return f"<h{level}>{_html_text(text)}</h{level}>"
    case Paragraph(text):
      return f"<p>{_html_text(text)}</p>"
    case Bullets(items):
      return "<ul>\n" + "\n".join(f"<li>{_html_text(item)}</li>" for item in items) + "\n</ul>"
    case Table(header, rows, numeric):
      head = "".join(_html_cell("th", cell, column in numeric) for column, cell in enumerate(header))
      lines = ["".join(_html_cell("td", cell, column in numeric) for column, cell in enumerate(row)) for row in rows]
      body = "\n".join(f"<tr>{line}</tr>" for line in lines)
      return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n'
        "</tbody></table></div>"
      )
    case Picture(_, svg, alt, caption):
      svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt, quote=True)}"', 1)
      return f'<figure><div class="wide">{svg}</div>\n<figcaption>{_html_text(caption)}</figcaption></figure>'
    case Folded(summary, inner):
      body = "\n".join(_html_block(block) for block in inner)
      return f"<details><summary>{_html_text(summary)}</summary>\n{body}\n</details>"


def _html_text(text: str) -> str:
  text = html.escape(text, quote=False)
  text = re.sub(r"`([^`]*)`", lambda code: f"<code>{code[1].replace('*', '&#42;')}</code>", text)
  return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


def _html_cell(tag: str, text: str, is_numeric: bool) -> str:
  classes = ["number"] if is_numeric else ["short"] if len(text) <= SHORT else []
  plain = text.strip("*")
  if tag == "td" and plain in VERDICT_CLASSES:
    classes.append(VERDICT_CLASSES[plain])
  attribute = f' class="{" ".join(classes)}"' if classes else ""
  return f"<{tag}{attribute}>{_html_text(text)}</{tag}>"


SHORT = 40  # characters; a cell of so many is not broken into lines

# The colours of the plots stand here too, as variables; the blue and the vermillion are Okabe and Ito's (2008).
STYLE = """\
:root { --ink: #1c2127; --muted: #6b7480; --grid: #dfe3e8; --paper: #fefefe; --good: #0068a4; --bad: #b04a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --muted: #98a1ac; --grid: #363c44; --paper: #16191d; --good: #6cbcf0; --bad: #f5935a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0.6rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.6rem; padding-top: 0.8rem; border-top: 1px solid var(--grid); }
li { margin: 0.3rem 0; }
p, ul, figcaption { max-width: 46rem; }
ul { padding-left: 1.3rem; }
code { font: 0.88em ui-monospace, monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; line-height: 1.4; margin: 0.4rem 0 1rem; min-width: 60%;
  overflow-wrap: normal; }
th, td { padding: 0.35rem 0.65rem; border-bottom: 1px solid var(--grid); text-align: left; vertical-align: top; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); padding-left: 0; }
.short { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.short, th.number { white-space: normal; min-width: 3.5rem; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.void { color: var(--muted); font-weight: 600; }
figure { margin: 1rem 0; }
figure svg { display: block; width: 100%; min-width: 32rem; height: auto; }
figure svg text { font-family: inherit !important; }
figcaption { color: var(--muted); font-size: 0.88rem; }
@media (max-width: 40rem) { td:first-child { white-space: normal; min-width: 6rem; } }
@media print {
  body { font-size: 9pt; } main { max-width: none; padding: 0; } .wide { overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: 0.2rem 0.35rem; } .short, .number { white-space: normal; }
  figure, tr { break-inside: avoid; } figure svg { min-width: 0; }
}
details { margin: 0.8rem 0; }
summary { cursor: pointer; font-weight: 600; }
"""
