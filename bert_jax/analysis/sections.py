"""The report's sections in order, in words made from the results; nothing is claimed that is not computed."""

import itertools
import math
from collections.abc import Mapping

from bert_jax.analysis import formatting
from bert_jax.analysis.comparisons import LEARNED_MARGIN, LOSS, Comparison, Results, answer_measure, is_of_generator
from bert_jax.analysis.document import Block, Bullets, Heading, Paragraph, Picture, Table
from bert_jax.analysis.formatting import CONFIDENCE_LEVEL, NOTHING
from bert_jax.analysis.methods import gates, how_it_was_run, limits, statistics_in_words
from bert_jax.analysis.runs import ANSWER_PARTS
from bert_jax.analysis.summary import missing_runs, summary
from bert_jax.results import Answer

Pictures = Mapping[str, tuple[str, str]]  # name → (path beside the report, SVG)
FOREST = (
  f"Differences: mean, {CONFIDENCE_LEVEL} interval (thick), and the interval corrected for the number of comparisons,"
  " by which it is judged (thin); small upright ticks are single seeds. Filled circle: better; square: worse; diamond:"
  " no difference; hollow circle: not shown; cross: void. An arrowhead: the interval goes on."
)


def report(results: Results, pictures: Pictures) -> list[Block]:
  """The whole report: what was found, one figure and one table, then the details; of one arm alone, its curve."""
  several = len(results.sweep.arms) > 1
  first = "differences" if "differences" in pictures else "loss"
  sections = (
    [Heading(1, results.sweep.question)],
    summary(results, _differences(pictures) if first == "differences" else _loss(results, pictures)),
    _arms(results) if several else [],
    _changes(results, pictures) if results.comparisons else [],
    _curves(results, pictures) if first == "differences" else [],
    _transfer(results, pictures) if results.sweep.tasks() else [],
    _tables(results),
    limits(results),
    how_it_was_run(results),
    gates(results) if several else [],
    statistics_in_words(results) if results.comparisons else [],
  )
  return list(itertools.chain.from_iterable(sections))


def _arms(results: Results) -> list[Block]:
  items = []
  for arm in results.sweep.arms:
    base = f", against `{arm.parent}`" if arm.parent else ""
    change = arm.change if arm.change.endswith("?") else f"{arm.change}."
    items.append(f"**`{arm.name}`**{base}: {change}" + (f" The paper: {arm.expects}." if arm.expects else ""))
  return [
    Heading(2, "The arms"),
    Paragraph("Each arm is one recipe" + (", compared with the arm that it changes." if results.comparisons else ".")),
    Bullets([item.replace("..", ".") for item in items]),
  ]


# ---- results ----


def _tables(results: Results) -> list[Block]:
  blocks: list[Block] = [Heading(2, "All measures"), *_loss_table(results), *_void(results)]
  for answer in results.sweep.answers:
    blocks += _answer_table(results, answer)
  blocks += _seen_table(results)
  return blocks + [Bullets(lines) for lines in [missing_runs(results)] if lines]


def _loss_table(results: Results) -> list[Block]:
  header = ["Arm", "runs", "loss at [MASK]", "learned from context", "right at [MASK], %", "loss, all places"]
  header += ["perplexity, all places", "at [MASK], own format"]
  rows = []
  for result in results.arms:
    seen = result.spreads
    rows.append(
      [
        f"`{result.arm.name}`" + (" **plateau**" if result.is_void else ""),
        f"{len(result.seeds_with('finished'))} of {len(results.sweep.seeds)}",
        formatting.mean_sd(seen.get("mask_loss"), 3),
        formatting.mean_sd(seen.get("learned"), 3),
        formatting.mean_sd(seen.get("mask_accuracy"), 1, 100),
        formatting.mean_sd(seen.get("mlm_loss"), 3),
        formatting.mean_sd(seen.get("mlm_perplexity"), 1),
        formatting.mean_sd(seen.get("own_mask_loss"), 3),
      ]
    )
  rows += _without_context(results)
  return [
    Table(header, rows, range(1, len(header))),
    Paragraph(
      "Mean ± standard deviation over finished runs. Losses are in nats for each predicted token of text that no arm "
      "has trained on, with the same masks for every arm; lower is better. **At [MASK]**: where the token is hidden, "
      "which is what arms are compared by. **All places**: a tenth of the predicted places show the token itself and "
      "a tenth a random one, so this loss, though it is the usual one, is won in part by copying. **No context** is "
      "the best predictor that sees the shown token and nothing around it, computed from token frequencies and the "
      "masking rule; **learned from context** is how far an arm got below it at [MASK]. **Perplexity** is exp(loss). "
      "**Own format**: on examples cut as the arm trains on them, so arms differ in their text there."
    ),
  ]


