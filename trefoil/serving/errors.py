"""Errors as OpenAI's clients know them: `{"error": {"message", "type", "code", "param"}}`."""

import json

TYPES = {401: "authentication_error", 404: "not_found_error"}


class ApiError(Exception):
    """What a client is told in place of an answer.

    Attributes:
        status: Of HTTP.
        param: The field of the request that is wrong.
        code: A word that programs can tell it by.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def content(self) -> dict[str, dict[str, str | None]]:
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        message = (
            str(self).encode("utf-8", "replace").decode()
        )  # it may name what a client sent, of which not all is UTF-8
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def body(self) -> bytes:
        return json.dumps(self.content, ensure_ascii=False).encode()

    @property
    def headers(self) -> dict[str, str]:
        named = {401: ("www-authenticate", "Bearer"), 503: ("retry-after", "1")}
        return dict([named[self.status]]) if self.status in named else {}


def require_model(asked: str | None, served: str) -> None:
    """
    Raises:
        ApiError: Another model is asked for than the one that is served.
    """
    if asked not in (None, served):
        raise ApiError(404, f"there is no such model; this server has {served}", "model", "model_not_found")
