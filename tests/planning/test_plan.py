"""What is said of a run before it is run: does it fit, how long, what price."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bert_jax import costs, recipes, settings
from bert_jax.config import Config, phases
from bert_jax.data.batches import TrainBatches
from bert_jax.objectives import objective_of
from bert_jax.planning import accelerators, compiled, compiler, plan, prices, shapes, wording
from bert_jax.planning.accelerators import topology
from bert_jax.planning.estimate import USUAL_SHARE, estimate
from tests import tiny
from tests.data.conftest import random_corpus

V5E = topology("v5e:4x4")


def config_of(more: dict[str, Any] | None = None, recipe: str = "bert_base") -> Config:
  given = {"model.vocab_size": 30_522, "train.phases": None, "data.max_seq_len": 128, "train.batch_size": 256}
  return settings.assign(recipes.recipe(recipe), {**given, **(more or {})})


# ---- what chips ----


@pytest.mark.parametrize(
  ("name", "chips", "devices"),
  [("v5e:4x4", 16, 16), ("v5p:2x2x1", 4, 4), ("v4:2x2x2", 8, 8), ("tpu7x:4x4x4", 64, 128), ("gpu:h100x8", 8, 8)],
)
def test_a_topology_is_chips(name: str, chips: int, devices: int) -> None:
  found = topology(name)
  assert (found.chips, found.devices) == (chips, devices)
  assert found.chip.name in name


@pytest.mark.parametrize("name", ["", "v5e", "v5e:4", "v5e:4x4x4", "v5p:2x2", "v5e:0x4", "h100x8", "gpu:v5ex8"])
def test_other_topologies_are_refused_with_those_that_there_are(name: str) -> None:
  with pytest.raises(ValueError, match=r"must name a slice of a TPU, such as .*v5e:16x16.* gpu:h100x8; there are t4"):
    topology(name)


def test_every_slice_that_was_tried_can_be_named() -> None:
  for chip, sizes in accelerators.SLICES.items():
    for size in sizes:
      assert topology(f"{chip}:{size}").chip.name == chip


# ---- what a batch looks like ----


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_batches_have_the_shapes_that_are_planned_for(name: str) -> None:
  corpus: Any = random_corpus()
  config = recipes.recipe(name)
  config = shapes.of_phase(config, phases(config)[0].max_seq_len // 4, 24)
  given = {
    "data.tokenizer.vocab_size": corpus.tokenizer.vocab_size,
    "data.preceding_tokens": config.data.preceding_tokens // 4,
  }
  config = settings.assign(config, {**given, "model.vocab_size": corpus.tokenizer.vocab_size})
  batch = TrainBatches(corpus, config.data, 3, 24, prepare=objective_of(config).prepare)(2)
  planned = shapes.batch_shapes(config)
  assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
    name: (shape.shape, shape.dtype) for name, shape in planned.items()
  }


# ---- how long ----


def test_products_are_those_that_costs_counts_at_the_peak_of_all_chips() -> None:
  config = config_of()
  found = estimate(config, V5E)
  assert found.products is not None
  assert found.operations is not None
  assert found.operations == 2 * costs.multiplications(settings.assign(config, {"train.steps": 1}))
  assert found.products == pytest.approx(found.operations / (16 * 197e12))
  assert estimate(config, topology("v5e:8x8")).products == pytest.approx(found.products / 4)
  two_in_one = estimate(config, topology("tpu7x:2x2x1"))  # 4 chips that are 8 devices
  assert two_in_one.products == pytest.approx(found.operations / (4 * 2307e12))
  eight = estimate(config, topology("v5e:2x4"))
  assert two_in_one.memory / eight.memory == pytest.approx(819 / (7380 / 2))


def test_what_is_read_and_sent_is_by_the_mesh() -> None:
  """P parameters in float32: the state is read and written, the gradient summed over what holds other rows."""
  config = config_of({"runtime.compute_dtype": "bfloat16"})
  one, split = (
    estimate(settings.assign(config, {"runtime.mesh": mesh}), V5E) for mesh in ("data:16", "data:1,fsdp:16")
  )
  size = one.parameters
  inputs = 2 * 2 * 256 * 128 / 16 * 768 * 12
  assert one.memory == pytest.approx((32 * size + 4 * size + inputs) / 819e9)
  assert split.memory == pytest.approx((32 * size / 16 + 4 * size + inputs) / 819e9)
  assert one.links == pytest.approx(8 * size * 15 / 16 / 200e9)
  assert estimate(config, topology("gpu:h100x1")).links == 0


def test_the_longest_is_the_bound_and_no_run_is_said_to_beat_it() -> None:
  for batch_size in (16, 4096):
    found = estimate(config_of({"train.batch_size": batch_size}), V5E)
    assert found.products is not None
    assert found.usual_seconds is not None
    times = {"products": found.products, "memory": found.memory, "links": found.links}
    assert found.seconds == max(times.values()) == times[found.bound_by]
    assert found.usual_seconds >= found.seconds
    assert found.usual_seconds >= found.products / USUAL_SHARE * (1 - 1e-9)
  assert found.bound_by == "products"


def test_what_is_not_counted_is_said() -> None:
  config = config_of({"data.preceding_tokens": 0}, "xlnet_base")
  (planned,) = plan.plan(config, topology("gpu:h100x8"), compiler.compile_elsewhere)
  said = dict(wording.in_words(planned, prices.read()))
  assert said["products"] == "not counted for permutation with xlnet"
  assert "MFU" not in said["at best"]


# ---- does it fit ----


def device_of(held: float, of_row: float, there: float, calls: list[int], says: bool = True) -> plan.Compile:
  """A compiler for a device whose memory is a line of its rows; `says` whether it tells how much is lacking."""

  def compile_step(config: Config, chips: accelerators.Topology) -> dict[str, Any]:
    rows = config.train.batch_size // chips.devices // config.runtime.accumulation_steps
    calls.append(rows)
    taken = held + of_row * rows
    fits = taken <= there
    return {
      "fits": fits,
      "bytes": taken if fits or says else None,
      "held": held * 0.9 if fits else None,
      "limit": there,
      "seconds": 1.0,
    }

  return compile_step


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize(
  ("held", "of_row", "there"), [(2.0, 0.01, 16.0), (1.0, 0.5, 16.0), (9.0, 0.2, 16.0), (0.3, 0.3, 16.0)]
)
@pytest.mark.parametrize("rows", [1, 8, 16, 50, 400])
def test_the_largest_batch_is_found_in_a_few_trials(
  held: float, of_row: float, there: float, rows: int, says: bool
) -> None:
  calls: list[int] = []
  config = config_of({"train.batch_size": rows * 16})
  (planned,) = plan.plan(config, V5E, device_of(held, of_row, there, calls, says))
  fit, largest = planned.fit, int((there - held) / of_row)
  assert fit is not None
  assert fit.fits == (rows <= largest)
  assert len(calls) == len(set(calls)) <= plan._MOST_COMPILED
  assert fit.largest <= largest * 16, "what was not compiled is not said to fit"
  assert fit.refused is None or fit.refused > largest * 16
  if says:  # as it does; otherwise halves are tried, and a few of them are not enough
    assert fit.largest >= 0.8 * largest * 16 - 8 * 16


def test_a_batch_that_does_not_fit_has_a_way_out() -> None:
  config = config_of({"train.batch_size": 16 * 256})
  (planned,) = plan.plan(config, V5E, device_of(2.0 * 2**30, 0.2 * 2**30, 16.0 * 2**30, []))
  said = dict(wording.in_words(planned, prices.read()))
  assert "53.20 of 16.00 GiB a device; runtime.accumulation_steps=4, or a larger slice" in said["does not fit"]
  assert said["largest batch"].startswith("1,0") or said["largest batch"].startswith("1,1")
  (planned,) = plan.plan(config, V5E, device_of(20.0 * 2**30, 0.2 * 2**30, 16.0 * 2**30, []))
  assert "runtime.mesh with fsdp, or runtime.remat=full" in dict(wording.in_words(planned, {}))["does not fit"]


def test_where_compiling_takes_too_long_the_largest_batch_is_reckoned() -> None:
  calls: list[int] = []
  (planned,) = plan.plan(config_of(), V5E, device_of(2.0 * 2**30, 0.2 * 2**30, 16.0 * 2**30, calls), minutes=0)
  assert calls == [16]
  said = dict(wording.in_words(planned, {}))["largest batch"]
  assert said.startswith("256 sequences fit; by these figures about 1,")
  assert planned.fit is not None
  assert planned.fit.reckoned == pytest.approx(70 * 16, rel=0.1)


def test_a_fault_of_the_compiler_is_told_from_chips_that_it_does_not_know(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """libtpu 0.0.52 so ended on ModernBERT-base with nine rows of 1,024 tokens on each device of a v5p:8x8x8."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(compiler, "_versions", dict)
  said = (
    "F1129 09:23:05.589215   24738 fusion_emitter.cc:3291] Check failed: high == 0 (4 vs. 0) Scaled.\n*** SIGABRT\n"
  )
  ended = subprocess.CompletedProcess([], -6, "", said)
  monkeypatch.setattr(compiler, "_run_program", lambda *_: ended)
  with pytest.raises(
    plan.CompilerCrashed, match=r"v5e:4x4: .*256 × 128 tokens \(Check failed: high.*try another train.batch"
  ):
    plan.plan(config_of(), V5E, compiler.compile_elsewhere)
  ended.stderr = "unknown topology\n"
  with pytest.raises(ValueError, match=r"could not be asked about --topology=v5e:4x4: unknown topology; the slices"):
    plan.plan(config_of(), V5E, compiler.compile_elsewhere)


