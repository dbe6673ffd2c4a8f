"""Answer requests that are wrong before they reach an endpoint: bodies that do not validate, unknown paths."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from cluster.serving.errors import ApiError, short
from cluster.serving.metrics import Metrics

NO_JSON = "the body is no JSON"
NO_OBJECT = "send a JSON object with Content-Type: application/json"


def add_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Let an application answer every error in the form that OpenAI's clients read.

    Args:
        app: the application.
        metrics: counts what no endpoint has seen.
    """

    async def refused(request: Request, error: ApiError) -> Response:
        metrics.refused(request.url.path, error.status)
        return await answered(request, error)

    async def answered(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return JSONResponse(error.body, error.status, headers=error.headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return await refused(request, _invalid(error.errors()[0]))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 400:  # FastAPI's, where its parser fails otherwise than at a character
            return await refused(request, ApiError(400, NO_JSON, "invalid_request"))
        return await refused(request, ApiError(error.status_code, str(error.detail), "http_error"))

    app.add_exception_handler(ApiError, answered)  # an endpoint's own, which counted it
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)


def _invalid(first: Mapping[str, Any]) -> ApiError:
    """Return the error of a body, given pydantic's first one."""
    message, context = str(first["msg"]).removeprefix("Value error, "), first.get("ctx") or {}
    if first["type"] == "json_invalid":
        return ApiError(400, f"{NO_JSON} ({context.get('error', message)})", "invalid_request")
    place = short(".".join(str(part) for part in first["loc"] if part != "body"))
    if not place and (first["type"].endswith("_type") or first["type"] == "missing"):
        message = NO_OBJECT
    param = place or context.get("field")
    return ApiError(400, f"{place}: {message}" if place else message, "invalid_request", param)
