"""What every objective is: a frozen, hashable value that knows its networks, its batches and its losses.

B batch, T tokens.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Float32, Shaped

from bert_jax.architectures import EncoderConfig
from bert_jax.config import DataConfig, RuntimeConfig
from bert_jax.data import masking
from bert_jax.data.rows import Batch, Rows
from bert_jax.models import networks
from bert_jax.models.arrays import Array
from bert_jax.models.dropout import Noise
from bert_jax.objectives import context_free
from bert_jax.results import Answer

if TYPE_CHECKING:
  from bert_jax.data.corpus import Corpus
  from bert_jax.data.tokenizers import Tokenizer

Params = Any
Sums = dict[str, tuple[Array, Array]]  # name → (sum, count), float32; scalars, or [B] where it says so


Means = Mapping[str, float]  # name → the sum of its sums by the sum of its counts
RowSums = Mapping[str, np.ndarray]  # name → float64 [N, 2], (sum, count) of each example


@struct.dataclass
class Frozen:
  """A network that is not trained, such as a teacher: an argument of compiled programs, never a constant of one.

  Attributes:
    params: of the network.
    model: the settings of its encoder.
    network: its name, of `networks.NETWORKS`.
  """

  params: Params
  model: EncoderConfig = struct.field(pytree_node=False)
  network: str = struct.field(pytree_node=False)


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
  """What a network is trained for.

  Attributes:
    model: the settings of the encoder.
    settings: its own, of `Config.objective`.
    runtime: of these, what a compiled program depends on.
  """

  model: EncoderConfig
  settings: Any
  runtime: RuntimeConfig

  def prepare(self, rows: Rows, seed: int, data: DataConfig, tokenizer: "Tokenizer") -> Batch:
    """What it makes of rows on the host, see `Prepare`; masked tokens and what else is made of masks need no other."""
    return masking.mask(rows, seed, data, tokenizer)

  def network(self, name: str, model: EncoderConfig | None = None, **more: Any) -> networks.Network:
    """A network of `networks.NETWORKS`, computing as `runtime` says."""
    runtime = self.runtime
    return networks.build(
      name,
      model or self.model,
      dtype=jnp.dtype(runtime.compute_dtype),
      attention_implementation=runtime.attention,
      scan_layers=runtime.scan_layers,
      remat=runtime.remat,
      **more,
    )

  # ---- training ----

  @property
  @abc.abstractmethod
  def loss_weights(self) -> dict[str, float]:
    """Name → weight, of the sums whose means are added up to what is minimized."""

  @abc.abstractmethod
  def init(self, key: Array) -> Params:
    """Initial parameters: a function of the settings and the key, on any devices."""

  @abc.abstractmethod
  def counts(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    """The counts of the losses, known before the forward pass, so that any split of the batch adds up to the whole."""

  @abc.abstractmethod
  def sums(self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int) -> Sums:
    """The losses and what else is worth logging, as scalars.

    Args:
      params: as `init` makes them.
      frozen: the network that is not trained, where `frozen_from` names one.
      batch: as `prepare` makes it.
      noise: of dropout, and of what the objective draws on the device.
      shards: devices over which the rows are spread.
    """

  @property
  def answers(self) -> tuple[Answer, ...]:
    """The questions with two answers whose measures `measures` and `trivial` report."""
    return ()

  def seen(self, batch: Mapping[str, Array]) -> dict[str, Array]:
    """How many real tokens a batch has, and how many predictions are trained on."""
    return {"tokens": jnp.sum(batch["attention_mask"]), "predicted_tokens": jnp.sum(batch["mlm_weights"])}

  def given(self, start: Mapping[str, Any]) -> Params:
    """What parameters of a pretrained network are to this objective: a tree like that of `init`, or a part of it."""
    return dict(start)

  @property
  def frozen_from(self) -> tuple[str, str] | None:
    """The setting that names a model which is used and not trained, and its value; None where there is none."""
    return None

  def check_frozen(self, frozen: Frozen) -> None:
    """Refuses a model of another kind than this objective can use.

    Raises:
      ValueError: naming the setting.
    """
    raise AssertionError("an objective without a frozen network has none to check")

  @property
  def starts_from_frozen(self) -> bool:
    """Whether a run that starts from nothing else begins with what it can take of the frozen network."""
    return False

  # ---- measuring ----

  @abc.abstractmethod
  def measure(self, data: DataConfig) -> str:
    """The evaluated measure that the best checkpoint is best by; lower is better."""

  @abc.abstractmethod
  def evaluate(
    self, params: Params, frozen: Frozen | None, batch: Mapping[str, Array], noise: Noise, shards: int
  ) -> Sums:
    """What held-out examples are measured by, example by example: float32 [B]. Nothing is dropped out.

    Args:
      frozen: see `sums`.
      noise: of what the objective draws on the device; the same for an example in every evaluation.
    """

  @abc.abstractmethod
  def measures(self, means: Mapping[str, Means], data: DataConfig) -> dict[str, float]:
    """What an evaluation reports, from the means of each set of held-out examples; NaN where it is not measured."""

  def trivial(self, corpus: "Corpus", data: DataConfig, sets: Mapping[str, Sequence[Batch]]) -> dict[str, float]:
    """What the trivial reaches on the same examples, by the names of the report."""
    return context_free.trivial(corpus, data, sets)

  def trivial_rows(self, corpus: "Corpus", data: DataConfig, batches: Sequence[Batch]) -> RowSums:
    """The same, example by example, of some of what `evaluate` measures."""
    return context_free.rows(corpus, data, batches)

  # ---- what comes of it ----

  @abc.abstractmethod
  def trained(self, params: Params) -> dict[str, tuple[EncoderConfig, Params]]:
    """The networks that a run has trained, by name of `networks.NETWORKS`, the one that it is about first."""


def masked_sum(
  values: Shaped[Array, "*shape"], counted: Shaped[Array, "*shape"]
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
  """Sum and count of the values that count; `counted` are booleans or weights."""
  weights = counted.astype(jnp.float32)
  return jnp.sum(values * weights), jnp.sum(weights)


def row_sums(
  values: Shaped[Array, "*shape"], counted: Shaped[Array, "*shape"]
) -> tuple[Float32[Array, " B"], Float32[Array, " B"]]:
  """As `masked_sum`, of each row."""
  weights, axes = counted.astype(jnp.float32), tuple(range(1, values.ndim))
  return jnp.sum(values * weights, axis=axes), jnp.sum(weights, axis=axes)
