"""Parse the bodies and queries of /admin/v1 into pydantic forms; an unknown member is refused."""

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.administration.errors import validation_error
from app.api.request_body import BodyReader, headers_of
from app.wire.json_body import decode_object

LONGEST_ID = 200
"""The longest id or name in a query; longer than any of ours."""

PageLimit: TypeAlias = Annotated[int, Field(ge=1, le=100)]


class Body(BaseModel):
    """Parse a JSON object with these members and no others, without converting types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def given(self) -> dict[str, Any]:
        """Return the members that were sent, by name."""
        return self.model_dump(exclude_unset=True)


class Edit(Body):
    """Parse the members to change; omitted ones stay. `version` is the one that the editor saw."""

    version: int

    def changes(self) -> dict[str, Any]:
        """Return the members that were sent, without the version."""
        return {name: value for name, value in self.given().items() if name != "version"}


class Open(Body):
    """Parse an object with any members; `administration` checks which ones there may be."""

    model_config = ConfigDict(extra="allow")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show no member: one may be the key of an upstream."""
        return ()


class OpenEdit(Edit, Open):
    """Parse any members to change, with a version."""


class Query(BaseModel):
    """Parse a query string with these parameters and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """Select a page of a list, newest first: the entries that follow the one with the id `after`."""

    after: str | None = Field(None, max_length=LONGEST_ID)
    limit: PageLimit = 20


B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)


async def read_form(form: type[B], request: Request, body_reader: BodyReader) -> B:
    """Read the body into this form. Raises InvalidRequestError that names the first fault."""
    return await body_reader.read_form(partial(_parse, form), headers_of(request.scope), request.receive)


async def read_nothing(request: Request, body_reader: BodyReader) -> None:
    """Refuse a body with members; no body, or an empty object, is accepted."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        await read_form(Body, request, body_reader)


def read_query(form: type[Q], request: Request) -> Q:
    """Parse the query into this form; of a repeated parameter the last counts. Raises InvalidRequestError."""
    try:
        return form.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise validation_error(error.errors()[0]) from None


def _parse(form: type[B], raw: bytes, max_depth: int) -> B:
    try:
        return form.model_validate(decode_object(raw, max_depth))
    except ValidationError as error:
        raise validation_error(error.errors()[0]) from None
