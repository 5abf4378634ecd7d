"""What an hour of a chip costs, by a dated table that a user can replace."""

import csv
import dataclasses
import pathlib

TABLE = pathlib.Path(__file__).with_name("prices.csv")
COLUMNS = ("chip", "usd_low", "usd_high", "as_of", "what")


@dataclasses.dataclass(frozen=True)
class Price:
  """Of an hour of one chip.

  Attributes:
    low, high: in US dollars.
    as_of: the month in which it was looked up.
    what: the terms, and where it stands.
  """

  low: float
  high: float
  as_of: str
  what: str


def read(file: pathlib.Path = TABLE) -> dict[str, Price]:
  """The prices of a table, by the chip's name.

  Raises:
    ValueError: there is no such file, it has other columns, or a price is no number.
  """
  try:
    with file.open(newline="", encoding="utf-8") as opened:
      rows = list(csv.DictReader(opened))
  except OSError as error:
    raise ValueError(f"--prices={file}: {error.strerror}") from error
  prices = {}
  for row in rows:
    try:
      low, high = float(row["usd_low"]), float(row["usd_high"])
      if not 0 <= low <= high:
        raise ValueError(f"{low} to {high} is no range of prices")
      prices[row["chip"]] = Price(low, high, row["as_of"], row["what"])
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f"--prices={file} must be a table of {', '.join(COLUMNS)}, as {TABLE} is: {error}") from error
  return prices
