"""Compressed files as plain streams of bytes."""

import gzip
import io
import lzma
import zlib
from typing import IO, Any

from etils import epath


def plain(file: epath.Path, raw: IO[bytes]) -> IO[bytes]:
  """What an open file holds, decompressed as its name says: .gz, .xz, .zst, or anything else as it is.

  Reading it raises EOFError, OSError or one of `errors()` where the file is damaged or cut.
  """
  if file.suffix == ".gz":
    return gzip.open(raw)  # pyright: ignore[reportReturnType]
  if file.suffix == ".xz":
    return lzma.open(raw)  # pyright: ignore[reportReturnType]
  if file.suffix == ".zst":
    return io.BufferedReader(_ZstdReader(raw, _zstandard(file)))
  return raw


# Bytes that zstd unpacks at a time: four of them can stand for a block of 128 KiB, so that a chunk is 64 MiB at most.
_PACKED_BYTES = 2048


class _ZstdReader(io.RawIOBase):
  """Frames of zstd, one after the other; zstandard's own reader takes a cut file for a whole one."""

  def __init__(self, raw: IO[bytes], zstandard: Any):
    self._raw, self._zstandard = raw, zstandard
    self._frame: Any = None
    self._packed = b""
    self._plain = memoryview(b"")

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    while not self._plain:
      self._packed = self._packed or self._raw.read(_PACKED_BYTES)
      if not self._packed:
        if self._frame is not None:
          raise EOFError("the file ends in the middle")
        return 0
      if self._frame is None:
        self._frame = self._zstandard.ZstdDecompressor().decompressobj()
      self._plain, self._packed = memoryview(self._frame.decompress(self._packed)), b""
      if self._frame.eof:
        self._packed, self._frame = self._frame.unused_data, None
    count = min(len(buffer), len(self._plain))
    buffer[:count], self._plain = self._plain[:count], self._plain[count:]
    return count


def _zstandard(file: epath.Path) -> Any:
  try:
    import zstandard
  except ImportError as error:
    raise ValueError(f"{file} needs zstandard to be read: pip install zstandard") from error
  return zstandard


def errors() -> tuple[type[Exception], ...]:
  """What the decompressors raise for damaged data, beside EOFError and OSError."""
  try:
    import zstandard
  except ImportError:
    return lzma.LZMAError, zlib.error
  return lzma.LZMAError, zlib.error, zstandard.ZstdError
