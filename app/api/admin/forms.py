"""The bodies and queries of the administration, read into closed forms. What is not named in one is refused."""

from collections.abc import Iterable
from functools import partial
from typing import Annotated, Any, TypeAlias, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.administration.refusals import refusal
from app.api.intake import Intake, headers_of
from app.wire.body import decode_object

LONGEST_ID = 200
"""Of ids and names in a query: longer than any of ours."""

PageLimit: TypeAlias = Annotated[int, Field(ge=1, le=100)]


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


class Open(Body):
    """An object whose members are all that were sent: who takes them says which there are."""

    model_config = ConfigDict(extra="allow")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """None: what was sent may be a key of an upstream."""
        return ()


class OpenEdit(Edit, Open):
    """The same with a version."""


class Query(BaseModel):
    """A query string with these parameters and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """Which page of a list, newest first: what follows on the entry `after`."""

    after: str | None = Field(None, max_length=LONGEST_ID)
    limit: PageLimit = 20


B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)


async def read_form(form: type[B], request: Request, intake: Intake) -> B:
    """The body in this form. Raises InvalidRequestError that names the first fault."""
    return await intake.read_form(partial(_parse, form), headers_of(request.scope), request.receive)


async def read_nothing(request: Request, intake: Intake) -> None:
    """Refuse what a body says where there is nothing to say. No body at all will do."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        await read_form(Body, request, intake)


def read_query(form: type[Q], request: Request) -> Q:
    """The query in this form; of a repeated parameter the last. Raises InvalidRequestError."""
    try:
        return form.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise refusal(error.errors()[0]) from None


def _parse(form: type[B], raw: bytes, max_depth: int) -> B:
    try:
        return form.model_validate(decode_object(raw, max_depth))
    except ValidationError as error:
        raise refusal(error.errors()[0]) from None
