"""The settings of every architecture, as frozen dataclasses; standard library only.

A class stands for an architecture; `Config.model` is one of them. Defaults are a published base model. Rules between
the settings of one architecture are in `check`.
"""

import dataclasses
from typing import Any, ClassVar, Literal, Protocol, get_args

from bert_jax.settings import check_bounds, lookup, setting

Activation = Literal["gelu", "gelu_tanh", "relu"]
HeadActivation = Literal["gelu", "gelu_tanh", "relu", "tanh"]
MOST_POSITIONS = 1 << 17


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """What all encoders of the family have. Defaults are BERT-base's (Devlin et al. 2018, section 3).

  Class attributes, which no run can choose:
    kind: the architecture's name, as Hugging Face's `model_type` where it has one.
    cls_last: XLNet's `text <sep> <cls>`, padded on the left; all others have `[CLS] text [SEP]`, padded on the right.
    separators_between: separators between the two texts of a pair; RoBERTa has two.
    has_sentence_head: whether it is published with a head that labels a pair of texts in pretraining.
    scores_by_place: whether attention adds to the products of queries and keys, by the places of the tokens.
  """

  kind: ClassVar[str] = ""
  cls_last: ClassVar[bool] = False
  separators_between: ClassVar[int] = 1
  has_sentence_head: ClassVar[bool] = False
  scores_by_place: ClassVar[bool] = False

  # Settings that some architectures have; here, what they are for all others.
  max_positions: ClassVar[int | None] = None
  type_vocab_size: ClassVar[int] = 0
  position_offset: ClassVar[int] = 0
  position_buckets: ClassVar[int] = 0
  span_dropout: ClassVar[float] = 0.0

  # The upper bounds are far above what was ever published, and far below what ends in an abort of the compiler, a
  # frozen machine or a number that wraps round.
  vocab_size: int | None = setting(
    None, "token ids known; none: as many as the tokenizer has", at_least=1, at_most=1 << 22
  )
  num_layers: int = setting(12, "transformer blocks", at_least=1, at_most=1_000)
  hidden_size: int = setting(768, "width of the hidden states", at_least=1, at_most=1 << 16)
  num_heads: int = setting(12, "attention heads; must divide hidden_size", at_least=1, at_most=1 << 16)
  intermediate_size: int = setting(
    3072, "inner width of the feed-forward part; 4 x hidden_size in BERT", at_least=1, at_most=1 << 18
  )
  activation: Activation = setting(
    "gelu", "gelu is exact (erf), gelu_tanh its approximation; google-research/bert had erf until 2019-02-07"
  )
  layer_norm_eps: float = setting(1e-12, "added to the variance; 1e-12 in BERT, 1e-5 in RoBERTa", above=0, at_most=1)
  hidden_dropout: float = setting(0.1, "after the embeddings and after each sub-layer", at_least=0, below=1)
  attention_dropout: float = setting(
    0.1, "on the attention probabilities; only explicit attention has it", at_least=0, below=1
  )
  head_dropout: float | None = setting(
    None, "before a task's linear layer; none: as hidden_dropout", at_least=0, below=1
  )
  initializer: Literal["truncated_normal", "normal"] = setting(
    "truncated_normal", "truncated at two standard deviations in BERT, plain normal in RoBERTa"
  )
  initializer_range: float = setting(0.02, "standard deviation of kernels and embeddings", above=0, at_most=100)

  @property
  def head_activation(self) -> HeadActivation:
    """Of the layers that heads begin with."""
    return self.activation

  @property
  def longest_input(self) -> int | None:
    """Tokens of the longest sequence, special ones counted; None where there is no limit (XLNet)."""
    return self.max_positions

  def length_within(self, length: int) -> int:
    """`length`, or the longest input where that is shorter."""
    return min(length, self.longest_input or length)

  @property
  def num_segments(self) -> int:
    """Segment ids that the encoder tells apart; 0 where it reads none."""
    return self.type_vocab_size

  @property
  def num_distinct_blocks(self) -> int:
    """Blocks with parameters of their own."""
    return self.num_layers

  @property
  def embedding_width(self) -> int:
    """Width of the word table."""
    return self.hidden_size

  def check(self, require: "Require", prefix: str) -> None:
    """Checks the rules between settings; prefix: of their paths in messages."""
    heads = self.num_heads
    require(
      self.hidden_size % heads == 0,
      "hidden_size",
      f"must be divisible by {prefix}num_heads={heads}",
      f"try {self.hidden_size // heads * heads or heads}",
    )


