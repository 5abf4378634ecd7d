"""The long steps of a store as pipelines of Apache Beam, for text that one machine cannot prepare.

Dataflow, Flink, Spark or Beam's own runner do the work, and the store is the one that `store.prepare` makes by itself,
byte for byte. Workers need this package, and see the text and the store's folder under the names that the command has:
on a shared disk, or in a bucket.

1. Each part of the text, such as a file, is read for the hash, the length and the sketch of its documents.
2. Documents that have a hash of their sketches in common are compared; those that are alike are linked.
3. The tokenizer is trained where the command runs, on as many characters as it reads.
4. Each shard is made by one worker, of its own documents.
"""

import dataclasses
import functools
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from bert_jax import records
from bert_jax.config import DataConfig
from bert_jax.data import buckets, near_duplicates, shards
from bert_jax.data.corpus import TOKEN_ARRAYS
from bert_jax.data.sources import Source, open_source
from bert_jax.data.tokenize import hash_text

_FACTS, _PAIRS, _GROUPS = "facts.tmp", "pairs.tmp", "groups.tmp"  # which the store clears away at its end

Place = tuple[int, int]  # of a document: its part, and its number in it


@dataclasses.dataclass
class Beam:
  """A `store.Engine`.

  Attributes:
    folder: of the store, for workers to write into: that which `write_shards` is given, or one of a bucket.
    flags: of Beam, such as `--runner=DataflowRunner`.
  """

  folder: epath.Path
  flags: Sequence[str]

  def __post_init__(self):
    """Raises ValueError for what is wrong with the flags, before the text is read, which may take hours."""
    self._pipeline()

  def split_hashes(self, source: Source, data: DataConfig) -> np.ndarray:
    beam = _beam()
    for name in (_FACTS, _PAIRS):
      if (self.folder / name).exists():
        shards.remove(self.folder / name)
      (self.folder / name).mkdir(parents=True)
    with self._pipeline() as pipeline:
      sketches = (
        pipeline
        | beam.Create(range(source.num_parts))
        | "spread parts" >> beam.Reshuffle()
        | beam.FlatMap(_read, data, str(self.folder / _FACTS))
      )
      near = (
        sketches
        | beam.FlatMap(lambda document: [(part, document[0]) for part in _hashes(document[1])])
        | "by hash" >> beam.GroupByKey()
        | beam.FlatMap(_near)
        | beam.Distinct()
      )
      first = (near, sketches) | "the first of two" >> beam.CoGroupByKey() | beam.FlatMap(_with_first)
      alike = (first, sketches) | "the second" >> beam.CoGroupByKey() | beam.FlatMap(_alike)
      _ = alike | beam.combiners.ToList() | beam.Map(_write_pairs, str(_file_of(self.folder / _PAIRS, 0)))
    own, _, offsets = self._facts(source)
    pairs = _arrays(_file_of(self.folder / _PAIRS, 0))["pairs"]  # [P, 2, 2]: of both documents, part and number
    return near_duplicates.least_of_linked(own, map(tuple, (offsets[pairs[..., 0]] + pairs[..., 1]).tolist()))

  def write_shards(self, folder: epath.Path, source: Source, data: DataConfig, groups: np.ndarray) -> None:
    beam = _beam()
    _, characters, offsets = self._facts(source)
    in_bucket = buckets.is_bucket(self.folder)
    if in_bucket:
      buckets.begin(folder, self.folder)
    # In a file: runners take jobs of a few megabytes, and the groups of a large text are more.
    records.write_bytes(self.folder / _GROUPS, groups.astype(np.uint64).tobytes())
    asked = []
    for number, (begin, end) in enumerate(itertools.pairwise(shards.bounds(characters))):
      part = int(np.searchsorted(offsets, begin, "right")) - 1
      asked.append(_Shard(number, part, int(begin - offsets[part]), begin, end))
    with self._pipeline() as pipeline:
      _ = pipeline | beam.Create(asked) | "spread shards" >> beam.Reshuffle() | beam.Map(_write, data, str(self.folder))
    if in_bucket:
      buckets.take(shards.folders(self.folder), folder / "shards", but=TOKEN_ARRAYS)

  def _pipeline(self) -> Any:
    beam = _beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
      return beam.Pipeline(options=PipelineOptions(list(self.flags)))
    except (ImportError, AttributeError) as error:  # a runner by the name of its module
      raise ValueError(f"{' '.join(self.flags)}: there is no such runner of Apache Beam ({error})") from error

  def _facts(self, source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash and characters of each document, and the number of documents before each part."""
    parts = []
    for number in range(source.num_parts):
      arrays = _arrays(_file_of(self.folder / _FACTS, number))
      parts.append((arrays["own"], arrays["characters"]))
    own, characters = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return own, characters, np.cumsum([0, *(len(part[0]) for part in parts)])


def _beam() -> Any:
  try:
    import apache_beam
  except ImportError as error:
    raise ValueError(f"--runner needs Apache Beam: pip install 'bert_jax[beam]' ({error})") from error
  return apache_beam


# ---- what workers do: functions of what they are given ----


def _file_of(folder: epath.Path, part: int) -> epath.Path:
  return folder / f"{part:06d}.npz"


def _arrays(file: epath.Path) -> dict[str, np.ndarray]:
  with np.load(io.BytesIO(file.read_bytes())) as arrays:
    return dict(arrays)


def _write_arrays(file: epath.Path, **arrays: np.ndarray) -> None:
  content = io.BytesIO()
  np.savez(content, **arrays)  # pyright: ignore[reportArgumentType]
  records.write_bytes(file, content.getvalue())


def _read(part: int, data: DataConfig, facts: str) -> Iterator[tuple[Place, bytes]]:
  """The place and the sketch of each document; their hashes and lengths go into a file."""
  own, characters = [], []
  for number, document in enumerate(_source(data).part(part)):
    own.append(hash_text(document.text))
    characters.append(len(document.text))
    yield (part, number), near_duplicates.sketch(document.text).tobytes()
  file = _file_of(epath.Path(facts), part)
  _write_arrays(file, own=np.array(own, np.uint64), characters=np.array(characters, np.int64))


@functools.cache
def _source(data: DataConfig) -> Source:
  return open_source(data)


def _hashes(sketch: bytes) -> list[bytes]:
  return [sketch[i : i + 8] for i in range(0, len(sketch), 8)]


def _near(of_hash: tuple[bytes, Any]) -> Iterator[tuple[Place, Place]]:
  """Documents with this hash that are near each other, as `near_duplicates` compares them."""
  places = sorted(of_hash[1])
  for distance in range(1, near_duplicates.NEIGHBOURS + 1):
    yield from zip(places, places[distance:], strict=False)


def _with_first(found: Any) -> Iterator[tuple[Place, tuple[Place, bytes]]]:
  """(first, (seconds, its sketch)) → each second with the first and its sketch."""
  first, (seconds, sketches) = found
  for sketch in sketches:
    yield from ((second, (first, sketch)) for second in seconds)


def _alike(found: Any) -> Iterator[tuple[Place, Place]]:
  second, (firsts, sketches) = found
  for sketch in sketches:
    for first, other in firsts:
      if near_duplicates.alike(np.frombuffer(other, np.uint64), np.frombuffer(sketch, np.uint64)):
        yield first, second


def _write_pairs(pairs: list[tuple[Place, Place]], file: str) -> None:
  _write_arrays(epath.Path(file), pairs=np.array(pairs, np.int64).reshape(-1, 2, 2))


class _Shard(NamedTuple):
  """A shard's number, the place of its first document, and the numbers of its documents in the whole text."""

  number: int
  part: int
  skipped: int
  begin: int
  end: int


def _write(shard: _Shard, data: DataConfig, folder: str) -> None:
  source, count = _source(data), shard.end - shard.begin
  with (epath.Path(folder) / _GROUPS).open("rb") as file:
    file.seek(8 * shard.begin)
    groups = np.frombuffer(file.read(8 * count), np.uint64)
  following = itertools.chain.from_iterable(source.part(later) for later in range(shard.part, source.num_parts))
  documents = itertools.islice(following, shard.skipped, shard.skipped + count)
  shards.write_one(epath.Path(folder), shard.number, documents, groups, data)
