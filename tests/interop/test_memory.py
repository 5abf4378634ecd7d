"""Import and export go through a model array by array: a large one needs little more memory than its parameters."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from bert_jax.architectures import BertConfig
from bert_jax.inference.model import Model
from bert_jax.interop import writing
from bert_jax.models import networks

CONFIG = BertConfig(num_layers=3, hidden_size=1024, num_heads=16, vocab_size=30522, intermediate_size=4096)
# What the program itself takes is known before the model is touched. VmHWM is the peak of the process itself, where
# ru_maxrss starts from that of the process which started it.
PROGRAM = """
import re, sys
import jax
from bert_jax.cli import main
from bert_jax.interop import extend, folders, imported, load, reading, writing
jax.config.update("jax_platforms", "cpu")
jax.devices()
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
assert main.main(sys.argv[1:]) == 0
print("peak", peak() - before)
"""


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux says what a process took at its peak")
def test_import_and_export_take_one_and_a_half_times_the_parameters(tmp_path: Path) -> None:
  shapes = jax.eval_shape(networks.initial("masked_lm", CONFIG))
  params = jax.tree.map(lambda x: np.broadcast_to(np.float32(0.02), x.shape), shapes)
  writing.write_files(Model(CONFIG, "masked_lm", params, None), epath.Path(tmp_path / "hf"))
  sizes = [4 * x.size for x in jax.tree.leaves(shapes)]
  most = 1.5 * sum(sizes) + max(sizes)
  for arguments in (("import", tmp_path / "hf", tmp_path / "ours"), ("export", tmp_path / "ours", tmp_path / "back")):
    program = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = 1024 * int(done.stdout.split("peak")[-1])
    print(f"{arguments[0]}: {peak / sum(sizes):.2f} times the parameters' {sum(sizes) / 2**20:.0f} MiB")
    assert peak < most, f"{arguments[0]}: {peak / sum(sizes):.2f} times the parameters"