class Require(Protocol):
  """Raises ValueError where a rule does not hold, with the setting's name and value, the rule and the way out."""

  def __call__(self, holds: bool, name: str, rule: str, way_out: str = "") -> None: ...


@dataclasses.dataclass(frozen=True)
class BertConfig(EncoderConfig):
  """BERT (Devlin et al. 2018; google-research/bert, modeling.py)."""

  kind: ClassVar[str] = "bert"
  has_sentence_head: ClassVar[bool] = True

  max_positions: int = setting(
    512, "longest sequence, in tokens, special tokens counted", at_least=1, at_most=MOST_POSITIONS
  )
  type_vocab_size: int = setting(2, "segment ids known", at_least=1, at_most=1 << 10)


@dataclasses.dataclass(frozen=True)
class RobertaConfig(EncoderConfig):
  """BERT's network with one segment and positions that start behind unused rows (Liu et al. 2019; fairseq)."""

  kind: ClassVar[str] = "roberta"
  separators_between: ClassVar[int] = 2

  layer_norm_eps: float = setting(1e-5, "added to the variance (fairseq, modules/layer_norm.py)", above=0, at_most=1)
  initializer: Literal["truncated_normal", "normal"] = setting("normal", "as fairseq, init_bert_params: untruncated")
  max_positions: int = setting(
    512, "longest sequence, in tokens, special tokens counted", at_least=1, at_most=MOST_POSITIONS
  )
  # fairseq numbers positions from padding_idx + 1 = 2: 514 rows for 512 positions.
  position_offset: int = setting(
    2, "unused rows before position 0 of the table: the padding's id, plus 1", at_least=0, at_most=MOST_POSITIONS
  )
  type_vocab_size: int = setting(1, "segment ids known", at_least=1, at_most=1 << 10)


@dataclasses.dataclass(frozen=True)
class DistilBertConfig(EncoderConfig):
  """BERT with half the layers, no segments and no pooler (Sanh et al. 2019)."""

  kind: ClassVar[str] = "distilbert"

  num_layers: int = setting(6, "transformer blocks", at_least=1, at_most=1_000)
  head_dropout: float | None = setting(
    0.2, "before the classifier; seq_classif_dropout of Hugging Face", at_least=0, below=1
  )
  span_dropout: float = setting(
    0.1, "before the question answering layer; qa_dropout of Hugging Face", at_least=0, below=1
  )
  max_positions: int = setting(
    512, "longest sequence, in tokens, special tokens counted", at_least=1, at_most=MOST_POSITIONS
  )


