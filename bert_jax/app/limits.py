"""What every request has to keep to, before any of it is read as JSON: an ASGI wrapper around the app."""

import asyncio
import dataclasses
import hmac
import json
from typing import Any

# The page loads its own files only, runs no inline script, and may not be framed.
_HEADERS = {
  "content-security-policy": (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  ),
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-store",
}
MOST_BYTES = 2_000_000  # of a request's body
_HEARD_OUT = 8  # times that size: a client that is cut off while it sends would not hear why
BODY_SECONDS = 10.0  # for a body to arrive
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True)
class Limits:
  """Attributes:
  token: that requests of the API carry, `Authorization: Bearer TOKEN`; empty: none is asked for.
  any_host: whether any name of this machine will do. Without a token, only loopback's names do: a page from
    elsewhere, whose own name was made to lead here, would send that name.
  most_bytes: of a body.
  body_seconds: for it to arrive.
  """

  token: str = ""
  any_host: bool = False
  most_bytes: int = MOST_BYTES
  body_seconds: float = BODY_SECONDS


class _Refused(Exception):
  def __init__(self, status: int, message: str):
    super().__init__(message)
    self.status = status


class Limited:
  """An ASGI app that hands on the requests which keep to the limits, with their whole body, and answers the others."""

  def __init__(self, app: Any, limits: Limits):
    self._app, self._limits = app, limits

  async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return

    async def send_with_headers(message: Any) -> None:
      if message["type"] == "http.response.start":
        own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
        message = message | {"headers": [*message.get("headers", []), *own]}
      await send(message)

    try:
      self._check_head(scope)
      body = await self._body(scope, receive) if scope["method"] == "POST" else b""
    except _Refused as refused:
      content = json.dumps({"error": str(refused)}).encode()
      headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
      if refused.status in (408, 413):
        headers.append((b"connection", b"close"))  # what is left of the body is not waited for
      await send_with_headers({"type": "http.response.start", "status": refused.status, "headers": headers})
      await send({"type": "http.response.body", "body": content})
      return
    except ConnectionResetError:
      return
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_whole() -> Any:
      return pending.pop() if pending else await receive()

    await self._app(scope, receive_whole, send_with_headers)

  def _check_head(self, scope: Any) -> None:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
    if not self._limits.any_host and name.lower() not in _LOOPBACK:
      raise _Refused(421, f"this server answers as localhost and 127.0.0.1, and was asked as {host!r}")
    if not scope["path"].startswith("/api/"):
      return
    if self._limits.token:
      given = headers.get("authorization", "").removeprefix("Bearer ")
      if not hmac.compare_digest(given.encode(), self._limits.token.encode()):
        raise _Refused(401, "a token is needed: take the address that bert-jax serve printed, or its header with curl")
    if scope["method"] == "POST":
      # JSON makes a browser ask first whether another site's page may send it, and nothing here says that it may.
      if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(415, "send JSON, with the header Content-Type: application/json")
      size = headers.get("content-length", "0")
      if not size.isdigit() or int(size) > _HEARD_OUT * self._limits.most_bytes:
        raise self._too_large()

  def _too_large(self) -> _Refused:
    return _Refused(413, f"a request may have {self._limits.most_bytes:,} bytes; send fewer texts at a time")

  async def _body(self, scope: Any, receive: Any) -> bytes:
    parts, size = [], 0
    try:
      async with asyncio.timeout(self._limits.body_seconds):
        while True:
          message = await receive()
          if message["type"] == "http.disconnect":
            raise ConnectionResetError
          parts.append(message.get("body", b""))
          size += len(parts[-1])
          if size > self._limits.most_bytes:
            parts.clear()
          if size > _HEARD_OUT * self._limits.most_bytes:
            raise self._too_large()
          if not message.get("more_body", False):
            break
    except TimeoutError:
      seconds = f"{self._limits.body_seconds:g}"
      raise _Refused(408, f"the request did not arrive whole within {seconds} seconds; send it again") from None
    if size > self._limits.most_bytes:
      raise self._too_large()
    return b"".join(parts)
