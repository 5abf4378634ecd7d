"""What accelerators can do, by their makers' figures; standard library only.

TPUs: Google's pages "TPU v4", "v5e", "v5p", "v6e" and "TPU7x" of the Cloud TPU documentation. GPUs: NVIDIA's data
sheets, dense rates, without sparsity.
"""

import dataclasses
import math
import re
from typing import Any


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """One chip.

  Attributes:
    name: for --topology.
    kind: tpu, which the compiler can be asked about, or gpu.
    peak: bfloat16 multiply-adds of matrix products, two operations each: operations a second. Of a T4, which has no
      bfloat16, those of float16.
    memory: bytes.
    bandwidth: of this memory, bytes a second.
    links: to the other chips of a slice or machine, bytes a second, both directions together.
    devices: that JAX sees of one chip.
    compiled_as: the compiler's name for the chip so seen, where it has several.
  """

  name: str
  kind: str
  peak: float
  memory: float
  bandwidth: float
  links: float
  devices: int = 1
  compiled_as: str | None = None


def _tpu(name: str, teraflops: float, gibibytes: float, gigabytes_a_second: float, links: float, **more: Any):
  return Accelerator(name, "tpu", teraflops * 1e12, gibibytes * 2**30, gigabytes_a_second * 1e9, links * 1e9, **more)


def _gpu(name: str, teraflops: float, gigabytes: float, gigabytes_a_second: float, links: float):
  return Accelerator(name, "gpu", teraflops * 1e12, gigabytes * 1e9, gigabytes_a_second * 1e9, links * 1e9)


ACCELERATORS = {
  chip.name: chip
  for chip in (
    # Both cores of a v4 are one device. Its six links carry 50 GB/s in each direction (Jouppi et al. 2023).
    _tpu("v4", 275, 32, 1228, 600, compiled_as="megacore"),
    _tpu("v5e", 197, 16, 819, 400),
    _tpu("v5p", 459, 95, 2765, 1200),
    _tpu("v6e", 918, 32, 1640, 800),
    _tpu("tpu7x", 2307, 192, 7380, 1200, devices=2),
    _gpu("t4", 65, 16, 320, 32),  # by PCIe 3
    _gpu("l4", 121, 24, 300, 64),  # by PCIe 4
    _gpu("a100", 312, 80, 2039, 600),
    _gpu("h100", 989, 80, 3350, 900),
    _gpu("h200", 989, 141, 4800, 900),
    _gpu("b200", 2250, 180, 8000, 1800),
  )
}
# Slices of a TPU that the compiler knows, as tried; others may be known too.
SLICES = {
  "v4": ("2x2x1", "2x2x2", "4x4x4"),
  "v5e": ("2x2", "2x4", "4x4", "8x8", "16x16"),
  "v5p": ("2x2x1", "2x2x2", "4x4x4", "8x8x8"),
  "v6e": ("2x2", "2x4", "8x8", "16x16"),
  "tpu7x": ("2x2x1", "2x2x2", "4x4x4"),
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """Some chips: `v5e:4x4`, `gpu:h100x8`."""

  name: str
  chip: Accelerator
  chips: int

  @property
  def devices(self) -> int:
    """That JAX sees."""
    return self.chips * self.chip.devices


def topology(name: str) -> Topology:
  """The chips that --topology names.

  Raises:
    ValueError: another form, or an unknown chip.
  """
  tpus = ", ".join(f"{chip}:{sizes[-1]}" for chip, sizes in SLICES.items())
  if found := re.fullmatch(r"gpu:([a-z0-9]+?)x([1-9]\d*)", name):
    chip, count = ACCELERATORS.get(found[1]), int(found[2])
    if chip is not None and chip.kind == "gpu":
      return Topology(name, chip, count)
  if found := re.fullmatch(r"([a-z0-9]+):([1-9]\d*(?:x[1-9]\d*){1,2})", name):
    chip, sizes = ACCELERATORS.get(found[1]), [int(size) for size in found[2].split("x")]
    # A slice of a chip that is wired in three dimensions has three sizes.
    if chip is not None and chip.kind == "tpu" and len(sizes) == SLICES[chip.name][0].count("x") + 1:
      return Topology(name, chip, math.prod(sizes))
  gpus = ", ".join(chip.name for chip in ACCELERATORS.values() if chip.kind == "gpu")
  raise ValueError(
    f"--topology={name} must name a slice of a TPU, such as {tpus}, or GPUs, such as gpu:h100x8; there are {gpus}"
  )
