"""The report's last sections: what the sweep can show, how it was run, and what its arms shared."""

from collections.abc import Mapping, Sequence
from typing import Any

from bert_jax.analysis import formatting
from bert_jax.analysis.comparisons import LOSS, LOSS_MARGIN, SHARE_MARGIN, Results
from bert_jax.analysis.document import Block, Bullets, Folded, Heading, Paragraph, Table
from bert_jax.analysis.formatting import NOTHING
from bert_jax.analysis.runs import COUNTS
from bert_jax.analysis.statistics import spreads_check


def limits(results: Results) -> list[Block]:
  sweep = results.sweep
  blocks: list[Block] = [Heading(2, "What this size can and cannot show"), Paragraph(sweep.scale_note)]
  tested = [row for row in results.comparisons if row.corrected is not None]
  items = []
  if results.comparisons and not tested:
    items.append("No comparison has enough paired runs yet to tell chance from effect, so nothing can be shown.")
  if tested:
    items += [
      "The intervals speak of other seeds (initial weights, order of the text, masks), of other held-out documents "
      "and, for accuracies, of other labelled and test texts of this kind; not of other corpora, sizes or settings.",
      "“Not shown” is not “no effect”: an effect smaller than the smallest difference below could not have been shown.",
    ]
  if items:
    blocks.append(Bullets(items))
  if tested:
    header = ["Change", "measure", "seeds", "difference seen", "smallest difference to be shown"]
    rows = [
      [
        f"`{row.arm}` vs `{row.against}`",
        row.measure.label,
        str(len(row.seeds)),
        f"{formatting.difference(row)} {formatting.unit(row)}",
        formatting.resolution(row),
      ]
      for row in tested
    ]
    blocks += [
      Paragraph("The smallest difference that this sweep could have shown, given the spread that was seen:"),
      Table(header, rows, (2, 3, 4)),
    ]
  return blocks


def statistics_in_words(results: Results) -> list[Block]:
  """How intervals and verdicts come about, with what was seen of the arms' spreads."""
  items = [
    "A run's value is taken as what its arm does, plus what its seed does to every arm, plus a rest. How much the rest "
    "varies is seen in the pair of arms that is compared and in all arms together; the two are averaged, the latter "
    "with a weight of half as many degrees of freedom as there are other arms (a moderated variance: Smyth 2004, with "
    "a fixed prior).",
    "To the error over seeds come those of what was measured on: the held-out documents, or the draws of labelled "
    "texts and the test texts (errors over seeds and examples together: Sellam et al. 2021). They are added in "
    "quadrature, each at its own degrees of freedom. Two test texts more, one gained and one lost, are counted in "
    "(Bonett and Price 2012), so no interval has width 0.",
    "Verdicts are corrected for the number of comparisons by Holm's method (1979). “No difference” means that the "
    f"corrected interval lies within ± {LOSS_MARGIN} nats, or ± {100 * SHARE_MARGIN:.0f} points.",
  ]
  values = [{run.seed: run.values[LOSS.key] for run in arm.runs if LOSS.key in run.values} for arm in results.arms]
  seen = spreads_check([of_arm for of_arm, arm in zip(values, results.arms, strict=True) if not arm.is_void])
  if seen is not None:
    ratio, p = seen
    items.append(
      f"Between arms that have learned, the spread of the loss over seeds differs by a factor of {ratio:.1f} at most "
      f"(Levene's test: p = {formatting.probability(p)}). With few seeds such a factor is often chance. An arm that "
      "really varies three times as much as the others has intervals that hold in 91 to 94 of 100 cases, the others' "
      "in more than 95."
    )
  return [Heading(2, "Statistics, in words"), Bullets(items)]


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
