"""What a call had at hand is freed when it is refused, and not when the garbage collector comes by."""

import gc
import weakref
from collections.abc import Iterator

import pytest
from starlette.types import Message

from app.api.error_answer import send_error
from app.errors import ApiError, UpstreamError


class Prompt:
    """What weighs much."""


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def refuse(_prompt: Prompt) -> None:
    """As most code does: the error is kept in the frame that raises it."""
    try:
        fault = ConnectionError()
        raise fault
    except ConnectionError as error:
        refusal = UpstreamError("Upstream could not be reached.")
        raise refusal from error


async def test_the_prompt_of_a_refused_call_is_freed_with_its_answer() -> None:
    prompt = Prompt()
    held = weakref.ref(prompt)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        # Also while a slow client takes the answer.
        assert held() is None
        sent.append(message)

    try:
        refuse(prompt)
    except ApiError as error:
        del prompt
        await send_error(error, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
