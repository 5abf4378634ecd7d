"""What `bert-jax adapt` can be asked to do; standard library only, for the command line reads its flags off here."""

import dataclasses

from bert_jax import settings
from bert_jax.settings import setting

# Continuing from a checkpoint: google-research/bert, README, "pre-training tips and caveats".
CONTINUE_LR = 2e-5
# Of a head that starts at random: task-adaptive pretraining's (Gururangan et al. 2020, ADAPTIVE_PRETRAINING.md of their
# code), which is BERT's own for pretraining (Devlin et al. 2018, A.2).
NEW_HEAD_LR = 1e-4
MAX_TOKENS = 128  # the length of that README's run_pretraining command, and of nine tenths of BERT's pretraining
TASKS = ("wiki_topics", "bbc_classes")


@dataclasses.dataclass(frozen=True)
class Asked:
  """How a model is adapted; flags are made of these. Where a line names no source, the default is a matter of cost.

  One pass over the text is the default, as the 12,500 steps of Gururangan et al. 2020 (section 3.2) are of each domain.
  """

  steps: int | None = setting(None, "optimizer steps (one pass over the text)", at_least=1, at_most=100_000_000)
  epochs: int | None = setting(None, "passes over the text, in place of --steps", at_least=1, at_most=100_000)
  batch_size: int = setting(32, "sequences a step (32: README of google-research/bert)", at_least=1, at_most=1 << 24)
  max_tokens: int | None = setting(
    None,
    f"of a sequence, special tokens counted ({MAX_TOKENS}, or the model's positions where these are fewer)",
    at_least=8,
  )
  peak_lr: float | None = setting(
    None,
    f"learning rate after warm-up ({CONTINUE_LR:g}: README of google-research/bert; {NEW_HEAD_LR:g} where the model"
    " came without the head that predicts masked tokens: Gururangan et al. 2020)",
    above=0,
  )
  warmup_fraction: float = setting(
    0.06, "of all steps (0.06: Liu et al. 2019, table 10, where training starts from a model)", at_least=0, below=1
  )
  seed: int = setting(0, "of data order, masks, dropout and a new head (0)", at_least=0, below=1 << 32)
  add_tokens: int = setting(
    0, "extend the vocabulary by so many words of the text, those that save most tokens; WordPiece only", at_least=0
  )
  draws: int = setting(
    10, "of labelled texts, with each of which the tasks are measured (10)", at_least=2, at_most=1000
  )

  def check(self) -> None:
    """Refuses what can be seen to be wrong without the text or the model.

    Raises:
      ValueError: naming the flag, its value and the rule.
    """
    if self.steps is not None and self.epochs is not None:
      raise ValueError(f"--steps={self.steps} and --epochs={self.epochs} both say how long to train; give one of them")
    try:
      settings.check_bounds(self, "--")
    except ValueError as error:
      name, _, rule = str(error).partition("=")
      raise ValueError(f"{name.replace('_', '-')}={rule}") from error
