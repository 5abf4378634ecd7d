"""The published recipes as data. Each number cites paper and table, or the authors' code.

A recipe is a whole `Config`; an experiment starts from one and changes what it names. Published settings
want published corpora and accelerators; `experiments/` scales them down and says how. What a recipe leaves out of its
paper's, for lack of a part here, its docstring says.
"""

import difflib

from bert_jax.config import Config
from bert_jax.recipes.bert import BERT_SIZES, albert, bert, distilbert, electra, roberta, spanbert
from bert_jax.recipes.deberta import deberta, deberta_v2_xlarge, deberta_v3
from bert_jax.recipes.modernbert import crammed_bert, modernbert, mosaic_bert_base
from bert_jax.recipes.xlnet import xlnet

__all__ = ["BERT_SIZES", "RECIPES", "recipe"]

RECIPES: dict[str, Config] = {
  **{f"bert_{size}": bert(size) for size in BERT_SIZES},
  **{f"roberta_{size}": roberta(size) for size in ("base", "large")},
  **{f"spanbert_{size}": spanbert(size) for size in ("base", "large")},
  # Lan et al. 2019, table 1
  "albert_base": albert(12, 768),
  "albert_large": albert(24, 1024),
  "albert_xlarge": albert(24, 2048, num_heads=16),
  "albert_xxlarge": albert(12, 4096),
  **{f"electra_{size}": electra(size) for size in ("small", "base", "large")},
  "xlnet_base": xlnet("base"),
  "xlnet_large": xlnet("large"),
  "distilbert_base": distilbert(),
  "deberta_base": deberta("base"),
  "deberta_large": deberta("large"),
  "deberta_v2_xlarge": deberta_v2_xlarge(),
  **{f"deberta_v3_{size}": deberta_v3(size) for size in ("xsmall", "small", "base", "large")},
  # Warner et al. 2024, table 4, and appendix A, table 3
  "modernbert_base": modernbert(22, 768, 1152, 8e-4, 4608, (768, 50)),
  "modernbert_large": modernbert(28, 1024, 2624, 5e-4, 4928, (448, 10)),
  "crammed_bert": crammed_bert(),
  "mosaic_bert_base": mosaic_bert_base(),
}


def recipe(name: str) -> Config:
  """The recipe of a name such as `bert_base`.

  Raises:
    ValueError: an unknown name, with those that exist.
  """
  if name not in RECIPES:
    near = difflib.get_close_matches(name, RECIPES, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"there is no recipe {name!r}{meant}; there are {', '.join(RECIPES)}")
  return RECIPES[name]