def test_a_fault_of_the_compiler_in_the_search_leaves_the_runs_own_batch() -> None:
  compile_step = device_of(2.0 * 2**30, 0.2 * 2**30, 16.0 * 2**30, [])

  def ends_on_larger(config: Config, chips: accelerators.Topology) -> dict[str, Any]:
    if config.train.batch_size > 256:
      raise plan.CompilerCrashed
    return compile_step(config, chips)

  (planned,) = plan.plan(config_of(), V5E, ends_on_larger)
  assert planned.fit is not None
  assert (planned.fit.fits, planned.fit.largest) == (True, 256)


@pytest.mark.parametrize("chips", ["v5e:4x4", "gpu:h100x16"])
def test_a_batch_that_the_chips_do_not_divide_is_refused(chips: str) -> None:
  calls: list[int] = []
  wanted = rf"--topology={chips}: .*=250 must be divisible by the 16 devices of axis"
  with pytest.raises(plan.NotDivided, match=wanted) as refused:
    plan.plan(config_of({"train.batch_size": 250}), topology(chips), device_of(1, 1, 1, calls))
  row = wording.row_of_none("an_arm", topology(chips), str(refused.value))
  assert row[:4] == ["an_arm", chips, "16", "–"]
  assert row[4].startswith("train.batch_size=250 must"), "the chips stand in a column of their own"
  assert calls == [], "nothing is compiled first"


