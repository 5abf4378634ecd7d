"""What was found, in plain words, from the results alone."""

from collections.abc import Sequence

from bert_jax.analysis import formatting
from bert_jax.analysis.comparisons import LEARNED_MARGIN, LOSS, Comparison, Results
from bert_jax.analysis.document import Block, Bullets, Heading, Paragraph
from bert_jax.analysis.formatting import CONFIDENCE_LEVEL, PERCENT


def summary(results: Results, picture: list[Block]) -> list[Block]:
  """State of the sweep, warnings, the finding in a sentence, the picture of it, and the findings."""
  items = _findings(results)
  return [
    *_state(results),
    Heading(2, "What was found"),
    Paragraph(_headline(results)),
    *picture,
    *([Bullets(items)] if items else []),
  ]


def _state(results: Results) -> list[Block]:
  sweep = results.sweep
  finished = sum(run.status == "finished" for run in sweep.runs)
  ended = finished + sum(run.status == "diverged" for run in sweep.runs)
  blocks: list[Block] = []
  if ended < len(sweep.runs):
    blocks.append(
      Paragraph(
        f"**This sweep is not complete: {finished} of {len(sweep.runs)} runs finished.** Everything below is of those "
        "that have; it may change with the others."
      )
    )
  failed = [gate for gate in sweep.gates or () if not gate.holds]
  if failed:
    names = [f"{gate.name} ({formatting.listing([f'`{arm}`' for arm in gate.arms])})" for gate in failed]
    blocks.append(
      Paragraph(
        f"**A gate fails: {formatting.listing(names)}.** These arms differ in more than they name, so do not trust "
        "comparisons between them; details stand at the end."
      )
    )
  diverged = [result for result in results.arms if result.seeds_with("diverged")]
  if diverged:
    names = [f"`{result.arm.name}` ({formatting.seeds(result.seeds_with('diverged'))})" for result in diverged]
    blocks.append(
      Paragraph(
        f"**Diverged: {formatting.listing(names)}.** The loss was lost, so these runs are left out of every mean and "
        "difference; what is left of such an arm are the seeds that went well."
      )
    )
  return blocks


def _headline(results: Results) -> str:
  """One sentence: how many changes came out how, on held-out loss; without changes, what was reached."""
  rows = results.on(LOSS)
  if not rows:
    reached = [
      f"`{arm.arm.name}` reached a held-out loss of **{formatting.mean_sd(arm.spreads['mask_loss'], 3)} nats** at"
      f" [MASK], where {formatting.mean_sd(arm.spreads.get('context_free_mask_loss'), 3)} are reached without context"
      for arm in results.arms
      if "mask_loss" in arm.spreads
    ]
    return f"{formatting.listing(reached)}." if reached else "No run has finished yet."
  names = ("better", "worse", "not shown", "void", "not measured", "not run")
  counts = {name: sum(row.verdict == name for row in rows) for name in names}
  if counts["not run"] == len(rows):
    return (
      f"**Nothing can be compared yet**: no pair of runs of the {formatting.plural(len(rows), 'change')} is finished."
    )
  words = {
    "better": "made the model better",
    "worse": "made it worse",
    "not shown": "had no effect that this sweep can show",
    "void": "cannot be judged because an arm is void",
    "not measured": "cannot be judged at [MASK], which an arm never saw",
    "not run": "is not run yet",
  }
  if len(rows) == 1:
    return f"By its loss on hidden tokens of held-out text, **the one change {words[rows[0].verdict]}**."
  parts = [f"{counts[name]} {words[name]}" for name in words if counts[name]]
  return f"By loss on hidden tokens of held-out text, **of {len(rows)} changes {formatting.listing(parts)}**."


def _findings(results: Results) -> list[str]:
  rows = results.on(LOSS)
  items = []
  for verdict in ("better", "worse"):
    items += [
      f"`{row.arm}` is **{verdict}** than `{row.against}`: loss at [MASK] {formatting.difference(row)} nats "
      f"({CONFIDENCE_LEVEL} interval {formatting.interval(row)}, {formatting.plural(len(row.seeds), 'seed')})."
      for row in rows
      if row.verdict == verdict
    ]
  unshown = [row for row in rows if row.verdict == "not shown" and not formatting.too_few(row)]
  if unshown:
    items.append(f"**Not shown**, in either direction: {_named(unshown)}. That is no proof that there is no effect.")
  lone = [row for row in rows if formatting.too_few(row)]
  if lone:
    items.append(f"**Not shown** because so few runs tell no spread: {_named(lone)}.")
  void = [row for row in rows if row.verdict == "void"]
  if void:
    items.append(f"**Void**, since an arm has not learned any context: {_pairs(void)}.")
  unmeasured = [row for row in rows if row.verdict == "not measured"]
  if unmeasured:
    items.append(f"**Not measured**, since an arm never sees [MASK] in training: {_pairs(unmeasured)}.")
  absent = [row for row in rows if row.verdict == "not run"]
  if absent:
    items.append(f"**Not run**, or without a finished pair of runs: {_pairs(absent)}.")
  return items + _accuracies(results) + _paper(rows) + _learned(results) + _tasks(results)


