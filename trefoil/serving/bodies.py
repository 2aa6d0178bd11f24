"""What clients send to `/v1`, of OpenAI's fields those that this server knows."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .errors import ApiError

WITHOUT_EFFECT = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}


def _as_utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    return text


Said = Annotated[str, AfterValidator(_as_utf8)]  # JSON can say what is no text
Stop = Annotated[Said, Field(min_length=1, max_length=256)]


class StreamOptions(BaseModel):
    include_usage: bool = False


class Body(BaseModel):
    """What completions and conversations have in common."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int = Field(1, ge=1, le=128)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: int | None = Field(None, ge=-(2**62), le=2**62)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wanted(self) -> int | None:
        """How many tokens."""
        return self.max_tokens

    def require_known(self) -> None:
        """
        Raises:
            ApiError: A field that would change the answer is not known.
        """
        for name, value in (self.model_extra or {}).items():
            if value and name not in WITHOUT_EFFECT:
                raise ApiError(400, f"{name}: this server does not support it")


class CompletionBody(Body):
    prompt: Said | list[int] | list[Said] | list[list[int]]
    best_of: Literal[1] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str) or not self.prompt or isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]


class Part(BaseModel):
    type: Literal["text"]
    text: Said


class Message(BaseModel):
    role: Said
    content: Said | list[Part]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatBody(Body):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def wanted(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def conversation(self) -> list[dict[str, str]]:
        return [{"role": message.role, "content": message.text} for message in self.messages]
