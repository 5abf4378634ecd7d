"""The command line: what it makes of an experiment, and what it answers to a mistake, in about a second."""

import json
import os
import shlex
import subprocess
import sys
from typing import Any

import pytest

from bert_jax import recipes, settings
from bert_jax.config import Config
from bert_jax.experiment import Arm, Experiment, Size
from bert_jax.settings import lookup
from tests import tiny

# Importing JAX fails in it, so that whatever it answers was known without.
WITHOUT_JAX = "import runpy, sys; sys.modules['jax'] = None; runpy.run_module('tests.tiny', run_name='__main__')"
# Prints each arm's config in place of running it.
PRINTING = """
import json, sys
from absl import app
from bert_jax import command_line, recipes, settings
from tests import tiny
app.run = lambda *_, **__: command_line.FLAGS(sys.argv)
command_line.main(tiny.EXPERIMENT)
plan = command_line._plan(tiny.EXPERIMENT)
print(json.dumps({name: settings.to_dict(config) for name, config in plan.configs.items()} | {"seeds": plan.seeds}))
"""


def call(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
  return tiny.run([sys.executable, "-c", code, *flags], dict(os.environ))


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("flags", "answers"),
  [
    (["--optim.peek_lr=1e-3"], ["optim.peek_lr", "did you mean --optim.peak_lr?"]),
    (["--lr=1e-3"], ["--lr is no flag; did you mean --optim.peak_lr or"]),
    (["--optim.peak_lr=fast"], ["optim.peak_lr=fast", "must be float"]),
    (["--arms=bert,fastest"], ["--arms=fastest", "there is no such arm; did you mean faster?", "bert, faster"]),
    (["--recipe=bert_bass"], ["no recipe 'bert_bass'; did you mean bert_base?"]),
    (["--scale=smoky"], ["--scale=smoky must be one of smoke; did you mean smoke?"]),
    (["--seeds=0,one"], ["--seeds=0,one", "must be numbers"]),
    (["--seeds=0,0"], ["--seeds=0,0", "once"]),
    (["--seeds=-1"], ["--seeds=-1", "from 0"]),
    (["--train.seed=3"], ["--train.seed=3", "use --seeds=3"]),
    (["--data.masking.policy=dynamic"], ["--data.masking.policy=dynamic cannot be set", "arm bert of tiny is about"]),
    (["--data.max_seq_len=33"], ["data.max_seq_len=33", "model.max_positions=32"]),
    (["--platform=abacus"], ["--platform=abacus", "cpu"]),
    (["smoke"], ["'smoke' is no flag"]),
  ],
  ids=str,
)
def test_a_mistake_is_named_before_jax_is_loaded(flags: list[str], answers: list[str], tmp_path: Any) -> None:
  done = call(WITHOUT_JAX, "--scale=smoke", f"--workdir={tmp_path / 'W'}", *flags)
  assert done.returncode == 1
  for answer in answers:
    assert answer in done.stderr + done.stdout
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "W").exists(), "nothing is spent"


def test_an_arm_that_breaks_a_rule_is_named() -> None:
  done = call(WITHOUT_JAX, "--scale=smoke", "--optim.peak_lr=1.7e308")  # twice of which is not finite
  assert done.returncode == 1
  assert "arm faster: optim.peak_lr=inf must be above 0" in done.stderr


def test_a_limit_of_predictions_below_the_rate_of_an_arm_is_refused() -> None:
  arms = (Arm("a", "?", {}), Arm("b", "?", {"data.masking.rate": 0.4}, parent="a"))
  declared = Experiment("rates", "?", arms, {"smoke": Size({}, (0,), "?")})
  base = settings.assign(Config(), {"data.masking.max_predictions": 20})
  with pytest.raises(
    ValueError, match=r"max_predictions=20 is fewer than the 52 of 128 tokens that the arm b is about"
  ):
    declared.configs(base, {}, "smoke")
  assert declared.configs(Config(), {}, "smoke")["b"].data.masking.rate == 0.4


def test_a_platform_that_is_not_there_is_an_error(tmp_path: Any) -> None:
  source = tiny.write_text(tmp_path / "text", documents=9)
  env = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
  done = tiny.run(tiny.command(source, tmp_path / "W", "--platform=tpu"), env)
  assert done.returncode == 1
  assert "error: --platform=tpu: JAX finds no such device" in done.stderr
  assert "leave the flag out" in done.stderr
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "W" / "data").exists(), "nothing is spent"


def test_help_lists_flags_and_settings_as_this_command_has_them() -> None:
  done = call(WITHOUT_JAX, "--scale=smoke", "--recipe=roberta_base", "--train.batch_size=48", "--help")
  assert done.returncode == 0, done.stderr
  for line in (
    "--scale=smoke",
    "--arms=none",
    "--optim.name=fairseq_adam   (one of google_adamw, fairseq_adam, adamw, stable_adamw, lamb, muon)",
    "model, roberta:",
    "--model.position_offset=2   (int)",
    "--train.batch_size=48   (int)",
    "--runtime.scan_layers=true   (bool)",
    "sequences an optimizer step, over all devices and microbatches",
    "[set by the arm faster]",
    "--helpfull",
  ):
    assert line in done.stdout, line
  assert "Traceback" not in done.stderr
  assert all(f"--{leaf.path}=" in done.stdout for leaf in settings.leaves(recipes.recipe("roberta_base")))
  assert "model.num_groups" not in done.stdout, "which is ALBERT's"


