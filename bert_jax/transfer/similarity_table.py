"""STS-B by one encoder in three ways: cosines before and after training, and both sentences read together."""

from typing import Any, Literal

from etils import epath

from bert_jax import records
from bert_jax.interop import load as loading
from bert_jax.interop.params import fingerprint
from bert_jax.transfer import baselines, bundles, glue, making

# STS-B dev would be compared with; these are of the test set, Spearman (Reimers and Gurevych 2019, tables 1 and 2).
PUBLISHED = {
  "GloVe vectors, averaged (test)": 0.5802,
  "BERT-base, averaged, not trained for it (test)": 0.4635,
  "SBERT-STSb-base, a bi-encoder trained on STS-B (test)": 0.8463,
  "BERT-STSb-base, a cross-encoder (test)": 0.8430,
}
_BI, _CROSS = "bi-encoder", "cross-encoder"


def run(
  model: str,
  data: str,
  workdir: str,
  epochs: int,
  peak_lr: float,
  pooling: Literal["cls", "mean"],
) -> int:
  """Trains both, and writes and prints the table; see experiments/similarity.py for the arguments."""
  task = glue.TASKS["STS-B"]
  train, dev = (task.read(data, part) for part in ("train", "dev"))
  start = loading.load(model)
  max_tokens = start.config.length_within(128)
  wanted = {
    "weights": fingerprint(start.params), "epochs": epochs, "peak_lr": peak_lr, "pooling": pooling,
    "max_tokens": max_tokens,
  }  # fmt: skip
  making.refuse_other(epath.Path(workdir), wanted, "holds bundles that were asked for otherwise")
  found: dict[str, dict[str, Any]] = {}
  for name, kind, compared in ((_BI, "similarity", baselines.QUICK), (_CROSS, "regression", ("trivial",))):
    bundle = epath.Path(workdir) / name
    if not (bundle / bundles.METRICS).exists():
      source = making.Source.of(model, kind, train, dev, "spearman")
      asked = making.Asked(kind, epochs=epochs, peak_lr=peak_lr, pooling=pooling, max_tokens=max_tokens)
      making.make(source, asked, bundle, compared)
    found[name] = records.read_json(bundle / bundles.METRICS, f"remove {bundle}") or {}
  rows = [(f"this model, {name}", scores["scores"]["spearman"]) for name, scores in found.items()]
  rows += [(f"cosines: {name}", scores["spearman"]) for name, scores in found[_BI]["baselines"].items()]
  lines = [
    "| | Spearman |",
    "| --- | ---: |",
    *(f"| {name} | {value:.3f} |" for name, value in [*rows, *PUBLISHED.items()]),
  ]
  note = (
    f"Spearman's correlation with people's judgements, on STS-B's {len(dev):,} dev pairs; the published rows are of its"
    f" test pairs and of larger models. {epochs} epochs, one seed."
  )
  text = "\n".join([*lines, "", note]) + "\n"
  (epath.Path(workdir) / "similarity.md").write_text(text)
  print(text)
  return 0
