"""Where arrays live: the device mesh, and the rules that split parameters and batches over it.

The mesh has three axes. `data` splits the rows of a batch. `fsdp` splits them too, and the parameters, which are
gathered where they are used (Rajbhandari et al. 2020, stage 3). `tensor` splits heads and inner widths, so that devices
share the products of a layer (Shoeybi et al. 2019).
"""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from bert_jax.training.platform import keep_freed_memory

AXES = ("data", "fsdp", "tensor")
Spec = tuple[Any, ...]

IN_BLOCK = r"/(layers|first|last|block_\d+)/"
_INTO_HEADS = r"(query|key|value|position|position_query|position_key|query_key_value|intermediate)"
_SPANS = r"span_head/(start|end|end_output|answer|answer_output)"
_HEADS = (
  r"(mlm_head/dense|pooler/(layer/)?dense|token_layer/dense|nsp_head|classifier|(discriminator|copy)_head/(dense|output)"
  rf"|boundary_head/(inner|outer)|{_SPANS})"
)
# A parameter's path → how its last axes are split; axes before them, such as that of stacked layers, are not. A
# parameter of a network matches one rule. An axis of the mesh that does not divide a parameter's axis is left out.
RULES: tuple[tuple[str, Spec], ...] = (
  (r"encoder/(embeddings/)?words$", (("fsdp", "tensor"), None)),  # [V, E]
  (r"((mlm|boundary)_head/bias|lm_bias)$", (("fsdp", "tensor"),)),  # [V]
  (r"boundary_head/positions$", ()),
  (IN_BLOCK + _INTO_HEADS + r"(/kernel)?$", ("fsdp", "tensor")),  # [D, D] or [D, F]
  (IN_BLOCK + _INTO_HEADS + r"/bias$", ("tensor",)),
  (IN_BLOCK + r"(query|value)_bias$", ("tensor",)),  # DeBERTa
  (IN_BLOCK + r"((content|position|segment)_bias|segments)$", ("tensor", None)),  # XLNet, [H, C]
  (IN_BLOCK + r"(attention_output|output)/kernel$", ("tensor", "fsdp")),  # [D, D] or [F, D]
  (IN_BLOCK + r"(attention_output|output)/bias$", ()),
  (r"encoder/(embeddings/)?(positions|segments|position_scale)$", ()),
  (r"encoder/(relative_table|mask_embedding)$", ()),
  (r"encoder/convolution/kernel$", ("fsdp", "tensor")),
  # Narrow, so that it is whole: split, its gradient had XLA gather the embedded tokens of all devices.
  (r"encoder/projection/kernel$", ()),
  (r"encoder/(projection|convolution)/bias$", ()),
  (_HEADS + r"/kernel$", ("fsdp", None)),
  (_HEADS + r"/bias$", ()),
  (r"norm/(scale|bias)$", ()),
)


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh, and where things go on it."""

  mesh: Mesh

  @property
  def row_shards(self) -> int:
    """Parts that the rows of a batch are split into."""
    return self.mesh.shape["data"] * self.mesh.shape["fsdp"]

  @property
  def whole(self) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def rows(self) -> NamedSharding:
    """First axis split over the devices."""
    return NamedSharding(self.mesh, PartitionSpec(("data", "fsdp")))

  def around(self, attention: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which what is traced knows the mesh, for a kernel that the compiler cannot split.

    Args:
      attention: of `runtime.attention`; the others need none.
    """
    if attention != "splash":
      return contextlib.nullcontext()
    return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

  def of_state(self, shapes: Any) -> Any:
    """The shardings of a tree of parameters, or of a training state, whose moments go where their parameters are.

    Args:
      shapes: the tree, with arrays or their shapes as leaves.
    """
    return jax.tree_util.tree_map_with_path(
      lambda path, x: self.of_parameter(jax.tree_util.keystr(path, simple=True, separator="/"), x.shape), shapes
    )

  def of_parameter(self, path: str, shape: tuple[int, ...]) -> NamedSharding:
    """The sharding of one parameter, by the first rule that matches its path; scalars are whole."""
    if not shape:
      return self.whole
    spec = next((spec for pattern, spec in RULES if re.search(pattern, "/" + path)), None)
    assert spec is not None, f"no rule of layout.RULES matches {path}"
    kept = [self._dividing(axes, size) for axes, size in zip(spec, shape[len(shape) - len(spec) :], strict=True)]
    return NamedSharding(self.mesh, PartitionSpec(*[None] * (len(shape) - len(kept)), *kept))

  def _dividing(self, axes: Any, size: int) -> Any:
    """The axes of a spec's entry, those left out that do not divide."""
    kept: list[str] = []
    for axis in (axes,) if isinstance(axes, str) else axes or ():
      if size % (np.prod([self.mesh.shape[a] for a in kept], dtype=int) * self.mesh.shape[axis]) == 0:
        kept.append(axis)
    return tuple(kept) or None

  def process_slice(self, batch_size: int) -> tuple[int, int]:
    """(index, count): of `count` equal parts of a batch's rows, the one that this process's devices hold."""
    slices = self.rows.addressable_devices_indices_map((batch_size,)).values()
    bounds = [part[0].indices(batch_size) for part in slices if part is not None]
    first, last = min(low for low, _, _ in bounds), max(high for _, high, _ in bounds)
    assert batch_size % (last - first) == first % (last - first) == 0, (batch_size, first, last)
    return first // (last - first), batch_size // (last - first)

  def put(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """A host batch (this process's rows) as global arrays, split by rows."""
    return {name: jax.make_array_from_process_local_data(self.rows, rows) for name, rows in batch.items()}

  def check_attention(self, attention: str) -> None:
    """Refuses a kernel of other devices than these.

    Args:
      attention: of `runtime.attention`.
    """
    needed, found = {"cudnn": "gpu", "splash": "tpu"}.get(attention), self.mesh.devices.flat[0].platform
    if needed not in (None, found):
      raise ValueError(
        f"runtime.attention={attention} is a kernel of {needed.upper()}s, and the devices here are {found.upper()}s;"
        " set runtime.attention=fused"
      )

  def check_batch_size(self, path: str, batch_size: int, microbatches: int = 1) -> None:
    """Refuses a batch that the devices (and microbatches) do not divide.

    Raises:
      ValueError: with the nearest sizes that would do.
    """
    check_batch_size(path, batch_size, self.mesh.shape, microbatches)


def check_batch_size(path: str, batch_size: int, sizes: Mapping[str, int], microbatches: int = 1) -> None:
  """As `Layout.check_batch_size`, by the sizes of a mesh's axes."""
  shards = sizes["data"] * sizes["fsdp"]
  unit = shards * microbatches
  if batch_size % unit:
    near = sorted({max(unit, batch_size // unit * unit), (batch_size // unit + 1) * unit})
    what = f"the {shards} devices of {'axis data' if sizes['fsdp'] == 1 else 'the axes data and fsdp'}"
    if microbatches > 1:
      what += f" times runtime.accumulation_steps={microbatches}"
    raise ValueError(f"{path}={batch_size} must be divisible by {what}; try {' or '.join(map(str, near))}")


def make_layout(mesh: str = "data", devices: Sequence[Any] | None = None) -> Layout:
  """The layout of `runtime.mesh`.

  Args:
    devices: to lay it over; all that JAX finds, where not given.
    mesh: axes with their sizes, as `data:2,fsdp:2,tensor:2`; one axis may go without, and gets all devices that are
      left. Axes that are not named have size 1.

  Raises:
    ValueError: another form, or more devices than there are.
  """
  keep_freed_memory()
  return _make_layout(mesh, tuple(jax.devices() if devices is None else devices))


def local_layout() -> Layout:
  """One device of this process."""
  return _make_layout("data:1", (jax.local_devices()[0],))


@functools.cache
def _make_layout(mesh: str, devices: tuple[Any, ...]) -> Layout:
  sizes = mesh_sizes(mesh, len(devices))
  count = int(np.prod(list(sizes.values())))
  if count > len(devices):
    raise ValueError(f"runtime.mesh={mesh} takes {count} devices, and JAX finds {len(devices)} here")
  # Auto is not the default of every JAX version, and Linen's modules need it.
  return Layout(
    jax.make_mesh(
      tuple(sizes[axis] for axis in AXES), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:count]
    )
  )


def mesh_sizes(mesh: str, num_devices: int) -> dict[str, int]:
  """Axis → size, of all axes; see `make_layout`, which raises the same errors."""
  sizes: dict[str, int | None] = {}
  for part in mesh.split(","):
    axis, colon, size = part.strip().partition(":")
    if axis not in AXES or axis in sizes or (colon and not (size.isdecimal() and int(size) >= 1)):
      raise ValueError(
        f"runtime.mesh={mesh} must name axes of {', '.join(AXES)}, each once, with a size of 1 or more, as in"
        f" data:2,fsdp:2,tensor:2. Got {part!r}"
      )
    sizes[axis] = int(size) if colon else None
  open_axes = [axis for axis, size in sizes.items() if size is None]
  if len(open_axes) > 1:
    raise ValueError(f"runtime.mesh={mesh} leaves {' and '.join(open_axes)} without a size; one axis at most may be")
  given = int(np.prod([size for size in sizes.values() if size is not None], dtype=int))
  rest = max(1, num_devices // given)
  return {axis: (rest if axis in open_axes else sizes.get(axis) or 1) for axis in AXES}
