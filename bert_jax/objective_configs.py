"""The settings of every objective, as frozen dataclasses; standard library only.

A class stands for what a network is trained for; `Config.objective` is one of them. The objectives themselves are in
`objectives/`.
"""

import dataclasses
from typing import ClassVar, Literal

from bert_jax.settings import setting

Problem = Literal["single_label", "multi_label", "regression"]  # what a classifier's outputs are; see its config


@dataclasses.dataclass(frozen=True)
class MaskedTokensConfig:
  """Masked tokens, and beside them what stands between the two segments of a pair (Devlin et al. 2018, 3.1)."""

  kind: ClassVar[str] = "masked_tokens"

  sentence: Literal["none", "nsp", "sop"] = setting(
    "none",
    "loss beside masked tokens; nsp: is the second segment the next (BERT); sop: are the two in order (ALBERT)",
  )
  boundary: bool = setting(
    False, "predict each token of a masked span from the two tokens around the span too (SpanBERT)"
  )
  enhanced_decoder: bool = setting(
    False,
    "DeBERTa: tell the last layer the absolute positions, and run it twice (He et al. 2020, section 3.2)",
    decides="networks",  # it has a table of positions
  )


@dataclasses.dataclass(frozen=True)
class ReplacedTokensConfig:
  """ELECTRA: a small generator fills masks, and the model tells which tokens it replaced (Clark et al. 2020, 2)."""

  kind: ClassVar[str] = "replaced_tokens"

  predicts: Literal["replaced", "tokens"] = setting(
    "replaced",
    "of every token, whether it was replaced; or, tokens, which one stood there (the paper's all-tokens MLM, 3.5)",
    decides="networks",
  )
  loss_over: Literal["all", "masked"] = setting(
    "all", "the model's loss is over all tokens, or over those alone that were masked (its ELECTRA 15 %, 3.5)"
  )
  sharing: Literal["embeddings", "none", "disentangled"] = setting(
    "embeddings",
    "of the two networks: their embeddings (ELECTRA); nothing; or disentangled, where the model's tables are the"
    " generator's, which its loss does not move, plus a part of its own (DeBERTaV3, He et al. 2021, section 3)",
    decides="networks",
  )
  generator_from: str | None = setting(
    None,
    "a run or folder with a masked language model, which is then the generator and is not trained: the paper's"
    " two-stage training (3.2), for which train.start_from names the same; none: train both together",
    decides="networks",
  )
  enhanced_decoder: bool = setting(False, "DeBERTa: of the generator; see masked_tokens", decides="networks")
  generator_size: float = setting(
    0.25,
    "width of the generator, as a share of the model's; heads and inner width with it; of no effect, as the next, with"
    " generator_from",
    above=0,
    at_most=1,
    decides="networks",
  )
  generator_layers: float = setting(
    1.0, "layers of the generator, as a share of the model's", above=0, at_most=1, decides="networks"
  )
  weight: float = setting(
    50.0, "of the replaced tokens' loss beside the generator's masked tokens'", at_least=0, at_most=1e6
  )
  temperature: float = setting(1.0, "of the softmax that replacements are drawn from", above=0, at_most=1e3)


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
  """Masked tokens with a teacher, whose answers and states the model learns too (Sanh et al. 2019, section 3)."""

  kind: ClassVar[str] = "distillation"

  teacher: str | None = setting(
    None, "a run or folder with a masked language model that has the same tokenizer", decides="networks"
  )
  initialize: Literal["teacher", "random"] = setting(
    "teacher",
    "where the model starts: with evenly spaced layers of the teacher and its embeddings, or at random; of no effect"
    " with train.start_from",
    decides="networks",
  )
  temperature: float = setting(2.0, "of both softmaxes; distillation/train.py", above=0, at_most=1e3)
  loss_over: Literal["all", "masked"] = setting(
    "all", "the teacher's answers are learned at all tokens, or at the predicted ones alone (restrict_ce_to_mask)"
  )
  distillation_weight: float = setting(
    5.0, "of the divergence from the teacher's answers; as the next two, distillation/README", at_least=0, at_most=1e6
  )
  mlm_weight: float = setting(2.0, "of the masked tokens' loss", at_least=0, at_most=1e6)
  cosine_weight: float = setting(
    1.0, "of 1 - cosine of the last hidden states, which needs the teacher's width", at_least=0, at_most=1e6
  )


