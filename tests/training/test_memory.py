"""What cannot fit is refused before anything is allocated, and what can is not."""

from pathlib import Path
from typing import Any

import jax
import pytest

from bert_jax import recipes, settings, sweep
from bert_jax.architectures import BertConfig
from bert_jax.config import Config
from bert_jax.objectives import objective_of
from bert_jax.training import memory
from bert_jax.training.layout import make_layout
from bert_jax.training.step import init_params
from tests import tiny

BASE = settings.assign(
  recipes.recipe("bert_base"), {"model.vocab_size": 30522, "train.phases": None, "data.max_seq_len": 128}
)


def test_it_asks_for_no_more_than_the_weights_take() -> None:
  config = Config(BertConfig(vocab_size=99, num_layers=3, hidden_size=24, num_heads=3, intermediate_size=56))
  real = sum(x.size for x in jax.tree.leaves(init_params(objective_of(config), 0)))
  assert 0.8 * 16 * real < memory.state_bytes(config) <= 16 * real


@pytest.mark.parametrize(
  ("assignments", "gib", "fits"),
  [
    ({}, 16, True),
    ({}, 1, False),
    ({"train.batch_size": 65_536}, 100, False),
    ({"train.batch_size": 65_536, "runtime.accumulation_steps": 256}, 16, True),
    ({"evaluation.batch_size": 524_288}, 100, False),
    # All logits would be dozens of GiB; they are never there at once.
    ({"train.batch_size": 2048, "runtime.accumulation_steps": 16, "model.vocab_size": 4_000_000}, 64, True),
    ({"evaluation.batch_size": 2048, "model.vocab_size": 1_000_000}, 16, True),
    ({"model.hidden_size": 61_440, "model.num_heads": 64}, 512, False),
  ],
  ids=str,
)
def test_what_cannot_fit_is_refused(
  assignments: dict[str, Any], gib: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(memory, "available_bytes", lambda _: gib * 2**30)
  config, layout = settings.assign(BASE, assignments), make_layout("data:1")
  if fits:
    memory.require_room(config, layout)
    return
  with pytest.raises(ValueError, match=rf"needs at least [\d,.]+ GiB of memory, and there are {gib}.0: .*; lower them"):
    memory.require_room(config, layout)


def test_the_machine_says_what_it_has() -> None:
  found = memory.available_bytes(make_layout("data:4").mesh)
  assert found is None or 2**28 < found < 2**50


def test_a_sweep_asks_before_it_begins(tmp_path: Path) -> None:
  source = tiny.write_text(tmp_path / "text", 30)
  huge = {"model.hidden_size": 61_440, "model.num_layers": 900, "model.intermediate_size": 200_000}
  with pytest.raises(ValueError, match=r"needs at least [\d,.]+ GiB"):
    sweep.run(tiny.plan(source, tmp_path / "W", assignments=huge))
  assert not (tmp_path / "W").exists()
