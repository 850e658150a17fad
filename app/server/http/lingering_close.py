"""Linger after an answer: read on for a moment and drop what comes, so that the client can read it; then close.

A close with unread bytes resets the connection, and takes the answer from a client that still sends (RFC 9112 §9.6).
The moment begins with the answer, and nothing that the client sends makes it longer.
"""

import asyncio
from contextlib import suppress

from app.server.idle_timer import IdleTimer

LINGER_SECONDS = 2.0
"""How long a client may go on sending after its answer, and has for reading the last one."""


def keep_reading(idle: IdleTimer) -> None:
    """Let the client send the rest of a body that was answered unread; if it does so in time, the connection stays."""
    idle.restart(LINGER_SECONDS)


def close_after_answer(transport: asyncio.Transport, idle: IdleTimer, *, client_has_ended: bool) -> None:
    """Send the end of this side behind the last answer; close now if the client sends no more, else in a moment."""
    if client_has_ended:
        transport.close()
    else:
        # A client that has reset the connection meanwhile takes no end; the event loop is about to tell so.
        with suppress(OSError):
            transport.write_eof()
        idle.restart(LINGER_SECONDS)
