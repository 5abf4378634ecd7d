"""What a run and a sweep leave for the report, as types: a field of one of their JSON files stands here, and only here.

Training, transfer and the sweep write them; `analysis` reads them. Losses are in nats, shares between 0 and 1.
"""

import dataclasses
from typing import Any, Literal, TypeVar

from etils import epath

from bert_jax import records, settings

Measures = dict[str, float | None]  # by name; None for what is not finite or was not measured
Stored = TypeVar("Stored")


# ---- of a run ----


@dataclasses.dataclass(frozen=True)
class Fingerprints:
  """Hashes that tell what two runs share.

  Attributes:
    initialization: of the initial parameters, by part of the network: runs of other objectives share some parts.
    data_order: of the first training examples, in order, before masking.
    evaluation: of the held-out examples with their masks.
  """

  initialization: dict[str, str]
  data_order: str
  evaluation: str


@dataclasses.dataclass(frozen=True)
class Facts:
  """What does not depend on training.

  Attributes:
    parameters: that are trained, a number.
    epochs: passes over the training examples.
    train_documents, train_tokens: to train on.
    held_out_documents, held_out_tokens, held_out_examples: that there are.
    eval_examples: of the held-out ones, those that are evaluated.
    near_duplicates: documents that share much of their text with another.
    near_duplicates_moved: of them, those that changed sides, to stand on the same side of the split as their like.
  """

  parameters: int
  epochs: float
  train_documents: int
  train_tokens: int
  held_out_documents: int
  held_out_tokens: int
  held_out_examples: int
  eval_examples: int
  near_duplicates: int
  near_duplicates_moved: int


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """RUN/pretrained.json: what came of pretraining.

  Attributes:
    status: how it ended.
    steps: that were done.
    facts, fingerprints: of the run.
    trivial: what is reached without learning from context, on the examples of the last evaluation.
    measures: of the last evaluation, as the objective reports them; empty where the run diverged.
    best_loss: the lowest evaluated loss, by the measure that the objective goes by.
    tokens, predicted_tokens: seen in training.
    reason: why it diverged.
    started_from: the model that its weights are from; None where they were random.
  """

  status: Literal["finished", "diverged"]
  steps: int
  facts: Facts
  fingerprints: Fingerprints
  trivial: Measures
  measures: Measures = dataclasses.field(default_factory=dict)
  best_loss: float | None = None
  tokens: int | None = None
  predicted_tokens: int | None = None
  reason: str | None = None
  started_from: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class ByDocument:
  """RUN/heldout.json: the last evaluation by document, which the sampling error of held-out text is computed from.

  Attributes:
    documents: numbers of the documents in the corpus, ascending.
    count: predictions that the measure counts.
    nats: the measure that runs are compared by, summed.
    trivial_nats: the same of the trivial.
  """

  documents: tuple[int, ...]
  count: tuple[int, ...]
  nats: tuple[float, ...]
  trivial_nats: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Times:
  """RUN/times.json: how long a run took, in seconds of this machine, and how fast it was."""

  train_seconds: float | None = None
  eval_seconds: float | None = None
  transfer_seconds: float | None = None
  compile_seconds: float | None = None
  tokens_per_second: float | None = None
  data_wait_share: float | None = None


@dataclasses.dataclass(frozen=True)
class Baselines:
  """Test accuracies that a pretrained encoder has to beat on a task: means over the draws of labelled texts.

  Attributes:
    random: the same network with random weights, frozen, read in the same way.
    tfidf: TF-IDF of whole texts with logistic regression.
    tfidf_cut: the same of what fine-tuning reads of a text, its first `transfer.max_seq_len` tokens.
    majority: always naming the most frequent class.
    scratch: the same network from random weights, fine-tuned; None where nothing is fine-tuned.
  """

  random: float
  tfidf: float
  tfidf_cut: float
  majority: float
  scratch: float | None = None


