"""A bucket that is none: for tests of what lies in one."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from etils import epath

fsspec = pytest.importorskip("fsspec")
memory = pytest.importorskip("fsspec.implementations.memory")


class Bucket(memory.MemoryFileSystem):
  """What fsspec has in the memory of this process, under the name of a bucket that epath knows."""

  protocol = "s3"
  store: dict[str, Any] = {}  # noqa: RUF012
  pseudo_dirs = [""]  # noqa: RUF012

  @classmethod
  def _strip_protocol(cls, path: Any) -> str:
    path = os.fspath(path).removeprefix("s3://").strip("/")
    return f"/{path}" if path else ""


@pytest.fixture
def bucket() -> Iterator[epath.Path]:
  """An empty folder of a bucket."""
  fsspec.register_implementation("s3", Bucket, clobber=True)
  Bucket.store.clear()
  Bucket.pseudo_dirs[:] = [""]
  yield epath.Path("s3://bucket/store")
  Bucket.store.clear()
