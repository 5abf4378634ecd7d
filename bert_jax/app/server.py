"""The app: which path gives what, and what goes wrong in words."""

import asyncio
import contextlib
import functools
import importlib.resources
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pydantic
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bert_jax.app import answers, openapi, schema
from bert_jax.app.batching import Batcher, Full
from bert_jax.app.limits import Limited, Limits
from bert_jax.app.schema import Kind
from bert_jax.inference import views
from bert_jax.inference.model import Model

MOST_WAITING = 64  # requests
MOST_TEXTS = 512  # of a batch
ANSWER_SECONDS = 60.0  # the first text of a new length waits for a compilation
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PAGE = {"/": "index.html", "/app.css": "app.css", "/app.js": "app.js"}
_DRAWING = ("draw.css", "draw.js")


def build(
  models: Mapping[str, Model],
  limits: Limits | None = None,
  most_waiting: int = MOST_WAITING,
  answer_seconds: float = ANSWER_SECONDS,
) -> Limited:
  """The ASGI app that serves some models.

  Args:
    models: by name, at least one.
    most_waiting: requests; any more are answered with 429.
    answer_seconds: that a request may take, its wait included.
  """
  if not models:
    raise ValueError("give the app a model to serve")
  served = {name: answers.about(name, model) for name, model in models.items()}
  batcher = Batcher(lambda key, asked: answers.KINDS[key[1]](models[key[0]], asked), most_waiting, MOST_TEXTS)

  async def answer(kind: Kind, request: Request) -> Response:
    asked = _read(await request.body(), schema.ASKED[kind])
    if asked.model not in served:
      raise HTTPException(422, f"there is no model {asked.model!r:.100}; there are {', '.join(served)}")
    if kind not in served[asked.model].answers:
      raise HTTPException(422, _no_answer(kind, models[asked.model]))
    weight = len(getattr(asked, "texts", ())) or 1 + 3 * len(getattr(asked, "words", ()))
    try:
      async with asyncio.timeout(answer_seconds):
        found = await _unless_gone(request, batcher.ask((asked.model, kind), asked, weight))
    except Full:
      raise HTTPException(429, "too many requests wait; try again in a moment", {"retry-after": "1"}) from None
    except TimeoutError:
      raise HTTPException(503, f"no answer within {answer_seconds:g} seconds; send less, or try again") from None
    except ValueError as error:
      raise HTTPException(422, str(error)) from error
    return JSONResponse(found)

  async def list_models(_: Request) -> Response:
    return JSONResponse(schema.Models(models=list(served.values())).model_dump())

  async def health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})

  async def describe(_: Request) -> Response:
    return JSONResponse(openapi.document(next(iter(served))))

  routes = [Route(path, _file(name, _own_page(name))) for path, name in _PAGE.items()]
  routes += [Route(f"/{name}", _file(name, views.page_file(name))) for name in _DRAWING]
  routes += [Route("/healthz", health), Route("/openapi.json", describe), Route("/api/models", list_models)]
  routes += [Route(f"/api/{kind}", functools.partial(answer, kind), methods=["POST"]) for kind in schema.ASKED]

  @contextlib.asynccontextmanager
  async def lifespan(_: Starlette) -> AsyncIterator[None]:
    yield
    await batcher.close()

  handlers: Any = {HTTPException: _refuse, Exception: _failed}
  return Limited(Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers), limits or Limits())


async def _unless_gone(request: Request, answering: Any) -> Any:
  """What is answered; nothing is computed for a client that has hung up, where its turn has not come yet."""
  task = asyncio.ensure_future(answering)
  gone = asyncio.ensure_future(_gone(request))
  try:
    await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
      raise HTTPException(499, "the client has gone")
    return task.result()
  finally:
    task.cancel()
    gone.cancel()


async def _gone(request: Request) -> None:
  while (await request.receive())["type"] != "http.disconnect":
    pass


def _read(body: bytes, asked: type[Any]) -> Any:
  """A request's body. Raises HTTPException in words for a person where it is not what is asked for."""
  try:
    # Strict UTF-8 first: the parser of JSON would speak of a position in bytes.
    return asked.model_validate_json(body.decode())
  except UnicodeDecodeError as error:
    raise HTTPException(422, f"the request is not UTF-8 ({error.reason} at byte {error.start})") from error
  except pydantic.ValidationError as error:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for place, part in enumerate(first["loc"]) if not place or isinstance(part, int))
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    what = first["msg"].removeprefix("Value error, ")
    raise HTTPException(422, f"{where + ': ' if where else ''}{what}{more}") from error


def _no_answer(kind: Kind, model: Model) -> str:
  ways = {
    "masks": "it fills no masks; serve a model that was pretrained with masked tokens, and not fine-tuned since",
    "predict": "it predicts nothing; fine-tune it for a task: bert-jax finetune",
  }
  return f"the model has the head {model.network}: {ways.get(kind, 'it does not answer this')}"


async def _refuse(_: Request, error: Exception) -> Response:
  assert isinstance(error, HTTPException)
  return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _failed(_: Request, error: Exception) -> Response:
  return JSONResponse({"error": f"the server failed at this ({type(error).__name__}); its log says more"}, 500)


def _own_page(name: str) -> str:
  return (importlib.resources.files("bert_jax.app") / "page" / name).read_text(encoding="utf-8")


def _file(name: str, text: str) -> Callable[[Request], Any]:
  async def give(_: Request) -> Response:
    return Response(text, media_type=_TYPES[os.path.splitext(name)[1]])

  return give