@dataclasses.dataclass(frozen=True)
class PermutationConfig:
  """XLNet: some tokens predicted in a random order, each from those before it and all others (Yang et al. 2019, 2).

  Which tokens, is said here and not in `data.masking`, of which `policy` and `duplicates` hold.
  """

  kind: ClassVar[str] = "permutation"

  tokens_per_target: float = setting(
    6.0,
    "one of so many of a row's tokens is predicted: K of Yang et al. 2019, 2.3; mask_alpha / mask_beta of"
    " data_utils.py",
    at_least=1,
    at_most=1e6,
  )
  longest_span: int = setting(
    5,
    "predicted tokens come in spans of 1 to so many, n of them with a chance in proportion to 1 / n (max_gram of"
    " data_utils.py)",
    at_least=1,
    at_most=1 << 17,
  )
  window: int | None = setting(
    256,
    "tokens that are put in order among themselves, one window after the other; none: a row is one window (perm_size of"
    " train.py)",
    at_least=1,
    at_most=1 << 17,
  )


@dataclasses.dataclass(frozen=True)
class ClassificationConfig:
  """What a text or a pair of texts is: one of several classes, any of several labels, or a number; fine-tuning's."""

  kind: ClassVar[str] = "classification"

  num_classes: int = setting(2, "outputs", at_least=1, at_most=1_000_000)
  pooling: Literal["cls", "mean"] = setting("cls", "what the classifier reads; see transfer.pooling")
  problem: Problem = setting(
    "single_label", "single_label: softmax over the classes; multi_label: a sigmoid each; regression: squared errors"
  )


@dataclasses.dataclass(frozen=True)
class TaggingConfig:
  """A tag for each word, read from its first token; fine-tuning's (Devlin et al. 2018, 5.3)."""

  kind: ClassVar[str] = "tagging"

  num_classes: int = setting(2, "tags", at_least=2, at_most=1_000_000)


@dataclasses.dataclass(frozen=True)
class QuestionAnsweringConfig:
  """Where in a passage the answer to a question starts and ends; fine-tuning's (Devlin et al. 2018, 4.2 and 4.3)."""

  kind: ClassVar[str] = "question_answering"


@dataclasses.dataclass(frozen=True)
class MultipleChoiceConfig:
  """Which of several texts fits; fine-tuning's (Devlin et al. 2018, 4.4)."""

  kind: ClassVar[str] = "multiple_choice"


@dataclasses.dataclass(frozen=True)
class SimilarityConfig:
  """Two texts, each encoded by itself, and the cosine of their vectors; fine-tuning's (Reimers and Gurevych 2019)."""

  kind: ClassVar[str] = "similarity"

  pooling: Literal["cls", "mean"] = setting("mean", "a text's vector")
  loss: Literal["cosine", "in_batch"] = setting(
    "cosine",
    "cosine: squared error beside the given similarity (Reimers and Gurevych 2019, 3); in_batch: the other texts of the"
    " batch are wrong answers (Henderson et al. 2017, 4.4)",
  )
  scale: float = setting(
    20.0, "of in_batch's cosines before the softmax (sentence-transformers' default)", above=0, at_most=1e4
  )


Objective = (
  MaskedTokensConfig
  | ReplacedTokensConfig
  | DistillationConfig
  | PermutationConfig
  | ClassificationConfig
  | TaggingConfig
  | QuestionAnsweringConfig
  | MultipleChoiceConfig
  | SimilarityConfig
)
