"""What the API is asked and what it answers, as types: they check requests, and OpenAPI is made of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# Characters are bounded before anything is tokenized; the model's positions bound tokens.
MOST_CHARACTERS = 20_000  # of a text
MOST_TEXTS = 256  # of a request; the page sends a longer file in parts
MOST_COMPARED = 64  # texts of a similarity matrix
MOST_MASKED = 16  # words masked at a time
MOST_GUESSES = 50

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]


def _text_or_pair(given: Any) -> Any:
  parts = given if isinstance(given, list) and len(given) == 2 else [given]
  if not all(isinstance(part, str) for part in parts):
    raise ValueError("must be a text, or a list of two texts")  # in place of an error for each of the two
  return given


TextOrPair = Annotated[Text | Pair, BeforeValidator(_text_or_pair)]
Kind = Literal["tokens", "masks", "attention", "predict", "similarity"]


class _Strict(BaseModel):
  model_config = ConfigDict(extra="forbid", strict=True)


class _Asked(_Strict):
  model: Annotated[str, Field(max_length=200, description="a name of /api/models")]


# ---- requests ----


class AskTokens(_Asked):
  """A text, or a pair of texts, to be shown as the model reads it."""

  text: Text
  pair: Text | None = None


class AskMasks(_Asked):
  """Words of a text to mask, all at a time. `[MASK]` in the text is a mask too, and a word."""

  text: Text
  words: Annotated[
    list[Annotated[int, Field(ge=0)]],
    Field(max_length=MOST_MASKED, description="which words, from 0, as `tokens` numbers them; none: the words alone"),
  ] = []
  top_k: Annotated[int, Field(ge=1, le=MOST_GUESSES, description="guesses of a place")] = 5


class AskAttention(_Asked):
  """A text, or a pair of texts, whose attention is asked for."""

  text: Text
  pair: Text | None = None


class AskPredictions(_Asked):
  """Texts for a task's head: each a text, or a pair (two texts; a question and a passage)."""

  texts: Annotated[list[TextOrPair], Field(min_length=1, max_length=MOST_TEXTS)]


class AskSimilarity(_Asked):
  """Texts to compare, each with each."""

  texts: Annotated[list[Text], Field(min_length=2, max_length=MOST_COMPARED)]


ASKED: dict[Kind, type[_Asked]] = {
  "tokens": AskTokens,
  "masks": AskMasks,
  "attention": AskAttention,
  "predict": AskPredictions,
  "similarity": AskSimilarity,
}


# ---- answers ----


class Token(_Strict):
  token: Annotated[str, Field(description="the vocabulary's text")]
  id: int
  segment: int
  position: int
  word: Annotated[int | None, Field(description="the number of its word; null for a special token")]


class Tokens(_Strict):
  """A text, or a pair, as the model reads it."""

  tokens: list[Token]
  words: list[str]
  has_segments: Annotated[bool, Field(description="whether the architecture reads segments")]


class Guess(_Strict):
  token: str
  probability: float


class Expected(_Strict):
  """What is expected in one place; the last two are null where the text itself has a mask."""

  guesses: list[Guess]
  true_probability: float | None
  true_rank: int | None


class Piece(_Strict):
  token: str | None
  expected: Annotated[
    dict[Literal["both", "left", "right"], Expected],
    Field(description="from the whole context, from the left alone, from the right alone"),
  ]


class MaskedWord(_Strict):
  word: int
  text: str
  pieces: list[Piece]


class Masks(Tokens):
  """The words of a text, and what is expected in the places of those that are masked."""

  masked: list[MaskedWord]


class Attention(Tokens):
  """What each head of each layer looks at."""

  layers: int
  heads: int
  weights: Annotated[
    str,
    Field(
      description="base64 of layers × heads × tokens × tokens bytes, 255 for a probability of 1; the last axis is what"
      " is looked at"
    ),
  ]


class Predictions(_Strict):
  """For each text what `bert-jax predict --probabilities` writes of it."""

  predictions: list[dict[str, Any]]


class Similarity(_Strict):
  """Cosines of the texts' vectors."""

  matrix: list[list[float]]


ANSWERED: dict[Kind, type[_Strict]] = {
  "tokens": Tokens,
  "masks": Masks,
  "attention": Attention,
  "predict": Predictions,
  "similarity": Similarity,
}


class Served(_Strict):
  """A model that is served.

  Attributes:
    answers: the kinds of request that it answers.
    reads: what `predict` takes: "text", "pair", or "question" and its passage; null where it predicts nothing.
  """

  name: str
  about: str
  answers: list[Kind]
  reads: Literal["text", "question"] | None
  classes: list[str]


class Models(_Strict):
  models: list[Served]


class Error(_Strict):
  error: Annotated[str, Field(description="what is wrong, for a person")]
