"""GLUE (Wang et al. 2018): its nine tasks, as its files have them, and published figures to lay beside one's own."""

import dataclasses
from collections.abc import Mapping

from etils import epath

from bert_jax.data.labelled import Columns, Labelled
from bert_jax.transfer.kinds import KINDS


@dataclasses.dataclass(frozen=True)
class GlueTask:
  """One of the nine.

  Attributes:
    name: of its folder in GLUE's archive; a folder in lower case, without a hyphen, is found too.
    kind: of `KINDS`.
    columns: in its files.
    measure: what published tables give of it.
    dev: its files to measure on; MNLI has two.
  """

  name: str
  kind: str
  columns: Columns
  measure: str
  dev: tuple[str, ...] = ("dev",)

  def read(self, folder: epath.PathLike, part: str) -> Labelled:
    """The examples of train, dev, or another part; rows with an empty cell are left out and counted (QQP has some).

    Raises:
      ValueError: there is no such file, or it is not as GLUE has it.
    """
    return KINDS[self.kind].read(self.file(folder, part), self.columns, training=part == "train")

  def file(self, folder: epath.PathLike, part: str) -> epath.Path:
    """Where a part of it is.

    Raises:
      ValueError: it is not there.
    """
    names = (self.name, self.name.lower().replace("-", ""))
    found = [epath.Path(folder) / name / f"{part}.tsv" for name in names]
    for path in found:
      if path.exists():
        return path
    raise ValueError(f"{' and '.join(map(str, found))} are not there; --data is the folder of GLUE's archive")


def _pairs(one: str, other: str, label: str = "label") -> Columns:
  return Columns(one, other, label, skip_broken=True)


TASKS = {
  task.name: task
  for task in (
    GlueTask("CoLA", "classification", Columns("4", None, "2", skip_broken=True), "matthews"),
    GlueTask("SST-2", "classification", Columns("sentence", None, "label", skip_broken=True), "accuracy"),
    GlueTask("MRPC", "classification", _pairs("#1 String", "#2 String", "Quality"), "f1"),
    GlueTask("STS-B", "regression", _pairs("sentence1", "sentence2", "score"), "spearman"),
    GlueTask("QQP", "classification", _pairs("question1", "question2", "is_duplicate"), "accuracy"),
    GlueTask(
      "MNLI",
      "classification",
      _pairs("sentence1", "sentence2", "gold_label"),
      "accuracy",
      ("dev_matched", "dev_mismatched"),
    ),
    GlueTask("QNLI", "classification", _pairs("question", "sentence"), "accuracy"),
    GlueTask("RTE", "classification", _pairs("sentence1", "sentence2"), "accuracy"),
    GlueTask("WNLI", "classification", _pairs("sentence1", "sentence2"), "accuracy"),
  )
}

# On the dev sets, in percent, single task. Measures differ between papers where a note says so.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
  # Sanh et al. 2019, table 1: medians of five runs. Its MNLI of BERT, 86.7, looks like a slip; the project's README has
  # 84.7. MRPC and QQP as they report them.
  "BERT-base": {
    "CoLA": 56.3, "SST-2": 92.7, "MRPC": 88.6, "STS-B": 89.0, "QQP": 89.6, "MNLI": 84.7, "QNLI": 91.8, "RTE": 69.3,
    "WNLI": 53.5,
  },
  "DistilBERT": {
    "CoLA": 51.3, "SST-2": 91.3, "MRPC": 87.5, "STS-B": 86.9, "QQP": 88.5, "MNLI": 82.2, "QNLI": 89.2, "RTE": 59.9,
    "WNLI": 56.3,
  },
  # fairseq, examples/roberta/README.md; MRPC accuracy, STS-B Pearson, RTE from random initialization of the head.
  "RoBERTa-base": {
    "CoLA": 63.6, "SST-2": 94.8, "MRPC": 90.2, "STS-B": 91.2, "QQP": 91.9, "MNLI": 87.6, "QNLI": 92.8, "RTE": 78.7,
  },
  # Geiping and Goldstein 2023, the row without pretraining.
  "BERT-base, not pretrained": {
    "CoLA": 0.0, "SST-2": 79.9, "MRPC": 77.9, "STS-B": 17.8, "QQP": 68.6, "MNLI": 34.1, "QNLI": 50.0, "RTE": 47.3,
  },
}  # fmt: skip


def chosen(names: str) -> list[GlueTask]:
  """The tasks of a comma-separated list of names, in any case, with or without hyphens.

  Raises:
    ValueError: there is no task of a name.
  """
  known = {name.lower().replace("-", ""): task for name, task in TASKS.items()}
  found = []
  for name in filter(None, (part.strip() for part in names.split(","))):
    if name.lower().replace("-", "") not in known:
      raise ValueError(f"--tasks={name}: GLUE has {', '.join(TASKS)}")
    found.append(known[name.lower().replace("-", "")])
  return found
