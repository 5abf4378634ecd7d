"""What networks are trained for: outputs and labels to {name: (sum, count)}.

An objective is a file here, a line in `OBJECTIVES`, and its settings in `objective_configs.py`. Losses are sums and
counts, never means: the step adds them over microbatches and devices and divides once, so that any split of a batch has
the same gradient. (TF BERT took a mean on each core, in which an example with few predictions weighs more.)
"""

import functools

from bert_jax.architectures import EncoderConfig
from bert_jax.config import Config, RuntimeConfig
from bert_jax.objective_configs import (
  ClassificationConfig,
  DistillationConfig,
  MaskedTokensConfig,
  MultipleChoiceConfig,
  PermutationConfig,
  QuestionAnsweringConfig,
  ReplacedTokensConfig,
  SimilarityConfig,
  TaggingConfig,
)
from bert_jax.objective_configs import Objective as Settings
from bert_jax.objectives.base import Objective
from bert_jax.objectives.classification import Classification
from bert_jax.objectives.distillation import Distillation
from bert_jax.objectives.masked_tokens import MaskedTokens
from bert_jax.objectives.multiple_choice import MultipleChoice
from bert_jax.objectives.permutation import Permutation
from bert_jax.objectives.question_answering import QuestionAnswering
from bert_jax.objectives.replaced_tokens import ReplacedTokens
from bert_jax.objectives.similarity import Similarity
from bert_jax.objectives.tagging import Tagging

OBJECTIVES: dict[type, type[Objective]] = {
  MaskedTokensConfig: MaskedTokens,
  ReplacedTokensConfig: ReplacedTokens,
  DistillationConfig: Distillation,
  PermutationConfig: Permutation,
  ClassificationConfig: Classification,
  TaggingConfig: Tagging,
  QuestionAnsweringConfig: QuestionAnswering,
  MultipleChoiceConfig: MultipleChoice,
  SimilarityConfig: Similarity,
}


def objective_of(config: Config) -> Objective:
  """The objective of a config. Configs that differ in nothing that a compiled program depends on have the same one."""
  runtime = config.runtime
  compute = RuntimeConfig(
    compute_dtype=runtime.compute_dtype,
    attention=runtime.attention,
    scan_layers=runtime.scan_layers,
    remat=runtime.remat,
  )
  return _objective(config.model, config.objective, compute)


@functools.cache
def _objective(model: EncoderConfig, settings: Settings, runtime: RuntimeConfig) -> Objective:
  return OBJECTIVES[type(settings)](model, settings, runtime)
