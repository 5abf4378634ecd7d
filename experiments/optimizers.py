"""Which optimizer, and which schedule, learn the most from the same text?

    python experiments/optimizers.py                              # demo
    python experiments/optimizers.py --arms=adam,muon --seeds=0,1,2,3
    python experiments/optimizers.py --optim.peak_lr=1e-3         # what all arms scale their rate from

Every arm sees the same sequences in the same order. Optimizers differ in the rate that suits them, so LAMB and Muon
have one of their own, the better of two that were tried; the others have Adam's, and no other was tried for them.
"""

from bert_jax import scales
from bert_jax.command_line import main
from bert_jax.experiment import Arm, Experiment, Size

EXPERIMENT = Experiment(
  name="optimizers",
  question="Which optimizer, and which schedule, learn the most from the same text?",
  arms=(
    Arm(
      name="adam",
      change="RoBERTa's Adam with linear decay; full sentences, dynamic masks, no NSP",
      assignments={
        "optim.name": "fairseq_adam",
        "optim.schedule": "linear",
        "optim.decay_parameters": "matrices",
        "optim.beta2": 0.98,
        "data.format": "full_sentences",
        "data.short_seq_prob": 0.0,
        "data.masking.policy": "dynamic",
        "objective.sentence": "none",
      },
    ),
    Arm(
      name="no_bias_correction",
      parent="adam",
      change="BERT's AdamW, which does not correct the moments for their start at 0",
      assignments={"optim.name": "google_adamw"},
    ),
    Arm(
      name="stable_adamw",
      parent="adam",
      change="updates clipped for each matrix in place of the whole gradient's norm",
      assignments={
        "optim.name": "stable_adamw",
        "optim.clip_norm": 0.0,
        # Its decay is not multiplied by the rate: the same amount at the peak.
        "optim.weight_decay": lambda c: c.optim.weight_decay * c.optim.peak_lr,
      },
      expects="no loss, and fewer spikes (Wortsman et al. 2023, on images with texts)",
    ),
    Arm(
      name="lamb",
      parent="adam",
      change="updates scaled to the size of each matrix",
      # After 2,000 steps of the demo, one seed, at [MASK]: 5.66 nats at four times Adam's rate, 6.28 at thirteen times.
      assignments={"optim.name": "lamb", "optim.peak_lr": lambda c: 4 * c.optim.peak_lr},
      expects="no loss, with large batches (You et al. 2020, BERT-large: SQuAD F1 90.4 at 512, 91.5 at 32K)",
    ),
    Arm(
      name="muon",
      parent="adam",
      change="the updates of the layers' matrices made orthogonal",
      # In the same trial: 5.36 nats at Adam's rate, 5.07 at twice that; Adam 5.76.
      assignments={"optim.name": "muon", "optim.peak_lr": lambda c: 2 * c.optim.peak_lr},
      expects="better: half of the work for the same loss (Liu et al. 2025, on decoders)",
      direction=1,
    ),
    Arm(
      name="cosine",
      parent="adam",
      change="half a cosine in place of linear decay",
      assignments={"optim.schedule": "cosine"},
    ),
    Arm(
      name="warmup_stable_decay",
      parent="adam",
      change="the peak until the last tenth of the steps, then 1 - √x",
      assignments={
        "optim.schedule": "warmup_stable_decay",
        "optim.decay_steps": lambda c: max(1, c.train.steps // 10),
      },
      expects="as good as cosine (Hägele et al. 2024, on decoders)",
    ),
    Arm(
      name="budget_triangle",
      parent="adam",
      change="from a quarter of the peak up to it at three quarters of the steps, then down to 0; no warm-up",
      assignments={"optim.schedule": "budget_triangle", "optim.warmup_steps": 0},
      expects="better than others within a fixed time (Geiping and Goldstein 2023)",
    ),
  ),
  sizes={
    "smoke": Size(scales.SMOKE, seeds=(0,), note=scales.SMOKE_NOTE),
    "demo": Size(
      scales.DEMO_SHORT,
      seeds=(0, 1),
      note=scales.DEMO_NOTE,
      runs=("adam", "stable_adamw", "lamb", "muon", "warmup_stable_decay"),
    ),
    "night": Size(scales.NIGHT, seeds=(0, 1, 2), note=scales.NIGHT_NOTE),
    "paper": Size(scales.PAPER, seeds=(0, 1, 2), note=scales.PAPER_NOTE),
  },
)

if __name__ == "__main__":
  main(EXPERIMENT)