@dataclasses.dataclass(frozen=True)
class AlbertConfig(EncoderConfig):
  """Narrow embeddings and shared blocks (Lan et al. 2019; google-research/albert, modeling.py)."""

  kind: ClassVar[str] = "albert"
  has_sentence_head: ClassVar[bool] = True

  activation: Activation = setting("gelu_tanh", "as the released code")
  hidden_dropout: float = setting(
    0.0, "after the embeddings and after each sub-layer; 0 in version 2", at_least=0, below=1
  )
  attention_dropout: float = setting(0.0, "on the attention probabilities; 0 in version 2", at_least=0, below=1)
  head_dropout: float | None = setting(0.1, "before a task's linear layer", at_least=0, below=1)
  max_positions: int = setting(
    512, "longest sequence, in tokens, special tokens counted", at_least=1, at_most=MOST_POSITIONS
  )
  type_vocab_size: int = setting(2, "segment ids known", at_least=1, at_most=1 << 10)
  embedding_size: int = setting(128, "width of the word, position and segment tables", at_least=1, at_most=1 << 16)
  num_groups: int = setting(
    1, "sets of parameters; layer i uses set i * num_groups // num_layers", at_least=1, at_most=1_000
  )
  blocks_per_group: int = setting(
    1, "blocks in a set, run one after the other in each layer", at_least=1, at_most=1_000
  )

  @property
  def num_distinct_blocks(self) -> int:
    return self.num_groups * self.blocks_per_group

  @property
  def embedding_width(self) -> int:
    return self.embedding_size

  def check(self, require: Require, prefix: str) -> None:
    super().check(require, prefix)
    require(
      self.num_groups <= self.num_layers,
      "num_groups",
      f"must be at most {prefix}num_layers={self.num_layers}: each group is a set of layers",
    )


@dataclasses.dataclass(frozen=True)
class ElectraConfig(EncoderConfig):
  """BERT's encoder behind embeddings of a width of their own (Clark et al. 2020); generator or discriminator."""

  kind: ClassVar[str] = "electra"

  max_positions: int = setting(
    512, "longest sequence, in tokens, special tokens counted", at_least=1, at_most=MOST_POSITIONS
  )
  type_vocab_size: int = setting(2, "segment ids known", at_least=1, at_most=1 << 10)
  embedding_size: int = setting(
    768, "width of the tables; where it is not hidden_size, a linear layer follows", at_least=1, at_most=1 << 16
  )

  @property
  def embedding_width(self) -> int:
    return self.embedding_size


@dataclasses.dataclass(frozen=True)
class XlnetConfig(EncoderConfig):
  """Transformer-XL's relative attention in two streams (Yang et al. 2019; zihangdai/xlnet, modeling.py)."""

  kind: ClassVar[str] = "xlnet"
  scores_by_place: ClassVar[bool] = True
  cls_last: ClassVar[bool] = True

  initializer: Literal["truncated_normal", "normal"] = setting("normal", "as the released code: untruncated")
  clamp_length: int = setting(
    -1, "distances beyond it count as it; below 1: no limit", at_least=-1, at_most=MOST_POSITIONS
  )
  memory_length: int | None = setting(
    None, "hidden states kept for the next segment of a text; none: all", at_least=0, at_most=10_000_000
  )
  reuse_length: int | None = setting(
    None, "of a segment, how many of its first tokens are kept; none: all", at_least=0, at_most=10_000_000
  )

  @property
  def num_segments(self) -> int:
    """Any number: only whether two tokens are of the same segment matters."""
    return 3  # of the pairs that it reads: two texts, and <cls>


@dataclasses.dataclass(frozen=True)
class DebertaConfig(EncoderConfig):
  """Disentangled attention (He et al. 2020)."""

  kind: ClassVar[str] = "deberta"
  scores_by_place: ClassVar[bool] = True

  layer_norm_eps: float = setting(1e-7, "added to the variance", above=0, at_most=1)
  initializer: Literal["truncated_normal", "normal"] = setting("normal", "as the released code: untruncated")
  max_positions: int = setting(
    512,
    "longest sequence of the recipes; rows of the position table where there is one",
    at_least=1,
    at_most=MOST_POSITIONS,
  )
  type_vocab_size: int = setting(0, "segment ids known; 0 in the released models", at_least=0, at_most=1 << 10)
  max_distance: int = setting(
    512, "distances are cut at it; rows of the relative table are twice as many", at_least=1, at_most=10_000_000
  )
  content_to_position: bool = setting(True, "a query's content looks at the key's relative position")
  position_to_content: bool = setting(True, "a query's relative position looks at the key's content")
  input_positions: bool = setting(False, "add absolute positions to the input too; false in the released models")
  pooler_dropout: float = setting(0.0, "before the pooler of a classifier", at_least=0, below=1)
  pooler_activation: HeadActivation = setting("gelu", "of the pooler of a classifier")


