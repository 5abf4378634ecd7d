"""Fixed features of texts and of words: those of an encoder as it is, of word vectors, of counted words.

N texts, W words, T tokens, D features.
"""

import concurrent.futures
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from bert_jax import console
from bert_jax.architectures import EncoderConfig
from bert_jax.data import compressed, words
from bert_jax.data.frames import Encoded, Frame, Text, encode, frame_of
from bert_jax.data.tasks import require_sklearn
from bert_jax.data.tokenizers import Tokenizer
from bert_jax.inference import windows
from bert_jax.inference.model import Model
from bert_jax.interop.params import flat
from bert_jax.models import networks
from bert_jax.models.encoder import text_mean
from bert_jax.models.inputs import Inputs

_CPU_TOKENS = 1024  # of a batch; with 4,096, two layers of 128 leave the caches and take twice as long
_DEVICE_TOKENS = 32_768
WordList = tuple[str, ...]


class Features(NamedTuple):
  """Features of one sort.

  Attributes:
    of_texts: (training texts, others) → features of both, [N, D]; sparse where words are counted.
    of_words: the same of lists of words, a row for each word; None where there are none.
    sparse: whether words are counted.
  """

  of_texts: Callable[[list[Text], list[Text]], tuple[Any, Any]]
  of_words: Callable[[list[WordList], list[WordList]], tuple[Any, Any]] | None = None
  sparse: bool = False


# ---- an encoder as it is ----


def of_encoder(model: Model, max_tokens: int, batch_size: int = 32) -> Features:
  """The mean over a text's vectors, special tokens included; of a word, the vector of its first token."""

  def texts(some: list[Text]) -> np.ndarray:
    encoded = encode(some, frame_of(model.config), model.require_tokenizer(), max_tokens)
    return mean_vectors(model, encoded, batch_size)

  def of_words(some: list[WordList]) -> np.ndarray:
    return word_vectors(model, some, max_tokens, batch_size)

  return Features(lambda train, dev: (texts(train), texts(dev)), lambda train, dev: (of_words(train), of_words(dev)))


def of_embedding(model: Model, max_tokens: int) -> Features:
  """Vectors of texts as an encoder was made to embed them; of training texts none, for nothing learns from them."""

  def texts(_: list[Text], dev: list[Text]) -> tuple[np.ndarray, np.ndarray]:
    vectors = model.embed([str(text) for text in dev], max_tokens=max_tokens, long="cut")
    return vectors[:0], vectors

  return Features(texts)