@pytest.mark.parametrize(("mesh", "used"), [("data:4", 4), ("data:32", 32), ("data,fsdp:3", 15)])
def test_a_mesh_that_is_not_of_the_chips_is_refused(mesh: str, used: int) -> None:
  """Fewer devices would be planned as if all of them worked, and all are paid for."""
  with pytest.raises(plan.NotDivided, match=rf"mesh={mesh} is of {used} devices, and --topology=v5e:4x4 has 16"):
    plan.plan(config_of({"runtime.mesh": mesh}), V5E, device_of(1, 1, 1, []))


def test_the_vocabulary_is_that_of_the_tokenizer_that_is_given(tmp_path: Path) -> None:
  vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(994))]
  (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
  given = {"model.vocab_size": None, "data.tokenizer.path": str(tmp_path / "vocab.txt")}
  (planned,) = plan.plan(config_of(given), topology("gpu:h100x8"), compiler.compile_elsewhere)
  (stated,) = plan.plan(config_of({"model.vocab_size": 999}), topology("gpu:h100x8"), compiler.compile_elsewhere)
  assert planned.config.model.vocab_size == 999
  assert planned.estimate == stated.estimate


def test_the_parts_that_are_advised_are_parts_that_a_run_takes() -> None:
  """16 rows a device, of which 6 fit: three parts would be enough and do not divide them."""
  config = config_of()
  (planned,) = plan.plan(config, V5E, device_of(4.0, 2.0, 16.5, []))
  assert planned.fit is not None
  assert (planned.fit.fits, planned.fit.largest) == (False, 6 * 16)
  assert planned.fit.parts == 4
  assert "runtime.accumulation_steps=4," in dict(wording.in_words(planned, {}))["does not fit"]
  twice = settings.assign(config, {"runtime.accumulation_steps": 2})
  (planned,) = plan.plan(twice, V5E, device_of(4.0, 2.0, 16.5, []))
  assert planned.fit is not None
  assert planned.fit.parts == 4


def test_each_phase_is_planned_with_its_own_length_and_batch() -> None:
  config = config_of({"train.phases": "0.9*128x256,0.1*512x128", "train.steps": 1000})
  short, long = plan.plan(config, topology("gpu:a100x8"), compiler.compile_elsewhere)
  assert [(p.steps, p.config.data.max_seq_len, p.config.train.batch_size) for p in (short, long)] == [
    (900, 128, 256),
    (100, 512, 128),
  ]


def test_a_run_with_another_network_is_refused() -> None:
  config = recipes.recipe("distilbert_base")
  config = settings.assign(config, {"objective.teacher": "somewhere"})
  with pytest.raises(ValueError, match=r"objective\.teacher takes up another network"):
    plan.plan(config, V5E, device_of(1, 1, 1, []))


@pytest.mark.parametrize(
  ("message", "found"),
  [
    (
      "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 18.43G of 15.75G hbm. Exceeded by 2.68G.",
      (18.43 * 2**30, 15.75 * 2**30, False),
    ),
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (30.81G) exceeds"
      " available HBM (15.75G).",
      (30.81 * 2**30, 15.75 * 2**30, True),
    ),
    ("RESOURCE_EXHAUSTED: something about memory", (None, None, False)),
    ("INTERNAL: a bug", None),
  ],
)
def test_the_compilers_complaint_is_read(message: str, found: Any) -> None:
  assert compiled.too_large(message) == found