def _without_context(results: Results) -> list[list[str]]:
  """The row of the best predictor without context, where all arms have the same."""
  seen = [arm.spreads for arm in results.arms if "context_free_mask_loss" in arm.spreads]
  if not seen:
    return []

  def same(key: str, decimals: int, scale: float = 1.0) -> str:
    means = {formatting.number(scale * spreads[key].mean, decimals) for spreads in seen if key in spreads}
    return means.pop() if len(means) == 1 else f"{min(means)} to {max(means)}" if means else NOTHING

  return [
    [
      "no context",
      NOTHING,
      same("context_free_mask_loss", 3),
      formatting.number(0, 3),
      same("context_free_mask_accuracy", 1, 100),
      same("context_free_mlm_loss", 3),
      formatting.number(math.exp(seen[0]["context_free_mlm_loss"].mean), 1)
      if "context_free_mlm_loss" in seen[0]
      else NOTHING,
      same("context_free_own_mask_loss", 3),
    ]
  ]


def _void(results: Results) -> list[Block]:
  void = [result for result in results.arms if result.is_void]
  blocks: list[Block] = []
  if void:
    names = [f"`{result.arm.name}` ({formatting.seeds(result.void_seeds)})" for result in void]
    blocks.append(
      Paragraph(
        f"**Plateau**: the loss at [MASK] never got {LEARNED_MARGIN} nats below what is reached without context: "
        f"{formatting.listing(names)}. Such a model has learned little or nothing from context yet. Two such arms are"
        " not compared: that would say nothing about recipes."
      )
    )
  generators = [arm.arm.name for arm in results.arms if is_of_generator(results.sweep, arm.arm.name)]
  if generators and len(generators) < len(results.arms):
    names = formatting.listing([f"`{name}`" for name in generators])
    blocks.append(
      Paragraph(
        f"**Of a generator**: the loss at [MASK] of {names} is that of the network which replaces tokens, and is not"
        " compared with an arm's that has none. Compare what the encoders are good for on tasks."
      )
    )
  unmeasured = [arm for arm in results.arms if "mlm_loss" in arm.spreads and "mask_loss" not in arm.spreads]
  if unmeasured:
    names = formatting.listing([f"`{arm.arm.name}`" for arm in unmeasured])
    blocks.append(
      Paragraph(
        f"**Not measured at [MASK]**: {names}, whose training never shows [MASK]. Compare its transfer instead."
      )
    )
  return blocks


def _answer_table(results: Results, answer: Answer) -> list[Block]:
  """Of a question with two answers; nothing where no arm was asked."""
  key = answer_measure(answer).key
  rows = [
    [
      f"`{result.arm.name}`",
      *(formatting.mean_sd(result.spreads.get(f"{answer.name}_{part}"), 1, 100) for part in ANSWER_PARTS),
    ]
    for result in results.arms
    if key in result.spreads
  ]
  if not rows:
    return []
  title, _, rest = answer.title.partition(",")
  return [
    Paragraph(f"**{title}**,{rest}"),
    Table(["Arm", "accuracy, %", "majority, %", "balanced accuracy, %"], rows, (1, 2, 3)),
    Paragraph(
      "**Majority**: the share of the more frequent answer, which saying it always gets right. **Balanced**: the mean "
      "of the shares right for each of the two answers; a model that ignores its input gets 50."
    ),
  ]