def of_layers(model: Model, texts: Sequence[np.ndarray], max_tokens: int) -> np.ndarray:
  """Of whole texts, the mean over their tokens of the embeddings and of what each layer made of them, side by side.

  A text is read in windows, which do not overlap; each has special tokens of its own, which are averaged too.

  Args:
    texts: their token ids, without special ones.
    max_tokens: of a window, special ones counted.

  Returns:
    float32 [N, (L + 1) · D].
  """
  # The last layer alone, or the mean over layers, separates learned from random weights less. With the networks and the
  # strength of `few_labels.STRENGTH`, in %:
  #
  #                            topics: learned A, B, random    BBC: learned A, B, random
  #     last layer                        33.2 30.1 31.9             61.6 53.7 57.7
  #     mean over layers                  34.5 31.3 32.3             62.8 54.5 58.4   (without special tokens)
  #     side by side                      36.0 33.3 32.5             65.0 59.3 60.2
  frame, tokenizer = frame_of(model.config), model.require_tokenizer()
  room = max_tokens - 2
  cuts = [(owner, ids[at : at + room]) for owner, ids in enumerate(texts) for at in range(0, max(len(ids), 1), room)]
  owners = np.array([owner for owner, _ in cuts])
  rows = [frame.text(ids, tokenizer) for _, ids in cuts]
  lengths = np.array([len(row) for row in rows])
  run, params = _layer_means(model.config), {"encoder": model.device_params["encoder"]}

  def of_batch(batch: tuple[int, int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    size, length, indices = batch
    inputs = Inputs.of(frame.batch([rows[i] for i in indices], size, length, tokenizer.pad_id))
    return indices, np.asarray(run(params, inputs))[: len(indices)]

  sums: Any = None
  # Two at a time: while one is prepared, or is in a part that uses one core only, the other keeps the device busy.
  with concurrent.futures.ThreadPoolExecutor(2) as pool, console.progress_bar(len(rows), "window") as bar:
    for indices, means in pool.map(of_batch, _batches(lengths, max_tokens)):
      if sums is None:
        sums = np.zeros((len(texts), means.shape[1]))
      np.add.at(sums, owners[indices], means * lengths[indices, None])
      bar.update(len(indices))
  return (sums / np.bincount(owners, lengths)[:, None]).astype(np.float32)


def _batches(lengths: np.ndarray, longest: int) -> Iterator[tuple[int, int, np.ndarray]]:
  """(rows, padded length, indices): lengths are `longest` and its halves, one shape each, for few are compiled."""
  most = _CPU_TOKENS if jax.default_backend() == "cpu" else _DEVICE_TOKENS
  length = longest
  while length:
    shorter = length // 2 if length >= 16 else 0
    of_length = np.flatnonzero((lengths > shorter) & (lengths <= length))
    rows = max(1, most // length)
    for first in range(0, len(of_length), rows):
      yield rows, length, of_length[first : first + rows]
    length = shorter


@functools.cache
def _layer_means(config: EncoderConfig):
  """(params, inputs) → [B, (L + 1) · D]."""
  network = networks.build("encoder", config, scan_layers=True, record=True)

  def run(params: Any, inputs: Inputs) -> jax.Array:
    outputs: Any = network.apply({"params": params}, inputs)
    means = jax.vmap(text_mean, (0, None), 1)(outputs["hidden_states"], inputs.attention_mask)
    return means.reshape(means.shape[0], -1)

  return jax.jit(run)


def mean_vectors(model: Model, encoded: Encoded, batch_size: int) -> np.ndarray:
  """The mean over each text's vectors: float32 [N, D]."""
  found = np.zeros((len(encoded.token_ids), model.config.hidden_size), np.float32)

  def keep(indices: np.ndarray, hidden: np.ndarray, _: np.ndarray) -> None:
    found[indices] = hidden

  _encoded(model, encoded, batch_size, _means(model.config), keep)
  return found


def word_vectors(model: Model, texts: list[WordList], max_tokens: int, batch_size: int) -> np.ndarray:
  """The vector of each word's first token, 0 where it has none: float32 [W, D]."""
  frame = frame_of(model.config)
  cut = words.cut([words.joined(text) for text in texts], frame, model.require_tokenizer(), max_tokens)
  begins = np.cumsum([0, *map(len, texts)])
  found = np.zeros((int(begins[-1]), model.config.hidden_size), np.float32)

  def keep(indices: np.ndarray, hidden: np.ndarray, seen: np.ndarray) -> None:
    for row, index in enumerate(indices):
      window = cut[index]
      of_tokens, first = hidden[row][seen[row]], window.words >= 0
      found[begins[window.example] + window.words[first]] = of_tokens[first]

  encoded = Encoded([w.token_ids for w in cut], [frame.segments(w.token_ids) for w in cut], 0)
  _encoded(model, encoded, batch_size, _hidden(model.config), keep)
  return found


def _encoded(
  model: Model, encoded: Encoded, batch_size: int, run: Any, keep: Callable[[np.ndarray, np.ndarray, np.ndarray], None]
) -> None:
  """Calls `keep` with the indices, outputs and attention mask of each batch of texts."""
  frame, pad_id = frame_of(model.config), model.require_tokenizer().pad_id
  params = {"encoder": model.device_params["encoder"]}
  with console.progress_bar(len(encoded.token_ids), "text") as bar:
    for size, length, indices in windows.batches(encoded.lengths, batch_size, model.config.longest_input):
      rows, kinds = ([part[i] for i in indices] for part in (encoded.token_ids, encoded.segment_ids))
      batch = frame.batch(rows, size, length, pad_id, kinds)
      outputs = np.asarray(run(params, Inputs.of(batch)))[: len(indices)]
      keep(indices, outputs, batch["attention_mask"])
      bar.update(len(indices))


@functools.cache
def _means(config: EncoderConfig):
  """(params, inputs) → [B, D]."""
  network = networks.build("encoder", config, scan_layers=True)

  def run(params: Any, inputs: Inputs) -> jax.Array:
    outputs: Any = network.apply({"params": params}, inputs)
    return text_mean(outputs["hidden"], inputs.attention_mask)

  return jax.jit(run)


@functools.cache
def _hidden(config: EncoderConfig):
  """(params, inputs) → [B, T, D]."""
  network = networks.build("encoder", config, scan_layers=True)

  def run(params: Any, inputs: Inputs) -> jax.Array:
    outputs: Any = network.apply({"params": params}, inputs)
    return outputs["hidden"]

  return jax.jit(run)


# ---- vectors of words, without context ----


def word_table(model: Model) -> np.ndarray:
  """An encoder's vectors of tokens, before any context: float32 [V, D]."""
  (table,) = (x for name, x in flat(model.params["encoder"]).items() if name.split("/")[-1] == "words")
  return np.asarray(table)


def of_table(model: Model, max_tokens: int) -> Features:
  """Of an encoder's own word table: the mean over a text's tokens, or a word's."""
  table = word_table(model)
  tokenizer, frame = model.require_tokenizer(), frame_of(model.config)

  def texts(some: list[Text]) -> np.ndarray:
    rows = encode(some, frame, tokenizer, max_tokens).token_ids
    return np.stack([table[row].mean(axis=0) for row in rows])

  def of_words(some: list[WordList]) -> np.ndarray:
    found = [table[ids].mean(axis=0) if len(ids) else 0 * table[0] for ids in _ids_of(some, tokenizer)]
    return np.stack(found)

  return Features(lambda train, dev: (texts(train), texts(dev)), lambda train, dev: (of_words(train), of_words(dev)))


def _ids_of(texts: list[WordList], tokenizer: Tokenizer) -> list[np.ndarray]:
  flat_words = [word for text in texts for word in text]
  different = list(dict.fromkeys(flat_words))
  ids = dict(zip(different, (ids for ids, _ in tokenizer.encode([f" {word}" for word in different])), strict=True))
  return [ids[word] for word in flat_words]


def of_word2vec(path: epath.PathLike) -> Features:
  """Of a text file of word vectors, as word2vec, GloVe and fastText write them: the mean over a text's words.

  Of the file, only the words that come up are kept. A word that it lacks is looked for in lower case, and else left
  out.
  """

  def both(train: list[list[str]], dev: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    known = {form for text in (*train, *dev) for word in text for form in (word, word.lower())}
    vectors = read_word2vec(path, known)
    size = len(next(iter(vectors.values())))

    def mean(text: Sequence[str]) -> np.ndarray:
      found = [vectors[form] for word in text if (form := word if word in vectors else word.lower()) in vectors]
      return np.mean(found, axis=0) if found else np.zeros(size, np.float32)

    return np.stack([mean(text) for text in train]), np.stack([mean(text) for text in dev])

  def texts(train: list[Text], dev: list[Text]) -> tuple[np.ndarray, np.ndarray]:
    return both([_words_of(text) for text in train], [_words_of(text) for text in dev])

  def of_words(train: list[WordList], dev: list[WordList]) -> tuple[np.ndarray, np.ndarray]:
    return both([[word] for text in train for word in text], [[word] for text in dev for word in text])

  return Features(texts, of_words)


def read_word2vec(path: epath.PathLike, wanted: set[str]) -> dict[str, np.ndarray]:
  """The vectors of the wanted words: a word and its numbers a line, with or without a first line of two counts.

  The first vector says how many numbers there are; a word may hold spaces, as some of GloVe's do, but for the first.

  Raises:
    ValueError: a line has fewer numbers than the first, or one that is none; no wanted word is there.
  """
  path, found, size = epath.Path(path), {}, 0
  with path.open("rb") as raw, compressed.plain(path, raw) as stream:
    for number, line in enumerate(stream, 1):
      fields = line.decode("utf-8", "replace").rstrip().split(" ")
      if number == 1 and len(fields) == 2:
        continue
      size = size or len(fields) - 1
      if len(fields) <= size:
        raise ValueError(f"{path}, line {number}: {len(fields) - 1} numbers, where the first vector has {size}")
      word, values = " ".join(fields[:-size]), fields[-size:]
      if word in wanted:
        try:
          found[word] = np.array(values, np.float32)
        except ValueError as error:
          raise ValueError(f"{path}, line {number}: the vector of {word!r} is not of numbers: {error}") from error
  if not found:
    raise ValueError(f"{path} has none of the words of the texts; is it a text file of word vectors?")
  return found


def _words_of(text: Text) -> list[str]:
  """Words, and marks of punctuation, by scikit-learn's rule for words and a little more."""
  import re

  return re.findall(r"\w+|[^\w\s]", text if isinstance(text, str) else "\n".join(text))


# ---- counted words ----


def of_tfidf(cut: tuple[Frame, Tokenizer, int] | None = None) -> Features:
  """TF-IDF of words and pairs of words, logarithmic counts.

  Args:
    cut: frame, tokenizer and most tokens of a model: of each text, only the part that it reads is counted; None for
      whole texts. A pair is counted as one text.
  """

  def texts(train: list[Text], dev: list[Text]) -> tuple[Any, Any]:
    require_sklearn()
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    fitted = vectorizer.fit_transform(_seen(train, cut))
    return fitted, vectorizer.transform(_seen(dev, cut))

  return Features(texts, sparse=True)


def tfidf_of_draws(
  texts: list[Text], cut: tuple[Frame, Tokenizer, int] | None = None
) -> Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]:
  """The same for many draws of training texts, counted once.

  Args:
    texts: of all draws.
    cut: see `of_tfidf`.

  Returns:
    (places of training texts, places of others) → features of both, as `of_tfidf` has them of these texts.
  """
  require_sklearn()
  from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

  counts: Any = CountVectorizer(ngram_range=(1, 2)).fit_transform(_seen(texts, cut))

  def weigh(train: np.ndarray, others: np.ndarray) -> tuple[Any, Any]:
    known = np.unique(counts[train].indices)  # words of other texts have no place
    transformer = TfidfTransformer(sublinear_tf=True)
    return transformer.fit_transform(counts[train][:, known]), transformer.transform(counts[others][:, known])

  return weigh


def _seen(texts: list[Text], cut: tuple[Frame, Tokenizer, int] | None) -> list[str]:
  """Texts, or the parts of them that a model reads, a pair as one."""
  if cut is not None:
    frame, tokenizer, max_tokens = cut
    return [tokenizer.decode(row) for row in encode(texts, frame, tokenizer, max_tokens).token_ids]
  return [text if isinstance(text, str) else "\n".join(text) for text in texts]