# ---- what price ----


def test_every_chip_of_a_cloud_has_a_dated_price() -> None:
  table = prices.read()
  assert set(accelerators.SLICES) | {"a100", "h100"} <= set(table) <= set(accelerators.ACCELERATORS)
  assert all(len(price.as_of) == 7 and price.what for price in table.values())


def test_prices_are_the_users_where_they_give_some(tmp_path: Path) -> None:
  file = tmp_path / "ours.csv"
  file.write_text("chip,usd_low,usd_high,as_of,what\nh100,1,2,2026-11,ours\n")
  (planned,) = plan.plan(config_of(), topology("gpu:h100x8"), compiler.compile_elsewhere)
  hours = planned.steps * planned.estimate.seconds / 3600 * 8
  said = dict(wording.in_words(planned, prices.read(file)))["price"]
  assert said.startswith(f"${hours:,.2f} to {2 * hours:,.2f} at best")
  assert said.endswith("($1 to 2 ours; 2026-11)")
  assert "--prices=FILE" in dict(wording.in_words(planned, {}))["price"]


@pytest.mark.parametrize(
  "content",
  [
    "",
    "chip,price\nh100,1\n",
    "chip,usd_low,usd_high,as_of,what\nh100,x,2,,\n",
    "chip,usd_low,usd_high,as_of,what\nh100,3,2,,\n",
  ],
)
def test_a_table_of_another_form_is_refused(content: str, tmp_path: Path) -> None:
  file = tmp_path / "p.csv"
  file.write_text(content)
  if content:
    with pytest.raises(ValueError, match=r"must be a table of chip, usd_low, usd_high"):
      prices.read(file)
  else:
    assert prices.read(file) == {}
  with pytest.raises(ValueError, match="No such file"):
    prices.read(tmp_path / "none.csv")


# ---- the verb ----


@pytest.mark.slow
@pytest.mark.parametrize(
  ("arguments", "status", "said"),
  [
    (["pretrain", "--recipe=bert_large", "--topology=gpu:h100x8"], 0, "100,000 steps of 256 × 512 tokens, on 8 chips"),
    (["albert", "--arms=sop,nsp", "--topology=gpu:a100x1"], 0, "nsp: BERT's question in its place"),
    (["pretrain", "--topology=gpu:t4x7,gpu:b200x8", "--table"], 1, "| gpu:b200x8 | 8 | 256 × 512 | not asked |"),
    (["pretrain", "--topology=gpu:t4x7"], 1, "--topology=gpu:t4x7: train.batch_size=256 must be"),
    (["pretrain"], 1, "--topology is needed"),
    (["pretrain", "--topology=v5e:4"], 1, "--topology=v5e:4 must name a slice of a TPU"),
    (["pretrain", "--topolgy=v5e:4x4"], 1, "did you mean --topology?"),
    (["glue", "--topology=v5e:4x4"], 1, "declares no EXPERIMENT"),
    (["nothing", "--topology=v5e:4x4"], 1, "there is no experiment nothing; there are"),
  ],
)
def test_the_verb_says_it_or_what_is_wrong(arguments: list[str], status: int, said: str) -> None:
  command = [
    sys.executable,
    "-c",
    "import sys; from bert_jax.cli.main import main; sys.exit(main())",
    "plan",
    *arguments,
  ]
  done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
  assert done.returncode == status, done.stderr
  assert said in (done.stdout if "--table" in arguments or not status else done.stderr)
  assert "Traceback" not in done.stderr


@pytest.mark.exhaustive
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the compiler of TPUs is not installed")
def test_a_small_network_is_compiled_for_chips_that_are_not_there(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  config = settings.assign(
    recipes.recipe("bert_tiny"), {"train.phases": None, "data.max_seq_len": 128, "model.vocab_size": 1024}
  )
  config = settings.assign(config, {"runtime.scan_layers": True, "runtime.compute_dtype": "bfloat16"})
  answer = compiler.compile_elsewhere(config, topology("v5e:2x2"))
  assert answer["fits"]
  assert answer["held"] > 12 * 4e5 / 2
  again = compiler.compile_elsewhere(config, topology("v5e:2x2"))
  assert again == answer, "and is not compiled twice"
  with pytest.raises(ValueError, match="the compiler could not be asked about --topology=v5e:3x5"):
    compiler.compile_elsewhere(config, topology("v5e:3x5"))