def test_settings_are_printed_as_flags_that_give_them_again() -> None:
  done = call(WITHOUT_JAX, "--scale=smoke", "--data.source=text:a b/*.txt", "--print_settings")
  assert done.returncode == 0, done.stderr
  bert, faster = done.stdout.split("# faster")
  assert "# bert: static masks" in bert
  assert "--data.source='text:a b/*.txt'" in bert
  assert [line for line in faster.splitlines() if line.startswith("--")] == ["--optim.peak_lr=0.01"]
  given = shlex.split("\n".join(line for line in bert.splitlines() if line.startswith("--")))
  given.remove("--data.masking.policy=static")  # which the arm is about
  again = call(WITHOUT_JAX, "--scale=smoke", "--print_settings", *given)
  assert again.stdout == done.stdout, again.stderr


# ---- configs -------------------------------------------------------------------------------------------------------


def configs(*flags: str) -> dict[str, Any]:
  done = call(PRINTING, "--scale=smoke", *flags)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def test_recipe_then_scale_then_command_line_then_arm() -> None:
  found = configs("--train.batch_size=40", "--optim.peak_lr=0.5", "--recipe=bert_mini", "--seeds=3,1")
  bert, faster = (settings.from_dict(found[name], Config) for name in ("bert", "faster"))
  assert bert.optim.eps == 1e-6, "the recipe"
  assert bert.train.steps == tiny.ASSIGNMENTS["train.steps"], "the scale over the recipe"
  assert bert.train.batch_size == 40, "the command line over the scale"
  assert (bert.optim.peak_lr, faster.optim.peak_lr) == (0.5, 1.0), "the arm over the command line"
  assert found["seeds"] == [3, 1]


def test_only_the_arms_asked_for() -> None:
  found = configs("--arms=faster")
  assert set(found) == {"faster", "seeds"}
  assert found["faster"]["optim"]["peak_lr"] == 2 * tiny.ASSIGNMENTS["optim.peak_lr"], "its parent's settings count"
  assert found["seeds"] == [0], "as the scale says"


def test_each_arm_starts_from_its_parent_and_a_size_has_the_last_word() -> None:
  ladder = Experiment(
    name="ladder",
    question="?",
    arms=(
      Arm("a", "", {"train.batch_size": 10}),
      Arm("b", "", {"train.batch_size": lambda c: 3 * c.train.batch_size}, parent="a"),
      Arm("c", "", {"train.steps": lambda c: c.train.batch_size}, parent="b"),
      Arm("d", "", {}, parent="a"),
    ),
    sizes={"smoke": Size({}, (0,), ""), "paper": Size({}, (0,), "", arms={"b": {"train.batch_size": 7}})},
  )
  small = ladder.configs(Config(), {}, "smoke")
  assert [small[name].train.batch_size for name in "abcd"] == [10, 30, 30, 10]
  assert small["c"].train.steps == 30
  big = ladder.configs(Config(), {}, "paper")
  assert [big[name].train.batch_size for name in "abcd"] == [10, 7, 7, 10]
  assert lookup(big["c"], "train.steps") == 7


# ---- what a person sees --------------------------------------------------------------------------------------------


def test_lines_are_for_a_person(capfd: pytest.CaptureFixture[str]) -> None:
  code = (
    "import warnings, logging as other; from absl import logging; from bert_jax import console, provenance;"
    "console.log_own_lines_only();"
    "exec(compile(\"logging.info('%s: step %d', 'bert, seed 0', 5); logging.warning('hm')\", provenance.__file__,"
    " 'exec'));"
    "exec(compile(\"logging.info('noise'); logging.warning('careful')\", '/lib/jax/x.py', 'exec'));"
    "exec(compile(\"logging.error('noise')\", '/lib/orbax/x.py', 'exec'))"
  )
  done = call(code)
  assert done.stderr == "bert, seed 0: step 5\nwarning: hm\nwarning: careful\n"


@pytest.mark.parametrize(("library", "shown"), [("orbax", False), ("other", True)])
def test_reads_that_a_damaged_checkpoint_leaves_behind_say_nothing(library: str, shown: bool) -> None:
  body = r"async def f():\n  try:\n    await g()\n  finally:\n    raise Exception('left behind')"
  code = (
    "import types; from bert_jax import console; console.log_own_lines_only();"
    f'exec(compile("{body}", "/lib/{library}/x.py", "exec"));'
    "g = types.coroutine(lambda: (yield));"
    "left = f(); left.send(None); del left"
  )
  assert ("left behind" in call(code).stderr) == shown
