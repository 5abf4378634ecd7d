"""What was found, in plain words, from the results alone."""

from collections.abc import Sequence

from bert_jax.analysis import formatting
from bert_jax.analysis.comparisons import (
  LEARNED_MARGIN,
  LOSS,
  RANDOM,
  Comparison,
  Results,
  has_one_generator,
  is_at_home_with_one,
  task_measure,
)
from bert_jax.analysis.document import Block, Bullets, Paragraph, Table
from bert_jax.analysis.formatting import CONFIDENCE_LEVEL, NOTHING


def summary(results: Results, picture: list[Block]) -> list[Block]:
  """State of the sweep, warnings, the finding in a sentence or two, the picture of it, the table, and what it says."""
  items = _findings(results)
  return [
    *_state(results),
    Paragraph(_headline(results)),
    *picture,
    *_table(results),
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
  blocks += _failed(results)
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


def _failed(results: Results) -> list[Block]:
  failed = [run for run in results.sweep.runs if run.status == "failed"]
  if not failed:
    return []
  named = "; ".join(f"`{run.arm}`, seed {run.seed}: {run.reason}" for run in failed)
  return [Paragraph(f"**Failed: {named}.** The same command tries them again.")]


def _headline(results: Results) -> str:
  """A sentence or two: which changes helped and whether pretraining did; without changes, what was reached."""
  rows = results.on(LOSS)
  if not rows:
    reached = [
      f"`{arm.arm.name}` reached a held-out loss of **{formatting.mean_sd(arm.spreads['mask_loss'], 3)} nats** at"
      f" [MASK], where {formatting.mean_sd(arm.spreads.get('context_free_mask_loss'), 3)} are reached without context"
      for arm in results.arms
      if "mask_loss" in arm.spreads
    ]
    return f"{formatting.listing(reached)}." if reached else "No run has finished yet."
  if all(row.verdict == "not run" for row in rows):
    return (
      f"**Nothing can be compared yet**: no pair of runs of the {formatting.plural(len(rows), 'change')} is finished."
    )
  words = {
    "better": "made the model better at words that it does not see",
    "worse": "made it worse",
    "no difference": "made no difference worth the name",
    "not shown": "not shown to matter",
    "void": "cannot be judged, since no arm of the pair has learned from context",
    "not measured": "cannot be compared at [MASK]",
    "not run": "not run yet",
  }
  parts = []
  for verdict, said in words.items():
    named = [f"`{row.arm}`{_by(results, row)}" for row in rows if row.verdict == verdict]
    if named:
      is_are = ("is " if len(named) == 1 else "are ") if verdict in ("not shown", "not run") else ""
      said = f"**{said}**" if verdict in ("better", "worse") else f"{is_are}{said}"
      parts.append(f"{formatting.listing(named)} {said}")
  return ". ".join([part[0].upper() + part[1:] for part in ["; ".join(parts), *_helped(results)]]) + "."


def _by(results: Results, row: Comparison) -> str:
  """How large a difference was, in brackets, where one was shown."""
  if row.verdict not in ("better", "worse"):
    return ""
  where = ", at masks that it never trains on" if _own_masks(results, row) else ""
  return f" ({formatting.difference(row)} nats against `{row.against}`{where})"


def _helped(results: Results) -> list[str]:
  """Whether pretraining helped few-label accuracy, by task."""
  parts = []
  for task in results.sweep.tasks():
    gains = [gain for gain in results.gains if gain.against == RANDOM and gain.measure == task_measure(task)]
    gains = [gain for gain in gains if gain.mean is not None]
    better = [gain for gain in gains if gain.verdict == "better"]
    if not gains:
      continue
    if not better:
      parts.append(f"on {task} in no arm")
      continue
    how_many = f"all {len(gains)} arms" if len(better) == len(gains) else f"{len(better)} of {len(gains)} arms"
    points = _ends([100 * (gain.mean or 0) for gain in better], 1)
    parts.append(f"on {task} in {how_many} (by {points} points)")
  if not parts:
    return []
  if all(part.endswith("in no arm") for part in parts):
    return ["pretraining is not shown to help few-label accuracy over random weights in any arm"]
  return [f"pretraining is shown to help few-label accuracy over random weights {formatting.listing(parts)}"]


def _table(results: Results) -> list[Block]:
  """What a reader needs first: each arm's loss and accuracies, and what its change did."""
  if not any("mlm_loss" in arm.spreads for arm in results.arms):
    return []
  tasks = results.sweep.tasks()
  header = ["Arm", "loss at [MASK], nats", "learned from context", *(f"{task}, %" for task in tasks)]
  several = bool(results.comparisons)
  if several:
    header += ["against", "difference", "corrected interval", "verdict"]
  rows = []
  for result in results.arms:
    seen = result.spreads
    row = [f"`{result.arm.name}`" + (" **plateau**" if result.is_void else "")]
    row += [formatting.mean_sd(seen.get("mask_loss"), 3), formatting.mean_sd(seen.get("learned"), 3)]
    row += [formatting.mean_sd(seen.get(f"{task}.pretrained"), 1, 100) for task in tasks]
    rung = next((rung for rung in results.on(LOSS) if rung.arm == result.arm.name), None)
    if several and rung is not None:
      row += [f"`{rung.against}`", formatting.difference(rung), formatting.corrected(rung), formatting.verdict(rung)]
    elif several:
      row += [NOTHING] * 4
    rows.append(row)
  rows += _trivial_rows(results, tasks, len(header))
  text = (
    "Mean ± standard deviation over seeds. **Loss at [MASK]**: of words that the model does not see, in text that no"
    " arm was trained on; lower is better. **Learned from context**: how far that is below what is reached without"
    f" context; an arm that is less than {LEARNED_MARGIN} nats below is"
    " still on the plateau where nothing was learned from it."
  )
  if tasks:
    seen = next(arm.spreads for arm in results.arms if f"{tasks[0]}.pretrained" in arm.spreads)
    labels, draws = (seen.get(f"{tasks[0]}.{part}") for part in ("labels_per_class", "draws"))
    text += (
      " **Tasks**: accuracy of a linear model over the frozen encoder's features"
      + (f", {labels.mean:.0f} labels a class" if labels else "")
      + (f", mean over {draws.mean:.0f} draws of them." if draws else ".")
    )
  if several:
    text += (
      f" **Corrected interval**: of the difference, for all changes of this table together at {CONFIDENCE_LEVEL}; over"
      " other seeds and other held-out documents."
    )
  return [Table(header, rows, range(1, len(header) - (1 if several else 0))), Paragraph(text)]


def _trivial_rows(results: Results, tasks: Sequence[str], columns: int) -> list[list[str]]:
  """What is reached without context, and with random weights or counted words, in the table's columns."""
  arms = results.arms
  lines = [arm.spreads["context_free_mask_loss"].mean for arm in arms if "context_free_mask_loss" in arm.spreads]
  rows = [["without context", _ends(lines, 3), formatting.number(0, 3)]] if lines else []
  ways = (("random", "random weights"), ("tfidf", "TF-IDF, whole texts"), ("majority", "the most frequent class"))
  for way, name in ways if tasks else ():
    cells = []
    for task in tasks:
      seen = [100 * arm.spreads[f"{task}.{way}"].mean for arm in arms if f"{task}.{way}" in arm.spreads]
      cells.append(_ends(seen, 1) if seen else NOTHING)
    rows.append([name, NOTHING, NOTHING, *cells])
  return [[*row, *[NOTHING] * (columns - len(row))] for row in rows]


def _findings(results: Results) -> list[str]:
  rows = results.on(LOSS)
  items = []
  nothing = [row for row in rows if row.verdict == "no difference"]
  if nothing:
    named = [f"`{row.arm}` vs `{row.against}` ({formatting.corrected(row)} nats)" for row in nothing]
    items.append(f"**No difference above {LOSS.margin} nats**: {formatting.listing(named)}.")
  unshown = [row for row in rows if row.verdict == "not shown" and not formatting.too_few(row)]
  if unshown:
    items.append(f"**Not shown**, in either direction: {_named(unshown)}. That is no proof that there is no effect.")
  lone = [row for row in rows if formatting.too_few(row)]
  if lone:
    items.append(f"**Not shown** because so few runs tell no spread: {_named(lone)}.")
  void = [row for row in rows if row.verdict == "void"]
  if void:
    items.append(f"**Void**, since neither arm has learned from context: {_pairs(void)}.")
  half = [row for row in rows if len(row.plateau) == 1 and row.verdict in ("better", "worse", "not shown")]
  if half:
    named = [f"`{row.plateau[0]}` (in `{row.arm}` vs `{row.against}`)" for row in half]
    items.append(
      f"**Still on the plateau**: {formatting.listing(named)}. What is shown there is that one arm leaves it within"
      " this many tokens and the other does not."
    )
  unmeasured = [row for row in rows if row.verdict == "not measured"]
  generators = [row for row in unmeasured if has_one_generator(results.sweep, row.arm, row.against)]
  if generators:
    items.append(f"**Not measured**, since one arm's loss at [MASK] is a small generator's: {_pairs(generators)}.")
  unseen = [row for row in unmeasured if row not in generators]
  if unseen:
    items.append(f"**Not measured**, since an arm never sees [MASK] in training: {_pairs(unseen)}.")
  absent = [row for row in rows if row.verdict == "not run"]
  if absent:
    items.append(f"**Not run**, or without a finished pair of runs: {_pairs(absent)}.")
  notes = (_own_format, _own_masks, _own_objective)
  own = [text for row in rows for note in notes if (text := note(results, row))]
  return items + own + _accuracies(results) + _paper(rows) + _tasks(results)


def _own_format(results: Results, row: Comparison) -> str:
  """Of a change of the rows' format: what is left of it where each arm reads rows as it knows them; else empty."""
  arm, parent = results.arm(row.arm), results.arm(row.against)
  keys = ("own_mask_loss", "context_free_own_mask_loss")
  spreads = (arm.spreads, parent.spreads)
  if "data.format" not in arm.arm.assignments or row.mean is None or any(k not in s for k in keys for s in spreads):
    return ""
  ours, theirs = (line.mean - loss.mean for loss, line in ([s[key] for key in keys] for s in spreads))
  return (
    f"**Rows of its own**: the loss is that on rows of one document's sentences, for all arms, and `{row.arm}` and"
    f" `{row.against}` differ in how near their own rows come to these. On rows of their own format they are"
    f" {formatting.number(ours, 3)} and {formatting.number(theirs, 3)} nats below what is reached there without"
    f" context: {formatting.signed(theirs - ours, 3)} in place of {formatting.difference(row)}."
  )


def _own_objective(results: Results, row: Comparison) -> str:
  """Of a change of what is predicted, or of a memory: that the loss is at home with one arm; else empty."""
  judged = row.mean is not None and row.verdict != "not measured"
  if not judged or _own_masks(results, row) or not is_at_home_with_one(results.sweep, row.arm):
    return ""
  if "data.preceding_tokens" in results.arm(row.arm).arm.assignments:
    return (
      f"**Without a memory**: the loss is that of rows that nothing is known to stand before. One of `{row.arm}` and"
      f" `{row.against}` trains on such rows, and the other with what stands before them. It says less of this change"
      " than accuracies on tasks do."
    )
  return (
    f"**Another objective**: `{row.arm}` and `{row.against}` predict other things in training, and masked tokens are"
    " what one of them trains on. The loss at [MASK] says less of this change than accuracies on tasks do."
  )


def _own_masks(results: Results, row: Comparison) -> str:
  """Of a change of what is masked at once: that the loss is another task for the arm; else empty."""
  if "data.masking.unit" not in results.arm(row.arm).arm.assignments or row.mean is None:
    return ""
  return (
    "**Masks of its own**: the loss is that of single tokens masked, so pieces of a word that are seen help to guess"
    f" its other pieces. `{row.arm}` has no such masks in training: its loss here says less of it than accuracies"
    " on tasks do."
  )


def _accuracies(results: Results) -> list[str]:
  shown = [row for row in results.comparisons if row.measure != LOSS and row.verdict in ("better", "worse")]
  return [
    f"{row.measure.label}: `{row.arm}` is **{row.verdict}** than `{row.against}` by {formatting.difference(row)} "
    f"percentage points (corrected interval {formatting.corrected(row)})."
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


def _tasks(results: Results) -> list[str]:
  """Of each task, what the simple reaches, and whether any arm is above it."""
  items = []
  for task in results.sweep.tasks():
    gains = [results.gain(arm.arm.name, task, "tfidf") for arm in results.arms if f"{task}.tfidf" in arm.spreads]
    gains = [gain for gain in gains if gain.mean is not None]
    if not gains:
      continue
    above = sum(gain.verdict == "better" for gain in gains)
    points = _ends([100 * (gain.mean or 0) for gain in gains], 1)
    said = f"{above} of {len(gains)} arms are above it" if above else "no arm is shown to be above it"
    items.append(f"**{task}**, beside TF-IDF with the same labels: {points} points; {said}.")
  return items


def missing_runs(results: Results) -> list[str]:
  """Lines that say which runs diverged, have not finished or were not run; arms that lack the same share one."""
  words = {
    "diverged": "diverged, and left out of every mean and difference",
    "failed": "failed",
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


def _ends(values: Sequence[float], decimals: int) -> str:
  """The one value that all are, or the least and the greatest."""
  ends = [formatting.number(value, decimals) for value in (min(values), max(values))]
  return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
