"""The report's last sections: what the sweep can show, how it was run, and what its arms shared."""

from collections.abc import Mapping, Sequence
from typing import Any

from bert_jax.analysis import formatting
from bert_jax.analysis.comparisons import Results
from bert_jax.analysis.document import Block, Bullets, Folded, Heading, Paragraph, Table
from bert_jax.analysis.formatting import CONFIDENCE_LEVEL, NOTHING
from bert_jax.analysis.runs import COUNTS
from bert_jax.analysis.statistics import CONFIDENCE, t_quantile


def limits(results: Results) -> list[Block]:
  sweep = results.sweep
  blocks: list[Block] = [Heading(2, "What this size can and cannot show"), Paragraph(sweep.scale_note)]
  tested = [row for row in results.comparisons if row.interval and row.interval.resolution is not None]
  items = []
  if results.comparisons and not tested:
    items.append("No comparison has enough paired runs yet to tell chance from effect, so nothing can be shown.")
  for pairs in sorted({len(row.seeds) for row in tested}):
    items.append(
      f"With {pairs} paired seeds an interval has {formatting.plural(pairs - 1, 'degree')} of freedom and reaches "
      f"{t_quantile(pairs - 1):.1f} standard errors to either side of the mean difference."
    )
  if tested:
    items += [
      f"{formatting.plural(len(tested), 'verdict')} at {CONFIDENCE_LEVEL}: if no change had any effect, "
      f"{len(tested) * (1 - CONFIDENCE):.1f} of them would still be expected to read better or worse by chance.",
      "The intervals speak of other seeds (initial weights, order of the text, masks) on this text at this size; not "
      "of other held-out documents, texts, sizes or settings.",
      "“Not shown” is not “no effect”: an effect smaller than the smallest difference below could not have been shown.",
    ]
  if items:
    blocks.append(Bullets(items))
  if tested:
    header = ["Change", "measure", "pairs", "degrees of freedom", "difference seen", "smallest difference to be shown"]
    rows = [
      [
        f"`{row.arm}` vs `{row.against}`",
        row.measure.label,
        str(len(row.seeds)),
        str(len(row.seeds) - 1),
        f"{formatting.difference(row)} {formatting.unit(row)}",
        formatting.resolution(row),
      ]
      for row in tested
    ]
    blocks += [
      Paragraph(
        "The smallest mean difference that so many seeds could have shown, given the spread seen between pairs:"
      ),
      Table(header, rows, (2, 3, 4, 5)),
    ]
  return blocks


def how_it_was_run(results: Results) -> list[Block]:
  sweep = results.sweep
  finished = sum(run.status == "finished" for run in sweep.runs)
  seconds = [run.times[name] for run in sweep.runs for name in run.times if name.endswith("_seconds")]
  items = [
    f"Experiment `{sweep.experiment}` at scale `{sweep.scale}`: {formatting.plural(len(sweep.arms), 'arm')}, "
    f"{formatting.seeds(sweep.seeds)}; {finished} of {formatting.plural(len(sweep.runs), 'run')} finished.",
    *_text(results),
    f"Hardware: {sweep.hardware}.",
    f"Versions: {formatting.listing([f'{name} {version}' for name, version in sweep.versions.items()])}"
    + (f"; commit `{sweep.git_commit}`." if sweep.git_commit else "."),
  ]
  if seconds:
    items.append(f"Time of all runs together: {formatting.duration(sum(seconds))}.")
  blocks: list[Block] = [Heading(2, "How it was run"), Bullets(items)]
  if len(sweep.arms) > 1:
    blocks += [Paragraph("What each arm sets, over the base settings:"), _assignments(results)]
  return [*blocks, Folded("Time of each run", [_times(results)]), Folded("Base settings", [_settings(sweep.config)])]


def _text(results: Results) -> list[str]:
  """What was trained on and what was held out, in a line; none before a run has ended."""
  seen = [arm.spreads for arm in results.arms if "held_out_documents" in arm.spreads]
  if not seen:
    return []
  source = _lookup(results.sweep.config, "data.source")
  sizes = {key: seen[0][key].mean for key in COUNTS if key in seen[0]}
  trained = sorted({arm["train_tokens"].mean for arm in seen})
  used, there = sizes["eval_examples"], sizes["held_out_examples"]
  return [
    f"Text: `{source}`; {formatting.si(trained[-1])} tokens to train on"
    + (f" (arms with less: {formatting.listing([formatting.si(x) for x in trained[:-1]])})" if trained[1:] else "")
    + f", {sizes['held_out_documents']:,.0f} documents of {formatting.si(sizes['held_out_tokens'])} tokens held out, "
    f"evaluated on {'all' if used == there else f'{used:,.0f} of'} {there:,.0f} examples.",
    *_near_duplicates(sizes),
  ]


def _near_duplicates(sizes: Mapping[str, float]) -> list[str]:
  if not sizes.get("near_duplicates"):
    return []
  return [
    f"Near duplicates: {formatting.plural(int(sizes['near_duplicates']), 'document')} that share much of their text"
    " with another; each stands on the same side of the split as its like, for which"
    f" {sizes['near_duplicates_moved']:,.0f} changed sides."
  ]


def _lookup(config: Mapping[str, Any], path: str) -> Any:
  """A setting of a stored config, by its dotted path; None where it has none."""
  node: Any = config
  for name in path.split("."):
    node = node.get(name) if isinstance(node, Mapping) else None
  return node


def _assignments(results: Results) -> Table:
  rows = [
    [f"`{arm.name}`", ", ".join(f"`{path}={_setting(value)}`" for path, value in arm.assignments.items()) or "nothing"]
    for arm in results.sweep.arms
  ]
  return Table(["Arm", "sets"], rows)


def _times(results: Results) -> Block:
  rows = []
  for run in results.sweep.runs:
    if run.times:
      row = [f"`{run.arm}`", str(run.seed)]
      for name in ("train_seconds", "eval_seconds", "transfer_seconds", "compile_seconds"):
        row.append(formatting.duration(run.times[name]) if name in run.times else NOTHING)
      row.append(formatting.si(run.times["tokens_per_second"]) if "tokens_per_second" in run.times else NOTHING)
      row.append(f"{run.times['data_wait_share']:.1%}" if "data_wait_share" in run.times else NOTHING)
      rows.append(row)
  if not rows:
    return Paragraph("Not run.")
  header = ["Arm", "seed", "training", "evaluation", "transfer", "compiling", "tokens/s", "waiting for data"]
  return Table(header, rows, range(1, len(header)))


def _settings(config: Mapping[str, Any]) -> Block:
  return Table(["Setting", "value"], [[f"`{path}`", f"`{_setting(value)}`"] for path, value in _leaves(config)])


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
  leaves = []
  for name, value in config.items():
    leaves += _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
  return leaves


def _setting(value: Any) -> str:
  """A value as a flag takes it."""
  return {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)


def gates(results: Results) -> list[Block]:
  found = results.sweep.gates
  blocks: list[Block] = [Heading(2, "What the arms shared")]
  if not found:
    return [*blocks, Paragraph("Not run: no gate has been checked.")]
  rows = [
    [
      gate.name,
      "holds" if gate.holds else "**fails**",
      formatting.listing([f"`{arm}`" for arm in gate.arms]),
      NOTHING if gate.seed is None else str(gate.seed),
      gate.detail,
    ]
    for gate in found
  ]
  return [
    *blocks,
    Paragraph(
      "A difference can be put down to a change only if the arms are equal in all else. Each gate checks one thing "
      "that its arms have to share."
    ),
    Table(["Gate", "result", "arms", "seed", "detail"], rows),
  ]
