"""The published sizes have the published numbers of parameters, to the unit."""

import math

import jax
import pytest

from bert_jax.models import networks
from bert_jax.published import PUBLISHED

# Counted on Hugging Face's classes; where its Model has a pooler, so has ours, and no masked-LM model has one.
COUNTS = {
  "bert-tiny": {"encoder": 4_385_920, "masked_lm": 4_416_698, "pretraining": 4_433_468},
  "bert-mini": {"encoder": 11_170_560, "masked_lm": 11_201_594, "pretraining": 11_267_900},
  "bert-small": {"encoder": 28_763_648, "masked_lm": 28_795_194, "pretraining": 29_058_876},
  "bert-medium": {"encoder": 41_373_184, "masked_lm": 41_404_730, "pretraining": 41_668_412},
  "bert-base-uncased": {"encoder": 109_482_240, "masked_lm": 109_514_298, "pretraining": 110_106_428},
  "bert-large-uncased": {"encoder": 335_141_888, "masked_lm": 335_174_458, "pretraining": 336_226_108},
  "bert-base-cased": {"encoder": 108_310_272, "pretraining": 108_932_934},
  "bert-large-cased": {"encoder": 333_579_264, "pretraining": 334_661_958},
  "roberta-base": {"encoder": 124_645_632, "masked_lm": 124_697_433},
  "roberta-large": {"encoder": 355_359_744, "masked_lm": 355_412_057},
  "distilroberta-base": {"encoder": 82_118_400, "masked_lm": 82_170_201},
  "distilbert-base-uncased": {"encoder": 66_362_880, "masked_lm": 66_985_530},
  "albert-base": {"encoder": 11_683_584, "masked_lm": 11_221_680, "pretraining": 11_813_810},
  "albert-large": {"encoder": 17_683_968, "masked_lm": 16_795_824, "pretraining": 17_847_474},
  "albert-xlarge": {"encoder": 58_724_864, "masked_lm": 54_821_040, "pretraining": 59_021_490},
  "albert-xxlarge": {"encoder": 222_595_584, "masked_lm": 206_368_944, "pretraining": 223_158_450},
  "electra-small-discriminator": {"encoder": 13_483_008, "replaced_tokens": 13_549_057},
  "electra-small-generator": {"masked_lm": 13_546_682},
  "electra-base-discriminator": {"encoder": 108_891_648, "replaced_tokens": 109_483_009},
  "electra-base-generator": {"encoder": 33_511_168, "masked_lm": 33_740_602},
  "electra-large-discriminator": {"encoder": 334_092_288, "replaced_tokens": 335_142_913},
  "electra-large-generator": {"encoder": 50_999_552, "masked_lm": 51_295_290},
  "xlnet-base-cased": {"encoder": 116_718_336, "permutation_lm": 116_750_336},
  "xlnet-large-cased": {"encoder": 360_268_800, "permutation_lm": 360_300_800},
  "deberta-base": {"encoder": 138_601_728},
  "deberta-large": {"encoder": 405_163_008},
  "deberta-v2-xlarge": {"encoder": 884_593_152},
  "deberta-v2-xxlarge": {"encoder": 1_564_549_632},
  "deberta-v3-xsmall": {"encoder": 70_682_112},
  "deberta-v3-small": {"encoder": 141_304_320},
  "deberta-v3-base": {"encoder": 183_831_552},
  "deberta-v3-large": {"encoder": 434_012_160},
  "mdeberta-v3-base": {"encoder": 278_218_752},
  "modernbert-base": {"encoder": 149_014_272, "masked_lm": 149_655_232},
  "modernbert-large": {"encoder": 394_781_696, "masked_lm": 395_881_664},
}
POOLED = ("bert", "roberta", "distilroberta", "albert")


def test_every_published_size_is_counted() -> None:
  assert set(COUNTS) == set(PUBLISHED)


@pytest.mark.parametrize(
  ("name", "network", "count"),
  [(name, network, count) for name, counts in COUNTS.items() for network, count in counts.items()],
)
def test_parameters(name: str, network: str, count: int) -> None:
  if network == "encoder" and name.startswith(POOLED):
    network = "pooled_encoder"
  params = jax.eval_shape(networks.initial(network, PUBLISHED[name]))
  assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == count
