"""The kinds of task, one a file; see `base.py` for what each says of itself."""

from bert_jax.transfer.kinds.base import Kind
from bert_jax.transfer.kinds.classification import Classification
from bert_jax.transfer.kinds.multi_label import MultiLabel
from bert_jax.transfer.kinds.multiple_choice import MultipleChoice
from bert_jax.transfer.kinds.question_answering import QuestionAnswering
from bert_jax.transfer.kinds.regression import Regression
from bert_jax.transfer.kinds.reranking import Reranking
from bert_jax.transfer.kinds.similarity import Retrieval, Similarity
from bert_jax.transfer.kinds.tagging import Tagging

KINDS: dict[str, Kind] = {
  kind.name: kind
  for kind in (
    Classification(),
    MultiLabel(),
    Regression(),
    Tagging(),
    QuestionAnswering(),
    MultipleChoice(),
    Similarity(),
    Retrieval(),
    Reranking(),
  )
}
