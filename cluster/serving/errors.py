"""Errors of the API, in the form that OpenAI's clients read."""

from typing import Any

from bridge_common.visible_text import visible

LONGEST_NAME = 60


class ApiError(Exception):
    """A request that is answered by an error.

    Args:
        status: HTTP status.
        message: one line with the remedy.
        code: short name for programs.
        param: the field that is wrong, if one is.
        retry_after: seconds after which to ask again.
    """

    def __init__(
        self, status: int, message: str, code: str, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The answer's body."""
        error_type = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": error_type, "code": self.code, "param": self.param}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that the answer adds."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def short(name: str) -> str:
    """Return a name that a request gave as a message shows it: on one line, and not too long."""
    return " ".join(visible(name).split())[:LONGEST_NAME]


def too_long(message: str, param: str | None = None) -> ApiError:
    """Return the error of a request that asks for more than the limits allow."""
    return ApiError(413, message, "too_long", param)


def overloaded(questions: int, room: int) -> ApiError:
    """Return the error of a request whose questions find too little room in the queue."""
    asked = "1 question" if questions == 1 else f"{questions} questions"
    return ApiError(429, f"the queue has room for {room}, not for {asked}: ask again later", "queue_full", None, 1)


def unavailable() -> ApiError:
    """Return the error of a request that no replica could answer."""
    return ApiError(503, "the model's process ended and is being started again: ask again", "unavailable", None, 5)