def _seen_table(results: Results) -> list[Block]:
  keys = ("tokens", "predicted_tokens", "train_documents", "train_tokens", "parameters")
  rows = []
  for result in results.arms:
    seen = result.spreads
    row = [f"`{result.arm.name}`", f"{seen['steps'].mean:,.0f}" if "steps" in seen else NOTHING]
    row += [formatting.si(seen[key].mean) if key in seen else NOTHING for key in keys[:2]]
    row.append(formatting.si(seen["transition"].mean) if "transition" in seen else NOTHING)
    row.append(formatting.number(seen["epochs"].mean, 2) if "epochs" in seen else NOTHING)
    row += [formatting.si(seen[key].mean) if key in seen else NOTHING for key in keys[2:]]
    rows.append(row)
  header = ["Arm", "steps", "tokens seen", "predicted tokens", "tokens to leave the plateau", "passes over its text"]
  header += ["documents to train on", "their tokens", "parameters"]
  note = (
    f"**Tokens to leave the plateau**: seen when the loss at [MASK] was {LEARNED_MARGIN} nats below what is reached"
    " without context, in every run of the arm; between two evaluations, in proportion."
  )
  return [Paragraph("**What each arm saw**"), Table(header, rows, range(1, len(header))), Paragraph(note)]


def _changes(results: Results, pictures: Pictures) -> list[Block]:
  blocks: list[Block] = [
    Heading(2, "What each change did"),
    Paragraph(
      "Differences are arm minus the arm it is compared with, paired by seed: both runs of a pair have the same seed. "
      f"The interval is at {CONFIDENCE_LEVEL}, of the difference alone. The corrected interval, and the p beside it,"
      " hold for all comparisons of a table together (Holm 1979); the verdict is better or worse only"
      " where it excludes 0."
    ),
  ]
  header = ["Change", "difference", f"{CONFIDENCE_LEVEL} interval", "p", "corrected interval", "corrected p"]
  header += ["standard error from", "seeds", "verdict", "the paper", "this sweep"]
  rows = [_change_cells(row) for row in results.on(LOSS)]
  blocks += [Paragraph("**Loss at [MASK]**, in nats (below 0 is better)"), Table(header, rows, (1, 2, 3, 4, 5, 7))]
  others = [row for row in results.comparisons if row.measure != LOSS]
  if others:
    rows = []
    for row in others:
      change, *cells = _change_cells(row)
      rows.append([change, row.measure.label.removesuffix(" accuracy"), *cells])
    header = [header[0], "measure", *header[1:]]
    blocks += [
      Paragraph("**Accuracies**, in percentage points (above 0 is better)"),
      Table(header, rows, (2, 3, 4, 5, 6, 8)),
    ]
    if "accuracies" in pictures:
      blocks.append(Picture(*pictures["accuracies"], "Forest plot of the differences in accuracy", FOREST))
  blocks.append(
    Paragraph(
      "The paper's column is the direction of the published finding, at the paper's size and on its own measures."
    )
  )
  unequal = [text for row in results.on(LOSS) if (text := _unequal(results, row))]
  if unequal:
    blocks += [
      Paragraph("A difference between arms that saw different amounts of text is not one of the recipe alone:"),
      Bullets(unequal),
    ]
  return blocks


def _differences(pictures: Pictures) -> list[Block]:
  return [
    Picture(
      *pictures["differences"],
      "Forest plot of the paired differences",
      FOREST,
    )
  ]


def _change_cells(row: Comparison) -> list[str]:
  plateau = f" (`{row.plateau[0]}` is on the plateau)" if len(row.plateau) == 1 else ""
  return [
    f"`{row.arm}` vs `{row.against}`",
    formatting.difference(row),
    formatting.interval(row),
    formatting.probability(row.p),
    formatting.corrected(row),
    formatting.probability(row.corrected_p),
    formatting.errors(row),
    str(len(row.seeds)),
    formatting.verdict(row) + plateau,
    {1: "says better", -1: "says worse", 0: "no claim"}[row.direction]
    if not row.measure.key.endswith("_balanced_accuracy")
    else NOTHING,
    {"no claim": NOTHING}.get(row.agreement, row.agreement),
  ]


