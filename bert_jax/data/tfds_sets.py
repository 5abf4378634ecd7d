"""TensorFlow data sets, read without TensorFlow: they have to be prepared as array_record."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

PREFIX = "tfds:"


class Opened(NamedTuple):
  """One split of a data set.

  Attributes:
    name, split: of it.
    builder: TFDS's.
    rows: its examples, by index.
  """

  name: str
  split: str
  builder: Any
  rows: Any


def opened(name: str, what: str) -> Opened:
  """Opens NAME or NAME:SPLIT; the split is train where none is given.

  Args:
    what: whose value that is, for messages.

  Raises:
    ValueError: TFDS is not installed, there is no such data set or split, or it is not prepared as array_record.
  """
  name, _, split = name.partition(":")
  split = split or "train"
  try:
    import tensorflow_datasets as tfds  # slow to import
    import tensorflow_datasets.text  # its data sets are not known before
  except ImportError as error:
    raise ValueError(f"{what} needs TFDS: pip install 'tensorflow-datasets>=4.9.9' array-record") from error
  prepare = (
    f'python -c "import tensorflow_datasets as tfds, tensorflow_datasets.text; '
    f"tfds.builder('{name}', file_format='array_record').download_and_prepare()\""
  )
  try:
    builder = tfds.builder(name, file_format="array_record")
  except Exception:  # it is there in another format, or not at all
    try:
      builder = tfds.builder(name)
    except Exception as error:  # whatever a data set's own code raises
      first_line = str(error).partition("\n")[0]
      raise ValueError(f"{what}: TFDS cannot open {name}: {first_line}") from error
  if not builder.info.splits:
    raise ValueError(
      f"{what} is not prepared as array_record in {builder.data_dir}; prepare it with\n"
      f"  {prepare}\n(the data set's page says what that needs), or set TFDS_DATA_DIR to the folder that has it"
    )
  file_format = getattr(builder.info.file_format, "value", "unknown")
  if file_format != "array_record":
    raise ValueError(
      f"{what} is prepared as {file_format} in {builder.data_dir}, and is only read as array_record; prepare it again"
      f" with\n  {prepare}"
    )
  if split not in builder.info.splits:
    raise ValueError(f"{what} has no split {split!r}, but {sorted(builder.info.splits)}")
  rows: Any = builder.as_data_source(split)  # pyright: ignore[reportCallIssue]
  return Opened(name, split, builder, rows)


# ---- labelled examples -------------------------------------------------------------------------------------------


def records(path: str, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
  """(number from 1, fields) of each example of tfds:NAME:SPLIT; texts are str, and classes have their names.

  Raises:
    ValueError: see `opened`; a field is not there (it lists those that are).
  """
  data = opened(path.removeprefix(PREFIX), path)
  features = data.builder.info.features
  for field in fields:
    if field not in features:
      raise ValueError(f"{path} has no field {field!r}; it has {', '.join(map(repr, features))}")
  for index in range(len(data.rows)):
    row = data.rows[index]
    yield index + 1, {field: _plain(row[field], features[field]) for field in fields}


def _plain(value: Any, feature: Any) -> Any:
  """A value as Python has it; `feature` says what it is."""
  inner = getattr(feature, "feature", None)  # of a sequence
  if isinstance(value, dict):
    parts = getattr(inner, "features", None) or getattr(feature, "features", None) or feature
    sequence = inner is not None
    return {key: _list(part, parts[key]) if sequence else _plain(part, parts[key]) for key, part in value.items()}
  if inner is not None:
    return _list(value, inner)
  if isinstance(value, bytes):
    return value.decode()
  number = value.item() if hasattr(value, "item") else value
  if hasattr(feature, "int2str") and hasattr(feature, "names"):
    return feature.int2str(number) if number >= 0 else ""  # -1: of a hidden test set
  return number


def _list(values: Any, feature: Any) -> list[Any]:
  return [_plain(value, feature) for value in values]
