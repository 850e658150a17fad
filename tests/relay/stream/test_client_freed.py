"""What a call had at hand is freed when its client leaves, and not when the garbage collector comes by."""

import asyncio
import gc
import weakref
from contextlib import suppress

from app.relay.process.admission_and_drain import CallRegistry
from app.relay.stream.client import Client, ClientGoneError
from tests.builders import Connection


class Prompt:
    """What weighs much."""


async def wait_in(client: Client, connection: Connection) -> None:
    with client:
        connection.leave()
        await asyncio.Event().wait()


async def test_what_a_call_had_at_hand_when_its_client_left_is_freed_at_once(
    registry: CallRegistry, connection: Connection
) -> None:
    prompt = Prompt()
    held = weakref.ref(prompt)

    async def call(client: Client, _prompt: Prompt) -> None:
        with suppress(ClientGoneError):
            await wait_in(client, connection)

    gc.disable()
    try:
        calling = call(connection.client(registry), prompt)
        del prompt
        await calling
        del calling
        assert held() is None
    finally:
        gc.enable()