@dataclasses.dataclass(frozen=True)
class DebertaV2Config(DebertaConfig):
  """Versions 2 and 3: distances in buckets, positions through the projections of the content (He et al. 2021)."""

  kind: ClassVar[str] = "deberta-v2"
  scores_by_place: ClassVar[bool] = True

  position_buckets: int = setting(
    256,
    "buckets to either side, of logarithmic width beyond half; 0: none",
    at_least=0,
    at_most=10_000_000,
  )
  shared_projections: bool = setting(True, "positions go through the content's query and key projections")
  norm_relative_table: bool = setting(True, "LayerNorm over the relative table")
  convolution_size: int = setting(
    0,
    "tokens that a convolution beside the first layer covers, odd; 0: none, 3 in XL",
    at_least=0,
    at_most=1_000,
  )
  convolution_activation: HeadActivation = setting("tanh", "gelu in XL and XXL")
  convolution_groups: int = setting(
    1, "groups that the convolution's channels are divided into", at_least=1, at_most=1 << 16
  )

  def check(self, require: Require, prefix: str) -> None:
    super().check(require, prefix)
    if self.convolution_size:
      require(self.convolution_size % 2 == 1, "convolution_size", "must be odd, to have a middle; 0 for none")
      require(
        self.hidden_size % self.convolution_groups == 0,
        "convolution_groups",
        f"must divide {prefix}hidden_size={self.hidden_size}",
      )
    if self.position_buckets:
      require(
        self.position_buckets // 2 < self.max_distance - 1 and self.position_buckets >= 2,
        "position_buckets",
        f"must be at least 2, and its half below {prefix}max_distance - 1 = {self.max_distance - 1}; 0 for none",
      )


@dataclasses.dataclass(frozen=True)
class ModernBertConfig(EncoderConfig):
  """Rotary positions, local and global layers, gated feed-forward, norms before (Warner et al. 2024)."""

  kind: ClassVar[str] = "modernbert"

  num_layers: int = setting(22, "transformer blocks", at_least=1, at_most=1_000)
  intermediate_size: int = setting(
    1152, "inner width of the feed-forward part, after the gate", at_least=1, at_most=1 << 18
  )
  layer_norm_eps: float = setting(1e-5, "added to the variance", above=0, at_most=1)
  hidden_dropout: float = setting(0.0, "of the feed-forward part", at_least=0, below=1)
  attention_dropout: float = setting(0.0, "on the probabilities and on the attention's output", at_least=0, below=1)
  embedding_dropout: float = setting(0.0, "after the embeddings", at_least=0, below=1)
  head_dropout: float | None = setting(0.0, "before a task's linear layer", at_least=0, below=1)
  head_activation: HeadActivation = setting("gelu", "of the layer that heads begin with")
  max_positions: int = setting(8192, "longest sequence, in tokens", at_least=1, at_most=MOST_POSITIONS)
  global_every: int = setting(3, "layers 0, n, 2n, … look everywhere, the others near by", at_least=1, at_most=1_000)
  local_window: int = setting(
    128, "tokens that a local layer looks at, half of them to either side", at_least=1, at_most=10_000_000
  )
  global_theta: float = setting(160_000.0, "base of the rotary angles of global layers", above=0, at_most=1e12)
  local_theta: float = setting(10_000.0, "base of the rotary angles of local layers", above=0, at_most=1e12)
  pooling: Literal["cls", "mean"] = setting("cls", "what a classifier reads: the first token, or the mean")

  def check(self, require: Require, prefix: str) -> None:
    super().check(require, prefix)
    width = self.hidden_size // self.num_heads
    require(
      width % 2 == 0,
      "num_heads",
      f"leaves heads of {width} of {prefix}hidden_size={self.hidden_size}, and rotary angles need an even width",
    )