def _accuracies(results: Results) -> list[str]:
  shown = [row for row in results.comparisons if row.measure != LOSS and row.verdict in ("better", "worse")]
  return [
    f"{row.measure.label}: `{row.arm}` is **{row.verdict}** than `{row.against}` by {formatting.difference(row)} "
    f"percentage points ({CONFIDENCE_LEVEL} interval {formatting.interval(row)})."
    for row in shown
  ]


def _paper(rows: Sequence[Comparison]) -> list[str]:
  """How the published directions came out; on held-out loss."""
  claimed = [row for row in rows if row.direction and row.verdict != "not run"]
  if not claimed:
    return []
  found = {
    name: [f"`{row.arm}`" for row in claimed if row.agreement == name] for name in ("agrees", "disagrees", "cannot say")
  }
  words = {"agrees": "this sweep agrees on", "disagrees": "disagrees on", "cannot say": "cannot say for"}
  parts = [f"{words[name]} {formatting.listing(names)}" for name, names in found.items() if names]
  claims = "1 change has" if len(claimed) == 1 else f"{len(claimed)} changes have"
  text = f"**Against the paper**: {claims} a published direction; {formatting.listing(parts)}"
  return [text.replace("; disagrees", "; this sweep disagrees").replace("; cannot", "; this sweep cannot") + "."]


def _learned(results: Results) -> list[str]:
  reached = [(arm.spreads["learned"].mean, arm) for arm in results.arms if "learned" in arm.spreads]
  if not reached:
    return []
  lines = [arm.spreads["context_free_mask_loss"].mean for _, arm in reached]
  line = f"what is reached without context, {_ends(lines, 3)} nats"
  void = [f"`{arm.arm.name}`" for _, arm in reached if arm.is_void]
  learned = sorted(((depth, arm.arm.name) for depth, arm in reached if not arm.is_void), key=lambda at: at[0])
  if not learned:
    return [f"**Every finished arm is void**: none got {LEARNED_MARGIN} nats below {line}."]
  (least, last), (most, first) = learned[0], learned[-1]
  text = f"**Learned from context**: at [MASK] `{first}` ended {formatting.number(most, 3)} nats below {line}"
  if len(learned) > 1:
    text += f"; of the other arms `{last}` came least far below it, {formatting.number(least, 3)} nats"
  if void:
    text += f"; {formatting.listing(void)} learned none in at least one run"
  return [text + "."]


def _tasks(results: Results) -> list[str]:
  items = []
  for task in results.sweep.tasks():
    arms = [arm for arm in results.arms if f"{task}.pretrained" in arm.spreads]
    if not arms:
      continue
    parts = [("pretrained", "pretrained"), ("scratch", "the same network not pretrained")]
    parts.append(("tfidf", "TF-IDF with logistic regression"))
    reached = [
      f"{name} {_range([arm.spreads[f'{task}.{part}'].mean for arm in arms if f'{task}.{part}' in arm.spreads])}"
      for part, name in parts
      if any(f"{task}.{part}" in arm.spreads for arm in arms)
    ]
    sizes = [
      f"{arms[0].spreads[f'{task}.{part}'].mean:.0f} {words}"
      for part, words in (("labels_per_class", "labels a class"), ("test_texts", "test texts"))
      if f"{task}.{part}" in arms[0].spreads
    ]
    gains = [results.gain(arm.arm.name, task, "scratch") for arm in arms]
    if any(gain.interval and gain.interval.low is not None for gain in gains):
      gained = sum(gain.verdict == "better" for gain in gains)
      shown = f"Pretraining is shown to help in {gained} of {formatting.plural(len(arms), 'arm')}."
    else:
      shown = "So few seeds cannot show how far that is chance."
    items.append(
      f"**{task}**" + (f" ({', '.join(sizes)})" if sizes else "") + f": {formatting.listing(reached)}. {shown}"
    )
  return items


def missing_runs(results: Results) -> list[str]:
  """Lines that say which runs diverged, have not finished or were not run; arms that lack the same share one."""
  words = {
    "diverged": "diverged, and left out of every mean and difference",
    "unfinished": "started and not finished",
    "not run": "not run",
  }
  arms_by_text: dict[str, list[str]] = {}
  for result in results.arms:
    parts = [
      f"{formatting.seeds(seeds)} {text}" for status, text in words.items() if (seeds := result.seeds_with(status))
    ]
    if parts:
      arms_by_text.setdefault("; ".join(parts), []).append(f"`{result.arm.name}`")
  return [f"{formatting.listing(arms)}: {text}." for text, arms in arms_by_text.items()]


def _named(rows: Sequence[Comparison]) -> str:
  return formatting.listing([f"`{row.arm}` vs `{row.against}` ({formatting.difference(row)} nats)" for row in rows])


def _pairs(rows: Sequence[Comparison]) -> str:
  return formatting.listing([f"`{row.arm}` vs `{row.against}`" for row in rows])


def _range(shares: Sequence[float]) -> str:
  """`61.0 %`, or `55.1 to 61.0 %`."""
  return _ends([100 * share for share in shares], 1) + PERCENT


def _ends(values: Sequence[float], decimals: int) -> str:
  """The one value that all are, or the least and the greatest."""
  ends = [formatting.number(value, decimals) for value in (min(values), max(values))]
  return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
