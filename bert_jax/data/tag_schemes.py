"""What sequences of tags mark: spans in IOB1, IOB2 and BIOES, or each word by itself, as parts of speech do.

IOB1 (Ramshaw and Marcus 1995): I-PER in a name, B-PER only at the start of one that follows another of its type.
IOB2: B-PER at the start of every name. BIOES: E-PER at its end too, and S-PER for a name of one word.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

Scheme = Literal["IOB1", "IOB2", "BIOES"]
OUTSIDE = "O"


def scheme_of(tags: Iterable[str]) -> Scheme | None:
  """The scheme that these tags, of all sequences, are of; None for tags of words by themselves.

  IOB1 and IOB2 are told apart by `broken` alone: what could be either is IOB2.
  """
  different = set(tags) - {OUTSIDE}
  prefixes = {tag[:2] for tag in different}
  if not different or not prefixes <= {"B-", "I-", "E-", "S-"}:
    return None
  return "BIOES" if prefixes & {"E-", "S-"} else "IOB2"


def spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
  """(type, first word, word after the last) of what a sequence marks, read as conlleval reads it.

  A tag that breaks its scheme starts a span where it has to. Tags of no scheme mark each word, by the tag.
  """
  if any(tag[1:2] != "-" or tag[:1] not in "BIES" for tag in tags if tag != OUTSIDE):
    return [(tag, place, place + 1) for place, tag in enumerate(tags)]
  found: list[tuple[str, int, int]] = []
  begin, kind = 0, ""  # of the span that is open, if any
  for place, tag in enumerate([*tags, OUTSIDE]):
    prefix, _, now = tag.partition("-")
    if kind and (tag == OUTSIDE or prefix in "BS" or now != kind):
      found.append((kind, begin, place))
      kind = ""
    if tag != OUTSIDE and not kind:
      begin, kind = place, now
    if kind and prefix in ("E", "S"):
      found.append((kind, begin, place + 1))
      kind = ""
  return found


def first_break(tags: Sequence[str], scheme: Scheme) -> int | None:
  """The first word whose tag its scheme does not allow there; None where there is none."""
  before = OUTSIDE
  for place, tag in enumerate([*tags, OUTSIDE]):
    if not _follows(before, tag, scheme):
      return min(place, len(tags) - 1)
    before = tag
  return None


def _follows(before: str, tag: str, scheme: Scheme) -> bool:
  """Whether `tag` may stand after `before`."""
  inside = tag[:1] in ("I", "E") and tag != OUTSIDE
  opened = before[:1] in ("B", "I") and before != OUTSIDE
  same = before[2:] == tag[2:]
  if scheme == "IOB1":
    return tag[:1] != "B" or (before != OUTSIDE and same)
  if scheme == "IOB2":
    return not inside or (opened and same)
  return (opened and same) if inside else not opened


def broken(origin: str, sequences: Sequence[Sequence[str]]) -> tuple[str, ...]:
  """In words, that sequences break the scheme of their tags, with the first that does; () where none does.

  Tags of I- and B- are IOB1 where no sequence breaks that and some break IOB2.
  """
  scheme = scheme_of(tag for tags in sequences for tag in tags)
  if scheme is None:
    return ()
  breaks = {
    name: [i for i, tags in enumerate(sequences) if first_break(tags, name) is not None] for name in (scheme, "IOB1")
  }
  if not breaks[scheme] or (scheme == "IOB2" and not breaks["IOB1"]):
    return ()
  first = breaks[scheme][0]
  place = first_break(sequences[first], scheme) or 0
  around = " ".join(sequences[first][max(0, place - 1) : place + 2])
  return (
    f"{origin}: {len(breaks[scheme]):,} of {len(sequences):,} sentences break {scheme}, the first is sentence"
    f" {first + 1} ({around}, at word {place + 1}); they are read as conlleval reads them",
  )
