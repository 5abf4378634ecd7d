"""Few-label accuracy: a linear model over frozen features, on many draws of labelled texts, beside its baselines.

A draw is labelled texts of each class. All runs of a sweep, whatever their seed, have the same draws and the same test
texts, so that what these happen to be is not between two runs. Fine-tuning stands beside it, on the first draws.

N texts, D features.
"""

import dataclasses
import functools
import hashlib
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from bert_jax import records, results, settings
from bert_jax.config import Config
from bert_jax.data import tasks
from bert_jax.data.frames import Frame, frame_of
from bert_jax.data.tasks import TaskDraws
from bert_jax.inference.model import Model
from bert_jax.interop.params import fingerprint
from bert_jax.objectives import objective_of
from bert_jax.results import Baselines, Draws, FewLabels, TaskResult
from bert_jax.training import processes
from bert_jax.training.layout import Layout
from bert_jax.training.step import init_params
from bert_jax.transfer import features, linear
from bert_jax.transfer.finetuning import finetune, right_on_test, transfer_settings

# Of logistic regression, scikit-learn's C, fixed: 16 labels a class are too few to pick it by. `balanced` has the
# features half-way to whitening. Means of 20 draws, in %, on 1,000 texts of wiki_topics and 259 of bbc_classes, one
# network of two layers of 128 after 4.1 million tokens of full sentences, and its random weights, with embeddings and
# layers side by side:
#
#     scaling            C    topics: learned, random    BBC: learned, random
#     standardized     0.03             37.3 35.0               65.1 59.0
#     a quarter       0.003             38.8 36.1               64.7 59.2
#     half            0.003             40.3 35.5               65.3 56.4
#     half             0.03             39.0 34.5               66.3 56.6
STRENGTH = 0.003


def measure(
  start: Model, config: Config, seed: int, layout: Layout, label: str, folder: epath.PathLike, cache: epath.PathLike
) -> tuple[dict[str, TaskResult], FewLabels]:
  """Few-label accuracy of a pretrained model and of what it has to beat, on every task of `transfer.tasks`.

  Args:
    start: the model.
    config: the run's; `data.source` and `data.eval_fraction` give the texts.
    seed: of fresh weights, and of a fine-tuning's classifier, data order and dropout. Draws do not depend on it.
    layout: the devices.
    label: names the run in the log.
    folder: for the checkpoints of each fine-tuning, which goes on where it was interrupted.
    cache: a folder that keeps the baselines, a file each. They do not depend on the weights of `start`, so that runs
      share them; several processes may use it at once.

  Returns:
    By task: means over draws; and how they came about.

  Raises:
    ValueError: see `load_draws`, `finetune` and `require_sklearn`.
  """
  # Not above the positions that the model has.
  most = config.model.longest_input or config.transfer.max_seq_len
  transfer = dataclasses.replace(config.transfer, max_seq_len=min(config.transfer.max_seq_len, most))
  config = dataclasses.replace(config, transfer=transfer)
  found, ways = {}, {}
  for name in tasks.task_names(transfer):
    task = _Task(tasks.load_draws(name, config.data, transfer), start, config, seed, layout, epath.Path(folder))
    ways[name] = task.ways(epath.Path(cache))
    found[name] = task.result(ways[name])
    logging.info("%s: %s", label, task.in_words(found[name]))
  return found, FewLabels(ways)


def merged(before: FewLabels | None, kept: Collection[str], new: FewLabels) -> FewLabels:
  """What was there of the tasks in `kept`, and `new`."""
  there = before.tasks if before else {}
  return FewLabels({name: ways for name, ways in there.items() if name in kept} | new.tasks)


def frozen_features(model: Model, token_ids: Sequence[np.ndarray]) -> np.ndarray:
  """What the linear model reads of whole texts, float32 [N, D]; see `features.of_layers`.

  A window is as long as the texts that a model of ours was trained on, or that another was made for.

  Args:
    model: of any kind.
    token_ids: of each text, see `tasks.token_ids`.
  """
  limits = (model.run and model.run.data.max_seq_len, model.embedding.max_tokens, model.config.longest_input)
  most = min((limit for limit in limits if limit), default=512)
  return features.of_layers(model, token_ids, most)


