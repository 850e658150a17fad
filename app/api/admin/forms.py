"""The bodies and queries of the administration, read into closed forms. What is not named in one is refused."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from app.api.intake import headers_of, read_request
from app.errors import InvalidRequestError
from app.settings import ServerSettings
from app.wire import wording
from app.wire.body import decode_object

LONGEST_ID = 200
"""Of ids and names in a query: longer than any of ours."""

PageLimit: TypeAlias = Annotated[int, Field(ge=1, le=100)]

_QUOTED = 100
_EXPECTED: Mapping[str, str] = {
    "string": "a string",
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "list": "an array",
    "dict": "an object",
    "model": "an object",
}


class Body(BaseModel):
    """A JSON object with these members and no others, each of the very type that is written here."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def given(self) -> dict[str, Any]:
        """The members that were sent, by name."""
        return self.model_dump(exclude_unset=True)


class Edit(Body):
    """What is to be changed. Members that are left out stay; `version` is the one that the editor saw."""

    version: int

    def changes(self) -> dict[str, Any]:
        """The members that were sent, but for the version."""
        return {name: value for name, value in self.given().items() if name != "version"}


class Query(BaseModel):
    """A query string with these parameters and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """Which page of a list, newest first: what follows on the entry `after`."""

    after: str | None = Field(None, max_length=LONGEST_ID)
    limit: PageLimit = 20


B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)


async def read_form(form: type[B], request: Request, limits: ServerSettings) -> B:
    """The body in this form. Raises InvalidRequestError that names the first fault."""
    return await read_request(partial(_parse, form), headers_of(request.scope), request.receive, limits)


async def read_nothing(request: Request, limits: ServerSettings) -> None:
    """Refuse what a body says where there is nothing to say. No body at all will do."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        await read_form(Body, request, limits)


def read_query(form: type[Q], request: Request) -> Q:
    """The query in this form; of a repeated parameter the last. Raises InvalidRequestError."""
    try:
        return form.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise _refusal(error.errors()[0]) from None


def _parse(form: type[B], raw: bytes, max_depth: int) -> B:
    try:
        return form.model_validate(decode_object(raw, max_depth))
    except ValidationError as error:
        raise _refusal(error.errors()[0]) from None


def _refusal(fault: ErrorDetails) -> InvalidRequestError:
    """The library's finding, in OpenAI's words."""
    path = _path(fault["loc"])
    kind, given, bounds = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return wording.unknown_parameter(path)
    if kind == "missing":
        return wording.missing(path)
    name, _, rule = kind.partition("_")
    if rule in {"type", "parsing", "from_float"} and name in _EXPECTED:
        return wording.invalid_type(path, given, _EXPECTED[name])
    if kind == "greater_than_equal":
        return wording.below_minimum(path, "integer", bounds["ge"], given)
    if kind == "less_than_equal":
        return wording.above_maximum(path, "integer", bounds["le"], given)
    if kind == "string_too_long":
        return wording.too_long(path, bounds["max_length"], given)
    return InvalidRequestError(
        f"Invalid '{path}': {fault['msg'][0].lower()}{fault['msg'][1:]}.", code="invalid_value", param=path
    )


def _path(places: tuple[int | str, ...]) -> str:
    """`("limits", "budgets", 0, "usd")` as clients write it: limits.budgets[0].usd."""
    path = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return path.removeprefix(".")[:_QUOTED]