@dataclasses.dataclass(frozen=True)
class TaskResult:
  """What came of one task.

  Attributes:
    pretrained: test accuracy of a linear model over the frozen encoder's features, the mean over draws.
    baselines: on the same draws and test texts.
    draws: of labelled texts.
    test_texts, labels_per_class, classes: of the task.
    finetuned: test accuracy of the whole encoder fine-tuned, the mean over `finetuned_draws`; None without these.
    finetuned_draws: the first ones of `draws`.
  """

  pretrained: float
  baselines: Baselines
  draws: int
  test_texts: int
  labels_per_class: int
  classes: int
  finetuned: float | None = None
  finetuned_draws: int = 0


@dataclasses.dataclass(frozen=True)
class Draws:
  """How often one way of classifying was right, by draw of labelled texts and by test text.

  Attributes:
    by_draw: share of the test texts that is labelled right, of each draw.
    by_text: number of draws in which each test text is labelled right; the texts are the same, in the same order, for
      all runs of a sweep.
  """

  by_draw: tuple[float, ...]
  by_text: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class FewLabels:
  """RUN/fewlabels.json: of each task and way (the names of `TaskResult` and `Baselines`), how its accuracy came about.

  The sampling errors of draws and of test texts are computed from it.
  """

  tasks: dict[str, dict[str, Draws]]


@dataclasses.dataclass(frozen=True)
class RunResult:
  """RUN/result.json, which a run has once it is finished.

  Attributes:
    arm, seed: which run of the sweep it is.
    pretrained: as RUN/pretrained.json.
    transfer: by task.
    transfer_settings: that the tasks were measured with.
  """

  arm: str
  seed: int
  pretrained: Pretrained
  transfer: dict[str, TaskResult]
  transfer_settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Failed:
  """RUN/failed.json: a run that ended in an error; the next command tries it again.

  Attributes:
    reason: the error.
    command: which command it failed under, by a name of its own.
  """

  reason: str
  command: str = ""


# ---- of a sweep ----


@dataclasses.dataclass(frozen=True)
class Answer:
  """A question with two answers that an objective asks, such as whether the second segment is the next.

  Its measures are NAME_accuracy, NAME_majority (the share of the more frequent answer) and NAME_balanced_accuracy (the
  mean of the shares right of either answer).
  """

  name: str
  label: str
  title: str


@dataclasses.dataclass(frozen=True)
class PlannedArm:
  """An arm of a sweep; see `experiment.Arm`.

  Attributes:
    parent: the arm that it is compared with, where the sweep has it.
    direction: what the paper says of it against its parent: better (1), worse (-1), or neither (0).
    assignments: setting → its value in this arm.
  """

  name: str
  parent: str | None
  change: str
  expects: str
  direction: int
  assignments: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PlannedSweep:
  """WORKDIR/sweep.json: what was asked, and where it was run."""

  experiment: str
  question: str
  scale: str
  scale_note: str
  seeds: tuple[int, ...]
  answers: tuple[Answer, ...]
  arms: tuple[PlannedArm, ...]
  hardware: str
  versions: dict[str, str]
  git_commit: str | None
  config: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Gate:
  """A proof that arms share what they should share."""

  name: str
  arms: tuple[str, ...]
  seed: int
  holds: bool
  detail: str


@dataclasses.dataclass(frozen=True)
class Gates:
  """WORKDIR/gates.json."""

  gates: tuple[Gate, ...]


# ---- on disk ----

_WAYS_OUT: dict[type, str] = {
  RunResult: "remove it and run the same command again, which measures it again",
  Pretrained: "remove it and run the same command again, which goes on from the last checkpoint",
  ByDocument: "remove it, pretrained.json and result.json, and run the same command again, which measures it again",
  Times: "remove it",
  Failed: "remove it",
  FewLabels: "remove it and result.json, and run the same command again, which measures it again",
  PlannedSweep: "remove it and run the same command again, which writes it again",
  Gates: "remove it and run the same command again, which writes it again",
}


def write(path: epath.Path, value: Any) -> None:
  """Writes one of these as JSON with its checksum.

  Raises:
    ValueError: it cannot be written.
  """
  records.write_json(path, dataclasses.asdict(value))


def read(path: epath.Path, kind: type[Stored]) -> Stored | None:
  """What `write` wrote; None where there is no such file.

  Raises:
    ValueError: it is not as it was written, or was written by another version.
  """
  values = records.read_json(path, _WAYS_OUT[kind])
  try:
    return None if values is None else settings.from_dict(values, kind)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error