def balanced(vectors: np.ndarray) -> np.ndarray:
  """Features in which no direction drowns the others, float64 [N, at most D] with a mean square of 1.

  Mean vectors of an encoder lie along few directions. They are standardized, turned to their principal axes, and each
  axis is divided by the root of its deviation, which is half-way to whitening.

  Args:
    vectors: float32 [N, D], of all texts of a task, whether their labels are known or not.
  """
  centered = vectors - vectors.mean(axis=0)
  scaled = centered / np.maximum(centered.std(axis=0), 1e-6)
  axes, deviations, _ = np.linalg.svd(scaled.astype(np.float64), full_matrices=False)
  found = axes * np.sqrt(deviations)
  return found / max(np.sqrt(np.mean(found**2)), 1e-6)  # vectors that are all alike stay 0


def predicted(train: np.ndarray, targets: np.ndarray, test: np.ndarray) -> np.ndarray:
  """The class of each test text, by `balanced` features of labelled texts; int [N]."""
  return linear.classify(train, targets, test, STRENGTH)


@dataclasses.dataclass(frozen=True)
class _Task:
  """A task, and what is measured on it; see `measure`."""

  texts: TaskDraws
  start: Model
  config: Config
  seed: int
  layout: Layout
  folder: epath.Path

  # ---- what comes of it ----

  def ways(self, cache: epath.Path) -> dict[str, Draws]:
    """By the names of `TaskResult` and `Baselines`."""
    config, tokenizer = self.config, self.start.require_tokenizer()
    of_config, cut = settings.to_dict(config), config.transfer.max_seq_len
    texts, tokens = self._fingerprint(), [tokenizer.hash, config.data.language]
    network = [of_config["model"], of_config["objective"], self.seed, tokens]
    tuning = [transfer_settings(config), config.runtime.compute_dtype]

    def kept(way: str, make: Callable[[], Draws], *decides: Any) -> Draws:
      # By what decides it, and no more: runs of other seeds share what counts words.
      return _kept(cache / f"{way}-{settings.fingerprint([texts, *decides])}.json", make)

    # Runs of other objectives begin with the same encoder.
    encoder = [of_config["model"], fingerprint(self._fresh()["encoder"]), tokens, config.data.max_seq_len]
    found = {
      "pretrained": self._frozen(self.start.params),
      "random": kept("random", lambda: self._frozen(self._fresh()), encoder),
      "tfidf": kept("tfidf", lambda: self._tfidf(None)),
      "tfidf_cut": kept("tfidf_cut", lambda: self._tfidf(cut), tokens, dataclasses.asdict(self._frame), cut),
      "majority": kept("majority", self._majority),
    }
    if config.transfer.finetuned_draws:
      found["finetuned"] = self._finetuned(self.start.params, "pretrained")
      found["scratch"] = kept("scratch", lambda: self._finetuned(self._fresh(), "scratch"), network, tuning)
    return found

  def result(self, ways: dict[str, Draws]) -> TaskResult:
    means = {name: float(np.mean(draws.by_draw)) for name, draws in ways.items()}
    baselines = {field.name: means.get(field.name) for field in dataclasses.fields(Baselines)}
    return TaskResult(
      pretrained=means["pretrained"],
      baselines=Baselines(**baselines),  # pyright: ignore[reportArgumentType]
      draws=len(self.texts.draws),
      test_texts=len(self.texts.test),
      labels_per_class=self.config.transfer.labels_per_class,
      classes=len(self.texts.classes),
      finetuned=means.get("finetuned"),
      finetuned_draws=self.config.transfer.finetuned_draws,
    )

  def in_words(self, result: TaskResult) -> str:
    """In a line."""
    draws, labelled = self.texts.draws.shape
    line = (
      f"{self.texts.name}: {draws} draws of {labelled:,} labelled texts, {result.test_texts:,} test texts:"
      f" {100 * result.pretrained:.1f} % right from frozen features (random weights"
      f" {100 * result.baselines.random:.1f} %, TF-IDF {100 * result.baselines.tfidf:.1f} %)"
    )
    if result.finetuned is None or result.baselines.scratch is None:
      return line
    return (
      f"{line}; fine-tuned on {result.finetuned_draws} of them, {100 * result.finetuned:.1f} % (from random weights"
      f" {100 * result.baselines.scratch:.1f} %)"
    )

  @property
  def _frame(self) -> Frame:
    return frame_of(self.start.config)

  @functools.cached_property
  def _token_ids(self) -> list[np.ndarray]:
    return tasks.token_ids(self.texts.texts, self.start.require_tokenizer(), self.config.data.language)

  def _fingerprint(self) -> str:
    """A hash of the texts, their labels and the draws."""
    hasher = hashlib.sha256("\0".join((self.texts.name, *self.texts.classes, "", *self.texts.texts)).encode())
    for array in (self.texts.labels, self.texts.draws, self.texts.test):
      hasher.update(repr(array.shape).encode() + array.astype(np.int64).tobytes())
    return hasher.hexdigest()[:16]

  # ---- ways of classifying ----

  def _frozen(self, params: Any) -> Draws:
    # What a process computes here, every one does: waiting for the first could take longer than they wait.
    model = dataclasses.replace(self.start, params=processes.whole({"encoder": params["encoder"]}))
    found = balanced(frozen_features(model, self._token_ids))
    return self._draws(lambda draw: predicted(found[draw], self.texts.labels[draw], found[self.texts.test]))

  def _fresh(self) -> Any:
    """The parameters that a run of this seed begins with."""
    objective = objective_of(self.config)
    ((_, fresh), *_) = objective.trained(init_params(objective, self.seed)).values()
    return fresh

  def _tfidf(self, cut: int | None) -> Draws:
    """Of whole texts, or of what fine-tuning reads of them."""
    of_model = None if cut is None else (self._frame, self.start.require_tokenizer(), cut)
    weigh = features.tfidf_of_draws(list(self.texts.texts), of_model)

    def answers(draw: np.ndarray) -> np.ndarray:
      train, test = weigh(draw, self.texts.test)
      return linear.classify(train, self.texts.labels[draw], test, 1.0)  # as strong as `linear.fit_sparse`

    return self._draws(answers)

  def _majority(self) -> Draws:
    """Of the class that most test texts have: the most that not reading can reach."""
    commonest = np.bincount(self.texts.labels[self.texts.test]).argmax()
    return self._draws(lambda _: np.full(len(self.texts.test), commonest))

  def _draws(self, answers: Callable[[np.ndarray], np.ndarray]) -> Draws:
    """Args: answers: labelled texts of a draw → class of each test text."""
    tasks.require_sklearn()
    from threadpoolctl import threadpool_limits  # which comes with scikit-learn

    wanted = self.texts.labels[self.texts.test]
    with threadpool_limits(1):  # threads wait for each other where matrices are so small: several times as long
      return _of_right(np.stack([answers(draw) == wanted for draw in self.texts.draws]))

  def _finetuned(self, params: Any, way: str) -> Draws:
    config, start = self.config, dataclasses.replace(self.start, params=params)
    tokenizer, right = start.require_tokenizer(), []
    for number in range(config.transfer.finetuned_draws):
      name = self.texts.name
      task = tasks.load_task(name, config.data, config.transfer, tokenizer, number, self._frame)
      folder, label = self.folder / name / way / f"draw-{number}", f"fine-tuning on {name}, {way}, draw {number + 1}"
      done = finetune(start, config, task, self.seed, self.layout, folder, label)
      right.append(right_on_test(done.model, config, task, self.seed, self.layout))
    return _of_right(np.stack(right))


def _of_right(right: np.ndarray) -> Draws:
  """Of whether each test text is labelled right in each draw, bool [draws, N]."""
  return Draws(tuple(right.mean(axis=1).tolist()), tuple(right.sum(axis=0).tolist()))


def _kept(path: epath.Path, make: Callable[[], Draws]) -> Draws:
  """What the file has, or else what is made and then kept there."""
  known = None
  try:
    known = records.read_json(path, "it is measured again")
  except ValueError as error:
    logging.warning("%s", error)
  if (known := processes.of_first(known)) is not None:
    return settings.from_dict(known, Draws)
  draws = make()
  if processes.is_first():
    # Under a name of its own until it is whole: another process may write the same file at this moment.
    draft = path.parent / f"{uuid.uuid4().hex}.part"
    results.write(draft, draws)
    draft.replace(path)
  return draws
