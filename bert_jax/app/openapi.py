"""The API's schema, OpenAPI 3.1, made of the types in schema.py."""

from typing import Any

from pydantic.json_schema import models_json_schema

import bert_jax
from bert_jax.app import schema
from bert_jax.app.schema import Kind

_EXAMPLES: dict[Kind, dict[str, Any]] = {
  "tokens": {"text": "The cat sat.", "pair": "On the mat."},
  "masks": {"text": "The cat sat on the mat.", "words": [1], "top_k": 5},
  "attention": {"text": "The cat sat on the mat."},
  "predict": {"texts": ["A fine film.", "Two hours that I want back."]},
  "similarity": {"texts": ["A cat sat.", "A kitten rested.", "Prices rose."]},
}
_ERRORS = {
  "401": "a token is needed",
  "408": "the request did not arrive in time",
  "413": "the request is too large",
  "415": "the request is not JSON",
  "422": "the request is not what this asks for, or the model cannot answer it",
  "429": "too many requests wait; try again after the seconds of Retry-After",
  "503": "the answer took too long",
}


def document(first_model: str) -> dict[str, Any]:
  """Args:
  first_model: the name that the examples have.
  """
  types = [*schema.ASKED.values(), *schema.ANSWERED.values(), schema.Models, schema.Error]
  _, defined = models_json_schema([(one, "validation") for one in types], ref_template="#/components/schemas/{model}")
  errors = {status: _response(schema.Error, what) for status, what in _ERRORS.items()}
  paths: dict[str, Any] = {
    "/healthz": {"get": {"summary": "Whether the server answers", "responses": {"200": {"description": "it does"}}}},
    "/api/models": {
      "get": {
        "summary": "The models, and what each answers",
        "responses": {"200": _response(schema.Models, "the models"), "401": errors["401"]},
      }
    },
  }
  for kind, asked in schema.ASKED.items():
    example = {"model": first_model} | _EXAMPLES[kind]
    content = {"schema": _reference(asked), "example": example}
    paths[f"/api/{kind}"] = {
      "post": {
        "summary": (asked.__doc__ or "").splitlines()[0],
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"200": _response(schema.ANSWERED[kind], "the answer")} | errors,
      }
    }
  return {
    "openapi": "3.1.0",
    "info": {"title": "bert_jax", "version": bert_jax.__version__},
    "paths": paths,
    "components": {
      "schemas": defined["$defs"],
      "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    },
    "security": [{}, {"token": []}],
  }


def _reference(of: type) -> dict[str, str]:
  return {"$ref": f"#/components/schemas/{of.__name__}"}


def _response(of: type, description: str) -> dict[str, Any]:
  return {"description": description, "content": {"application/json": {"schema": _reference(of)}}}
