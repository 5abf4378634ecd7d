"""The report's sections in order, in words made from the results; nothing is claimed that is not computed."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from bert_jax.analysis import wording
from bert_jax.analysis.comparisons import LOSS, NSP, PLATEAU_MARGIN, Comparison, Results
from bert_jax.analysis.document import Block, Bullets, Folded, Heading, Paragraph, Picture, Table
from bert_jax.analysis.statistics import CONFIDENCE, t_quantile
from bert_jax.analysis.summary import missing_runs, summary
from bert_jax.analysis.wording import CONFIDENCE_LEVEL, NOTHING

Pictures = Mapping[str, tuple[str, str]]  # name → (path beside the report, SVG)


def report(results: Results, pictures: Pictures) -> list[Block]:
  """The whole report."""
  sections = (
    [Heading(1, results.sweep.question)],
    summary(results),
    _arms(results),
    _table(results),
    _changes(results, pictures),
    _curves(results, pictures),
    _transfer(results, pictures),
    _limits(results),
    _how(results),
    _gates(results),
  )
  return list(itertools.chain.from_iterable(sections))


def _arms(results: Results) -> list[Block]:
  items = []
  for arm in results.sweep.arms:
    base = f", against `{arm.parent}`" if arm.parent else ""
    items.append(f"**`{arm.name}`**{base}: {arm.change}" + (f" The paper: {arm.expects}" if arm.expects else ""))
  return [
    Heading(2, "The arms"),
    Paragraph("Each arm is one recipe" + (", compared with the arm that it changes." if results.comparisons else ".")),
    Bullets(items),
  ]


# ---- results ----


def _table(results: Results) -> list[Block]:
  sweep, tasks = results.sweep, results.sweep.tasks()
  has_nsp = any(NSP.key in result.spreads for result in results.arms)
  has_own = any("own_mlm_loss" in result.spreads for result in results.arms)
  header = ["Arm", "runs", "held-out loss", "perplexity", "below unigram"]
  header += ["loss, own format"] * has_own + ["NSP accuracy, %"] * has_nsp + [f"{task}, %" for task in tasks]
  header += ["tokens seen", "predicted tokens", "steps"]
  rows = []
  for result in results.arms:
    seen = result.spreads
    row = [
      f"`{result.arm.name}`" + (" **void**" if result.is_void else ""),
      f"{len(result.seeds_with('finished'))} of {len(sweep.seeds)}",
      wording.mean_sd(seen.get("mlm_loss"), 3),
      wording.mean_sd(seen.get("mlm_perplexity"), 1),
      wording.mean_sd(seen.get("below_unigram"), 3),
    ]
    row += [wording.mean_sd(seen.get("own_mlm_loss"), 3)] * has_own
    row += [wording.mean_sd(seen.get(NSP.key), 1, 100)] * has_nsp
    row += [wording.mean_sd(seen.get(f"{task}.pretrained"), 1, 100) for task in tasks]
    row += [wording.si(seen[count].mean) if count in seen else NOTHING for count in ("tokens", "predicted_tokens")]
    row.append(f"{seen['steps'].mean:,.0f}" if "steps" in seen else NOTHING)
    rows.append(row)
  words = [
    "Mean ± standard deviation over finished runs. **Held-out loss** is in nats for each masked token of text that no "
    "arm has trained on, the same text and the same masks for every arm; lower is better. **Perplexity** is e to the "
    "loss: the model is as unsure as if it had to choose among that many equally likely tokens. **Below unigram**: "
    "nats under the unigram entropy, which is the loss of knowing how frequent each token is and ignoring its context."
  ]
  if has_own:
    words.append(
      "**Loss, own format** is on examples cut as the arm trains on them, so arms differ in their text there."
    )
  if has_nsp:
    words.append("**NSP accuracy**: the share of next-sentence questions answered rightly.")
  if tasks:
    words.append(f"{wording.listing([f'**{task}**' for task in tasks])}: few-label accuracy after fine-tuning.")
  blocks: list[Block] = [Heading(2, "Results"), Table(header, rows, range(1, len(header))), Paragraph(" ".join(words))]
  void = [result for result in results.arms if result.is_void]
  if void:
    names = [f"`{result.arm.name}` ({wording.seeds(result.void_seeds)})" for result in void]
    blocks.append(
      Paragraph(
        f"**Void**: never left the unigram plateau, which is to say that the loss never got {PLATEAU_MARGIN} nats "
        f"below the unigram entropy: {wording.listing(names)}. Such a model has learned no context yet, so "
        "comparisons with it say nothing about recipes."
      )
    )
  return blocks + [Bullets(lines) for lines in [missing_runs(results)] if lines]


def _changes(results: Results, pictures: Pictures) -> list[Block]:
  blocks: list[Block] = [Heading(2, "What each change did")]
  if not results.comparisons:
    return [*blocks, Paragraph("No arm of this sweep is compared with another.")]
  blocks.append(
    Paragraph(
      "Differences are arm minus the arm it is compared with, paired by seed: both runs of a pair have the same seed. "
      f"The interval is Student's t for the mean of the pairs, at {CONFIDENCE_LEVEL}; the verdict is better or worse "
      "only where the interval excludes 0."
    )
  )
  header = ["Change", "difference, nats", f"{CONFIDENCE_LEVEL} interval", "pairs", "verdict", "the paper", "this sweep"]
  rows = [[*_change_cells(row), *_seen_ratio(results, row)] for row in results.on(LOSS)]
  header += ["tokens seen", "predicted tokens"]
  blocks += [
    Paragraph("**Held-out loss** (below 0 is better)"),
    Table(header, rows, (1, 2, 3, 7, 8)),
  ]
  others = [row for row in results.comparisons if row.measure != LOSS]
  if others:
    header = ["Change", "measure", "difference, points", *header[2:7]]
    rows = []
    for row in others:
      change, *cells = _change_cells(row)
      rows.append([change, row.measure.label.removesuffix(" accuracy"), *cells])
    blocks += [Paragraph("**Accuracies**, in percentage points (above 0 is better)"), Table(header, rows, (2, 3, 4))]
  blocks.append(
    Paragraph(
      "The paper's column is the direction of the published finding, at the paper's size and on its own measures. "
      "Tokens seen are relative to the arm compared with: a difference between arms that saw different "
      "amounts of text is not one of the recipe alone."
    )
  )
  if "differences" in pictures:
    blocks.append(
      Picture(
        *pictures["differences"],
        "Forest plot of the paired differences",
        f"Paired differences: mean and {CONFIDENCE_LEVEL} interval; small upright ticks are single seeds. Filled "
        "circle: better; square: worse; hollow circle: not shown; cross: void. An arrowhead: the interval goes on.",
      )
    )
  return blocks


def _change_cells(row: Comparison) -> list[str]:
  return [
    f"`{row.arm}` vs `{row.against}`",
    wording.difference(row),
    wording.interval(row),
    str(len(row.seeds)),
    wording.verdict(row),
    {1: "says better", -1: "says worse", 0: "no claim"}[row.direction] if row.measure != NSP else NOTHING,
    {"no claim": NOTHING}.get(row.agreement, row.agreement),
  ]


def _seen_ratio(results: Results, row: Comparison) -> list[str]:
  """How much text an arm saw, as a multiple of what the arm it is compared with saw."""
  ours, theirs = results.arm(row.arm).spreads, results.arm(row.against).spreads
  return [
    f"× {ours[count].mean / theirs[count].mean:.2f}" if count in ours and count in theirs else NOTHING
    for count in ("tokens", "predicted_tokens")
  ]


def _curves(results: Results, pictures: Pictures) -> list[Block]:
  blocks: list[Block] = [Heading(2, "Loss while training")]
  if "loss" not in pictures:
    return [*blocks, Paragraph("Not run: no evaluation is there yet.")]
  parts = ["Held-out loss against tokens seen."]
  if any(run.status == "finished" for run in results.sweep.runs):
    parts.append(
      "Lines: mean over the finished runs of an arm; bands: from the lowest to the highest seed."
      if len(results.sweep.seeds) > 1
      else "Lines: the finished run of an arm."
    )
  if any(run.status in ("unfinished", "diverged") and run.evaluations for run in results.sweep.runs):
    parts.append("Thin dotted lines: runs that have not finished.")
  if any("unigram_entropy" in run.values for run in results.sweep.runs):
    parts.append(
      "The dashed line is the unigram entropy: a model above it or on it has learned at most how frequent tokens are."
    )
  return [*blocks, Picture(*pictures["loss"], "Held-out loss against tokens seen, by arm", " ".join(parts))]


def _transfer(results: Results, pictures: Pictures) -> list[Block]:
  blocks: list[Block] = [Heading(2, "Few-label accuracy")]
  tasks = results.sweep.tasks()
  if not tasks:
    return [*blocks, Paragraph("Not run: no finished run reports a transfer task.")]
  blocks.append(
    Paragraph(
      "Each pretrained network is fine-tuned on few labelled texts, and so is the same network from its random start, "
      "not pretrained. TF-IDF with logistic regression has the same labels and no pretraining: it is what a network "
      f"has to beat to be worth its cost. Gains are paired by seed, in points, with {CONFIDENCE_LEVEL} intervals."
    )
  )
  header = ["Task", "arm", "pretrained, %", "not pretrained, %", "TF-IDF, %", "most frequent class, %"]
  header += ["gain over not pretrained", "verdict", "gain over TF-IDF", "verdict"]
  rows = []
  for task, result in itertools.product(tasks, results.arms):
    accuracies = [
      wording.mean_sd(result.spreads.get(f"{task}.{part}"), 1, 100)
      for part in ("pretrained", "scratch", "tfidf", "majority")
    ]
    row = [task, f"`{result.arm.name}`", *accuracies]
    for baseline in ("scratch", "tfidf"):
      gain = results.gain(result.arm.name, task, baseline)
      has_interval = gain.interval is not None and gain.interval.low is not None
      ends = f" ({wording.interval(gain)})" if has_interval else ""
      row += [wording.difference(gain) + ends, wording.verdict(gain)]
    rows.append(row)
  blocks.append(Table(header, rows, (2, 3, 4, 5, 6, 8)))
  if "transfer" in pictures:
    blocks.append(
      Picture(
        *pictures["transfer"],
        "Few-label accuracy by arm, beside its baselines",
        "Accuracy after fine-tuning on few labels; bars reach from the lowest to the highest seed, and the grey bar is "
        "what pretraining changed.",
      )
    )
  return blocks


# ---- what it is worth, how it was made ----


def _limits(results: Results) -> list[Block]:
  sweep = results.sweep
  blocks: list[Block] = [Heading(2, "What this size can and cannot show"), Paragraph(sweep.scale_note)]
  tested = [row for row in results.comparisons if row.interval and row.interval.resolution is not None]
  items = []
  if not tested:
    items.append("No comparison has two paired runs yet, so nothing tells chance from effect and nothing can be shown.")
  for pairs in sorted({len(row.seeds) for row in tested}):
    items.append(
      f"With {pairs} paired seeds an interval has {wording.plural(pairs - 1, 'degree')} of freedom and reaches "
      f"{t_quantile(pairs - 1):.1f} standard errors to either side of the mean difference."
    )
  if tested:
    items += [
      f"{wording.plural(len(tested), 'verdict')} at {CONFIDENCE_LEVEL}: if no change had any effect, "
      f"{len(tested) * (1 - CONFIDENCE):.1f} of them would still be expected to read better or worse by chance.",
      "The intervals speak of other seeds (initial weights, order of the text, masks) on this text at this size; not "
      "of other texts, sizes or settings.",
      "“Not shown” is not “no effect”: an effect smaller than the smallest difference below could not have been shown.",
    ]
  blocks.append(Bullets(items))
  if tested:
    header = ["Change", "measure", "pairs", "degrees of freedom", "difference seen", "smallest difference to be shown"]
    rows = [
      [
        f"`{row.arm}` vs `{row.against}`",
        row.measure.label,
        str(len(row.seeds)),
        str(len(row.seeds) - 1),
        f"{wording.difference(row)} {wording.unit(row)}",
        wording.resolution(row),
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


def _how(results: Results) -> list[Block]:
  sweep = results.sweep
  finished = sum(run.status == "finished" for run in sweep.runs)
  parameters = {
    arm.arm.name: wording.si(arm.spreads["parameters"].mean) for arm in results.arms if "parameters" in arm.spreads
  }
  seconds = [run.times[name] for run in sweep.runs for name in run.times if name.endswith("_seconds")]
  items = [
    f"Experiment `{sweep.experiment}` at scale `{sweep.scale}`: {wording.plural(len(sweep.arms), 'arm')}, "
    f"{wording.seeds(sweep.seeds)}; {finished} of {wording.plural(len(sweep.runs), 'run')} finished.",
    f"Hardware: {sweep.hardware}.",
    f"Versions: {wording.listing([f'{name} {version}' for name, version in sweep.versions.items()])}.",
  ]
  if parameters:
    alike = len(set(parameters.values())) == 1
    each = [f"`{name}` {count}" for name, count in parameters.items()]
    items.append(f"Parameters: {next(iter(parameters.values())) if alike else wording.listing(each)}.")
  if seconds:
    items.append(f"Time, of the runs that tell theirs, together: {wording.duration(sum(seconds))}.")
  blocks: list[Block] = [Heading(2, "How it was run"), Bullets(items)]
  blocks += [Paragraph("What each arm sets, over the base settings:"), _assignments(results)]
  return [*blocks, Folded("Time of each run", [_times(results)]), Folded("Base settings", [_settings(sweep.config)])]


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
        row.append(wording.duration(run.times[name]) if name in run.times else NOTHING)
      row.append(wording.si(run.times["tokens_per_second"]) if "tokens_per_second" in run.times else NOTHING)
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


def _gates(results: Results) -> list[Block]:
  gates = results.sweep.gates
  blocks: list[Block] = [Heading(2, "What the arms shared")]
  if not gates:
    return [*blocks, Paragraph("Not run: no gate has been checked.")]
  rows = [
    [
      gate.name,
      "holds" if gate.holds else "**fails**",
      wording.listing([f"`{arm}`" for arm in gate.arms]),
      NOTHING if gate.seed is None else str(gate.seed),
      gate.detail,
    ]
    for gate in gates
  ]
  return [
    *blocks,
    Paragraph(
      "A difference can be put down to a change only if the arms are equal in all else. Each gate checks one thing "
      "that its arms have to share."
    ),
    Table(["Gate", "result", "arms", "seed", "detail"], rows),
  ]
