"""XLNet."""

from bert_jax.architectures import (
  XlnetConfig,
)
from bert_jax.config import (
  Config,
  DataConfig,
  MaskingConfig,
  OptimConfig,
  TokenizerConfig,
  TrainConfig,
  TransferConfig,
)
from bert_jax.objective_configs import (
  PermutationConfig,
)
from bert_jax.published import sized
from bert_jax.recipes.bert import BERT_SIZES


def xlnet(size: str) -> Config:
  """XLNet: tokens predicted in random orders, with a memory (Yang et al. 2019; zihangdai/xlnet, train.py).

  Base is the model of the paper's ablation, on Wikipedia and BooksCorpus (section 3.4). Its batch and steps are those
  of XLNet-large on the same text, as Liu et al. 2019 quote them (table 4); its rate, which the paper does not give, and
  its warm-up are BERT's. Large is the one trained on everything (section 3.1).

  Left out: rows read backwards in half of each batch (bi_data), end-of-paragraph and end-of-document marks, and memory
  that goes on from step to step (see `bert_jax.objectives.permutation`). The authors draw 20 sets of targets in advance
  (README, num_passes) and an order in each pass; here both are new in each pass.
  """
  large = size == "large"
  return Config(
    model=sized(XlnetConfig, *BERT_SIZES[size], activation="gelu_tanh"),  # modeling.py, gelu
    data=DataConfig(
      format="segment_pair",
      max_seq_len=512,
      short_seq_prob=0.0,  # section 3.1: always the full length
      random_next_prob=0.5,  # data_utils.py; not predicted
      segmentations=20,  # README, num_passes
      preceding_tokens=384,  # section 3.1
      tokenizer=TokenizerConfig(kind="unigram", vocab_size=32000, lowercase=False),
      masking=MaskingConfig(policy="dynamic"),
    ),
    objective=PermutationConfig(
      tokens_per_target=6.0,  # section 3.1, K; README, mask_alpha / mask_beta
      longest_span=5,  # section 2.3; data_utils.py, max_gram
      window=256,  # README, perm_size
    ),
    optim=OptimConfig(
      name="google_adamw",  # model_utils.py, AdamWeightDecayOptimizer
      peak_lr=4e-4 if large else 1e-4,
      warmup_steps=40_000 if large else 10_000,
      schedule="linear",
      final_share=0.001,  # train.py, min_lr_ratio
      weight_decay=0.01,
      eps=1e-6,
      clip_norm=1.0,  # train.py, clip
    ),
    train=TrainConfig(steps=500_000, batch_size=8192) if large else TrainConfig(steps=1_000_000, batch_size=256),
    transfer=TransferConfig(peak_lr=2e-5, batch_size=128, epochs=3),  # table 8, MNLI: 10,000 steps
  )
