"""What an adaptation did, as a table for a terminal and as a page."""

from collections.abc import Iterator

import numpy as np

from bert_jax.adaptation import figures
from bert_jax.adaptation.figures import Adapted, Difference, Loss
from bert_jax.analysis.formatting import NOTHING, PERCENT, duration, number, plural, signed
from bert_jax.results import Draws

HEADER = ("", "before", "after", "difference, 95 % interval", "shows", "without learning from context")
_NAMES = {figures.DOMAIN: "the domain", figures.GENERAL: "general text"}
_SHOWN_WORDS = 60


def table(adapted: Adapted) -> list[tuple[str, ...]]:
  """Rows of `HEADER`."""
  return [*_losses(adapted), *_tasks(adapted)]


def lines(adapted: Adapted) -> list[str]:
  """The table for a terminal, and what a reader of it should know."""
  rows = [HEADER, *table(adapted)]
  widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
  shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
  return [*shown, *notes(adapted)]


def notes(adapted: Adapted) -> list[str]:
  """What the figures do not say by themselves."""
  found = [
    f"{adapted.steps:,} steps, {adapted.tokens:,} tokens ({adapted.predicted_tokens:,} predicted),"
    f" {adapted.facts.epochs:.2g} passes over the text"
    + (f", {duration(adapted.train_seconds)} of training" if adapted.train_seconds is not None else "")
    + f" on {adapted.hardware}; seed {adapted.config['train']['seed']}, the only one: another would move these figures."
  ]
  if adapted.new_head:
    found.append(
      "The head that predicts masked tokens started at random, for the model came without one. So the losses before are"
      " no fair figures of that model, and how far they fell says nothing of what adapting was worth; the tasks do,"
      " which have no such head."
    )
  if adapted.new_words:
    domain, plain = (adapted.before.losses[figures.DOMAIN + cut] for cut in ("", figures.PLAIN))
    found.append(
      f"{plural(len(adapted.new_words), 'word')} became tokens: a word of the held-out text has"
      f" {plain.tokens_per_word:.3f} tokens before and {domain.tokens_per_word:.3f} after. Losses a token of two"
      " vocabularies are of other tokens and cannot be compared, nor can they a word: a piece is guessed with the rest"
      " of its word in sight, a whole word is not. So the losses after stand beside those of the extended model before"
      " it was trained, in which the new tokens are the means of their pieces; only the tasks compare with the model as"
      " it came."
    )
  if adapted.after.tasks.tasks:
    found.append(
      "Tasks: a linear model over the frozen encoder, on the same draws of labelled texts and the same test texts"
      " before and after; ± is the standard deviation over draws."
    )
  return [*found, *(f"{note[:1].upper()}{note[1:]}" for note in adapted.notes)]


def page(adapted: Adapted) -> str:
  """The text of report.md."""
  facts, data, optim, train = adapted.facts, *(adapted.config[name] for name in ("data", "optim", "train"))
  made = [
    f"model: `{adapted.model}`",
    f"domain: `{adapted.source}`, {facts.train_documents:,} documents with {facts.train_tokens:,} tokens to train on,"
    f" {facts.held_out_documents:,} with {facts.held_out_tokens:,} held out, of which {facts.eval_examples:,} of"
    f" {facts.held_out_examples:,} rows were measured",
    *([f"general text: `{adapted.general}`"] if adapted.general else []),
    f"training: {adapted.steps:,} steps of {train['batch_size']} sequences of up to {data['max_seq_len']} tokens,"
    f" {100 * data['masking']['rate']:g} % masked; {optim['name']}, peak_lr {optim['peak_lr']:g} after"
    f" {optim['warmup_steps']:,} steps, then linearly to 0; seed {train['seed']}",
    ", ".join(f"{name} {version}" for name, version in adapted.versions.items())
    + (f"; commit {adapted.git_commit}" if adapted.git_commit else ""),
  ]
  words = list(adapted.new_words[:_SHOWN_WORDS])
  more = len(adapted.new_words) - len(words)
  parts = [
    f"# {adapted.model}, adapted to {adapted.source}",
    _markdown([HEADER, *table(adapted)]),
    *notes(adapted),
    *(["## New tokens", ", ".join(words) + (f", and {more:,} more" if more else "")] if words else []),
    "## How it came about",
    "\n".join(f"- {line}" for line in made),
    "## To use it",
    "    bert-jax fill-mask FOLDER 'a text with a [MASK].'\n    bert-jax finetune FOLDER --train=FILE --output=BUNDLE\n"
    "    bert-jax export FOLDER FOR_TRANSFORMERS",
  ]
  return "\n\n".join(parts) + "\n"


# ---- rows ------------------------------------------------------------------------------------------------------------


def _losses(adapted: Adapted) -> Iterator[tuple[str, ...]]:
  for key, name in _NAMES.items():
    what = f"loss at [MASK], {name} (nats)"
    if plain := adapted.before.losses.get(key + figures.PLAIN):
      yield (f"{what}, its old tokens", _nats(plain, adapted), NOTHING, NOTHING, NOTHING, number(plain.context_free, 3))
    if after := adapted.after.losses.get(key):
      before = adapted.before.losses[key]
      found = figures.of_losses(before, after)
      shows = "no fair before" if adapted.new_head else found.verdict
      more = ", its new tokens" if adapted.new_words else ""
      yield (
        what + more,
        _nats(before, adapted),
        number(after.nats, 3),
        _interval(found, 1, 3),
        shows,
        number(after.context_free, 3),
      )


def _nats(loss: Loss, adapted: Adapted) -> str:
  return number(loss.nats, 3) + (" (new head)" if adapted.new_head else "")


def _tasks(adapted: Adapted) -> Iterator[tuple[str, ...]]:
  for task, ways in adapted.after.tasks.tasks.items():
    before, after = (one.tasks.tasks[task]["pretrained"] for one in (adapted.before, adapted.after))
    found = figures.of_draws(before, after)
    beside = ", ".join(f"{name} {100 * np.mean(ways[way].by_draw):.1f}" for way, name in figures.WAYS.items())
    name = f"{task}, right with few labels ({PERCENT.strip()})"
    yield name, _share(before), _share(after), _interval(found, 100, 1), found.verdict, beside


def _share(draws: Draws) -> str:
  shares = 100 * np.array(draws.by_draw)
  return f"{shares.mean():.1f} ± {shares.std(ddof=1):.1f}"


def _interval(found: Difference, scale: float, decimals: int) -> str:
  mean = signed(scale * found.mean, decimals)
  if found.ends is None:
    return mean
  low, high = (signed(scale * end, decimals) for end in found.ends)
  return f"{mean} ({low} to {high})"


def _markdown(rows: list[tuple[str, ...]]) -> str:
  head, *body = (f"| {' | '.join(row)} |" for row in rows)
  return "\n".join([head, f"| --- |{' ---: |' * (len(rows[0]) - 1)}", *body])