@dataclasses.dataclass(frozen=True)
class CrammedBertConfig(EncoderConfig):
  """For a day on one GPU: norms before, gates, no biases, fixed sinusoids (Geiping and Goldstein 2023; cramming)."""

  kind: ClassVar[str] = "crammed-bert"

  num_layers: int = setting(16, "transformer blocks", at_least=1, at_most=1_000)
  intermediate_size: int = setting(
    3072,
    "outputs of the feed-forward part's first layer, even: half of them gate the other half, which the second reads",
    at_least=2,
    at_most=1 << 18,
  )
  # The release configures 0.1, and pretrains in evaluation mode.
  hidden_dropout: float = setting(0.0, "after the embeddings and after each sub-layer", at_least=0, below=1)
  attention_dropout: float = setting(0.0, "on the attention probabilities", at_least=0, below=1)
  head_dropout: float | None = setting(0.1, "before a task's linear layer", at_least=0, below=1)
  initializer: Literal["truncated_normal", "normal"] = setting("normal", "as the released code: untruncated")
  max_positions: int = setting(128, "longest sequence, in tokens", at_least=1, at_most=MOST_POSITIONS)
  pooler_size: int = setting(1024, "width of a classifier's pooler", at_least=1, at_most=1 << 16)

  def check(self, require: Require, prefix: str) -> None:
    super().check(require, prefix)
    size = self.intermediate_size
    require(size % 2 == 0, "intermediate_size", "must be even: half of it gates the other half", f"try {size + 1}")


@dataclasses.dataclass(frozen=True)
class MosaicBertConfig(EncoderConfig):
  """BERT with linear biases by distance in the place of positions, and a gated feed-forward (Portes et al. 2023).

  Without a table of positions there is no longest input: a model reads longer texts than it was trained on.
  """

  kind: ClassVar[str] = "mosaic-bert"
  scores_by_place: ClassVar[bool] = True

  intermediate_size: int = setting(
    3072, "inner width of the feed-forward part, after the gate", at_least=1, at_most=1 << 18
  )
  attention_dropout: float = setting(
    0.0, "on the attention probabilities; only explicit attention has it", at_least=0, below=1
  )
  initializer: Literal["truncated_normal", "normal"] = setting("normal", "as the released code: untruncated")
  type_vocab_size: int = setting(2, "segment ids known", at_least=1, at_most=1 << 10)


Architecture = (
  BertConfig
  | RobertaConfig
  | DistilBertConfig
  | AlbertConfig
  | ElectraConfig
  | XlnetConfig
  | DebertaConfig
  | DebertaV2Config
  | ModernBertConfig
  | CrammedBertConfig
  | MosaicBertConfig
)
ARCHITECTURES: dict[str, type[EncoderConfig]] = {kind.kind: kind for kind in get_args(Architecture)}


def narrower(model: EncoderConfig, width: float, layers: float) -> EncoderConfig:
  """ELECTRA's generator: shares of a model's width and layers, the same embeddings (configure_pretraining.py)."""
  hidden = max(1, round(model.hidden_size * width))
  wanted = max(1, round(hidden * model.num_heads / model.hidden_size))  # heads of about the model's width
  return dataclasses.replace(
    model,
    hidden_size=hidden,
    num_layers=max(1, round(model.num_layers * layers)),
    num_heads=next(heads for heads in range(wanted, 0, -1) if hidden % heads == 0),
    intermediate_size=max(1, round(model.intermediate_size * hidden / model.hidden_size)),
  )


def check(model: EncoderConfig, prefix: str = "model.") -> None:
  """Checks the bounds of every setting of a model, and the rules between them.

  Args:
    prefix: of the paths in the message.

  Raises:
    ValueError: naming the setting, its value, the rule and, where there is one, the way out.
  """
  check_bounds(model, prefix)

  def require(holds: bool, name: str, rule: str, way_out: str = "") -> None:
    if not holds:
      value: Any = lookup(model, name)
      raise ValueError(f"{prefix}{name}={value} {rule}" + (f"; {way_out}" if way_out else ""))

  model.check(require, prefix)