def _unequal(results: Results, row: Comparison) -> str:
  """How much text an arm saw, as a multiple of what the arm it is compared with saw; empty where it is the same."""
  ours, theirs = results.arm(row.arm).spreads, results.arm(row.against).spreads
  if "tokens" not in ours or "tokens" not in theirs:
    return ""
  ratio = ours["tokens"].mean / theirs["tokens"].mean
  if 0.995 < ratio < 1.005:
    return ""
  return f"`{row.arm}` saw × {ratio:.2f} the tokens that `{row.against}` saw."


def _curves(results: Results, pictures: Pictures) -> list[Block]:
  return [Heading(2, "Loss while training"), *_loss(results, pictures)]


def _loss(results: Results, pictures: Pictures) -> list[Block]:
  if "loss" not in pictures:
    return [Paragraph("No evaluation is there yet.")]
  parts = ["Held-out loss at [MASK] against tokens seen."]
  if any(run.status == "finished" for run in results.sweep.runs):
    parts.append(
      "Lines: mean over the finished runs of an arm; bands: from the lowest to the highest seed."
      if len(results.sweep.seeds) > 1
      else "Lines: the finished run of an arm."
    )
  if any(run.status in ("unfinished", "diverged") and run.evaluations for run in results.sweep.runs):
    parts.append("Thin dotted lines: runs that have not finished.")
  if any("context_free_mask_loss" in run.values for run in results.sweep.runs):
    parts.append(
      "The dashed line is what is reached without context: a model above it or on it knows at most how frequent tokens "
      "are."
    )
  return [Picture(*pictures["loss"], "Held-out loss against tokens seen, by arm", " ".join(parts))]


def _transfer(results: Results, pictures: Pictures) -> list[Block]:
  blocks: list[Block] = [
    Heading(2, "Few-label accuracy"),
    Paragraph(
      "Each encoder stays as pretraining left it. It reads whole texts, a linear model learns from few labelled ones,"
      " and this is done for many draws of them; all arms and seeds see the same draws and the same test texts. The"
      " same network with random weights is read in the same way: what it reaches is not owed to pretraining. TF-IDF"
      " counts words, of whole texts or of what fine-tuning reads, their beginning: it is what a network has to beat to"
      " be worth its cost."
    ),
  ]
  if "transfer" in pictures:
    blocks.append(
      Picture(
        *pictures["transfer"],
        "Few-label accuracy by arm, beside its baselines",
        "Accuracy with few labels; bars reach from the lowest to the highest seed.",
      )
    )
  names = {"pretrained": "pretrained, %", "random": "random weights, %", "tfidf": "TF-IDF, whole texts, %"}
  names |= {"tfidf_cut": "TF-IDF, their beginning, %", "majority": "most frequent class, %"}
  if results.tuned_tasks():
    names |= {"finetuned": "fine-tuned, %", "scratch": "fine-tuned from random weights, %"}
  rows, gains = [], []
  for task, result in itertools.product(results.sweep.tasks(), results.arms):
    name = f"`{result.arm.name}`"
    rows.append([task, name, *(formatting.mean_sd(result.spreads.get(f"{task}.{part}"), 1, 100) for part in names)])
    against = ["random", "tfidf", "tfidf_cut", *(["scratch"] if task in results.tuned_tasks() else [])]
    for row in (results.gain(result.arm.name, task, baseline) for baseline in against):
      over = {"random": "random weights", "tfidf": "TF-IDF, whole texts", "tfidf_cut": "TF-IDF, their beginning"}
      gains.append(
        [
          *(task, name, over.get(row.against, "fine-tuned from random weights"), formatting.difference(row)),
          *(formatting.interval(row), formatting.corrected(row), formatting.probability(row.corrected_p)),
          *(formatting.errors(row), formatting.verdict(row)),
        ]
      )
  header = ["Task", "arm", "over", "gain", f"{CONFIDENCE_LEVEL} interval", "corrected interval", "corrected p"]
  header += ["standard error from", "verdict"]
  return [
    *blocks,
    Table(["Task", "arm", *names.values()], rows, range(2, 2 + len(names))),
    Paragraph("**Gains**, in percentage points, paired by seed, draw and test text"),
    Table(header, gains, (3, 4, 5, 6)),
  ]
