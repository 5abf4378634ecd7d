"""A plan in words, and as a line of a table."""

from bert_jax.planning.accelerators import Topology
from bert_jax.planning.estimate import USUAL_SHARE
from bert_jax.planning.plan import Fit, Planned
from bert_jax.planning.prices import Price

_GIB = 2**30


def in_words(planned: Planned, prices: dict[str, Price]) -> list[tuple[str, str]]:
  """(what, how much) of a phase, for a table."""
  config, found, topology = planned.config, planned.estimate, planned.topology
  lines = [("run", _run(planned))]
  if planned.fit is not None:
    lines += _fit_in_words(planned.fit)
  if config.data.packing > 1:
    lines.append(("packing", f"not reckoned: with data.packing={config.data.packing} a batch has fewer rows than this"))
  if config.runtime.compute_dtype == "float32":
    lines.append(("in float32", "chips are slower than reckoned here; --runtime.compute_dtype=bfloat16"))
  lines.append(("parameters", f"{found.parameters / 1e6:,.1f} million"))
  if found.operations is not None and found.products is not None:
    peak = topology.chip.peak / 1e12
    lines.append(
      (
        "products",
        f"{found.operations / 1e12:,.2f} TFLOP a step: {_ms(found.products)} at a chip's {peak:g} TFLOP/s",
      )
    )
  else:
    lines.append(("products", f"not counted for {config.objective.kind} with {config.model.kind}"))
  lines.append(("memory", f"{_ms(found.memory)} a step, at the {topology.chip.bandwidth / 1e9:,.0f} GB/s of a chip"))
  lines.append(("links", f"{_ms(found.links)} a step, at the {topology.chip.links / 2e9:,.0f} GB/s that a chip sends"))
  share = "" if found.products is None else f"; at most {found.products / found.seconds:.0%} of the peak (MFU)"
  lines.append(("at best", f"{_ms(found.seconds)} a step, bound by {found.bound_by}{share}"))
  hours = planned.steps * found.seconds / 3600
  usual = None if found.usual_seconds is None else planned.steps * found.usual_seconds / 3600
  at_usual = "" if usual is None else f"; {_hours(usual)} at {USUAL_SHARE:.0%} of the peak, as good runs have it"
  lines.append(("to the end", f"{_hours(hours)} at best{at_usual}"))
  price = prices.get(topology.chip.name)
  if price is None:
    lines.append(("price", f"no price of a {topology.chip.name} is known; --prices=FILE gives one"))
  else:
    at_best = _dollars(hours * topology.chips, price)
    at_usual = "" if usual is None else f"; {_dollars(usual * topology.chips, price)} at {USUAL_SHARE:.0%}"
    lines.append(("price", f"{at_best} at best{at_usual} (${price.low:g}{_to(price)} {price.what}; {price.as_of})"))
  return lines


COLUMNS = (
  *("arm", "topology", "chips", "batch × tokens", "GiB a device", "largest batch", "best step", "bound by"),
  *(f"hours at {USUAL_SHARE:.0%}", f"$ at {USUAL_SHARE:.0%}"),
)


def row(arm: str, planned: Planned, prices: dict[str, Price]) -> list[str]:
  """A phase as a line of a table with `COLUMNS`."""
  fit, found, chips, train = planned.fit, planned.estimate, planned.topology.chips, planned.config.train
  taken, largest = "not asked", "not asked"
  if fit is not None:
    taken = f"{'?' if fit.taken is None else f'{fit.taken / _GIB:.1f}'} of {fit.there / _GIB:.1f}"
    taken += "" if fit.fits else ": does not fit"
    largest = f"about {fit.reckoned:,}" if fit.reckoned else f"{fit.largest:,}" if fit.largest else "none"
  usual, price = found.usual_seconds, prices.get(planned.topology.chip.name)
  hours = None if usual is None else planned.steps * usual / 3600
  return [
    *(arm, planned.topology.name, f"{chips}", f"{train.batch_size:,} × {planned.config.data.max_seq_len}"),
    *(taken, largest, _ms(found.seconds), found.bound_by),
    "–" if hours is None else f"{hours:,.1f}",
    "–" if hours is None or price is None else _dollars(hours * chips, price).removeprefix("$"),
  ]


def row_of_none(arm: str, topology: Topology, why: str) -> list[str]:
  """A line of the table for chips for which there is no plan."""
  why = why.removeprefix(f"--topology={topology.name}: ")
  return [arm, topology.name, f"{topology.chips}", "–", why, *["–"] * (len(COLUMNS) - 5)]


def _run(planned: Planned) -> str:
  config, topology = planned.config, planned.topology
  return (
    f"{planned.steps:,} steps of {config.train.batch_size:,} × {config.data.max_seq_len} tokens, on {topology.chips}"
    f" chip{'s' if topology.chips > 1 else ''} ({topology.name}), runtime.mesh={config.runtime.mesh},"
    f" {config.runtime.compute_dtype}"
  )


def _fit_in_words(fit: Fit) -> list[tuple[str, str]]:
  taken = "more than" if fit.taken is None else f"{fit.taken / _GIB:.2f} of"
  said = f"{taken} {fit.there / _GIB:.2f} GiB a device"
  if not fit.fits:
    said += (
      f"; runtime.accumulation_steps={fit.parts}, or a larger slice"
      if fit.parts
      else "; a larger slice, runtime.mesh with fsdp, or runtime.remat=full"
    )
  tried = f"{fit.largest:,} sequences fit" if fit.largest else "none that was compiled fits"
  tried += f"; {fit.refused:,} do not" if fit.refused else ""
  tried += f"; by these figures about {fit.reckoned:,} would, which --minutes=10 may compile" if fit.reckoned else ""
  return [
    ("fits" if fit.fits else "does not fit", f"{said} (compiled: {fit.seconds:.0f} s)"),
    ("largest batch", tried),
  ]


def _ms(seconds: float) -> str:
  return f"{1000 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"


def _hours(hours: float) -> str:
  return f"{hours:,.1f} h" if hours >= 0.1 else f"{60 * hours:.1f} min"


def _to(price: Price) -> str:
  return "" if price.low == price.high else f" to {price.high:g}"


def _dollars(chip_hours: float, price: Price) -> str:
  low, high = chip_hours * price.low, chip_hours * price.high
  return f"${low:,.2f}" if low == high else f"${low:,.2f} to {high:,.2f}"
