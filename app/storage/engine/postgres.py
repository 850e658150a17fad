"""PostgreSQL driver: open connections, begin, interrupt and check transactions. Safe behind pgbouncer."""

import asyncio
import os
import socket
import sys
from contextlib import suppress

import psycopg
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, text

from app.storage.engine.session import Driver

# Seconds for the server to take a cancellation; then the connection is closed.
_CANCEL_GRACE = 1.0
# The part of a statement's time that it may wait for one lock. A write that waits in vain is retried after the others:
# a transaction that locks a row for long delays only the writes of that row.
_LOCK_SHARE = 0.02
_CONNECT_SECONDS = 5
_KEPT_ALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


class Postgres(Driver):
    """Use one database of a server; `timeout` (seconds) bounds each statement of a transaction that writes."""

    # `pool_size` alone bounds the readers.
    most_readers = sys.maxsize
    bounds_each_statement = False
    locks_rows = True

    def __init__(self, url: URL, timeout: float) -> None:
        self.wait_seconds = timeout
        self._url = url
        milliseconds = int(timeout * 1000)
        # One round trip for all. The limits are the transaction's and end with it: pgbouncer refuses start-up options
        # that it does not know, and gives the session to other clients.
        self._begin = (
            f"BEGIN; SELECT set_config('statement_timeout', '{milliseconds}', true),"
            f" set_config('idle_in_transaction_session_timeout', '{milliseconds}', true),"
            f" set_config('lock_timeout', '{max(1, int(milliseconds * _LOCK_SHARE))}', true), txid_current()"
        )
        self._connect_args = {
            "autocommit": True,
            # Behind pgbouncer the next statement may go to another server connection, which lacks the prepared one.
            "prepare_threshold": None,
            "connect_timeout": _CONNECT_SECONDS,
            # The socket notices a server that vanished: a write is never cancelled from this side.
            "tcp_user_timeout": milliseconds,
            **_KEPT_ALIVE,
        }

    def engine(self, *, writes: bool) -> Engine:  # noqa: ARG002 (its readers are not prepared in another way)
        return create_engine(self._url, poolclass=NullPool, hide_parameters=True, connect_args=self._connect_args)

    def begin(self, connection: psycopg.Connection) -> int:
        cursor = connection.execute(self._begin)
        cursor.nextset()
        (_, _, _, transaction) = cursor.fetchone() or (None, None, None, 0)
        return int(transaction)

    def is_committed(self, connection: psycopg.Connection, transaction: int) -> bool | None:
        (status,) = connection.execute("SELECT txid_status(%s)", (transaction,)).fetchone() or ("",)
        return None if status == "in progress" else bool(status == "committed")

    def is_waiting(self, error: Exception) -> bool:  # noqa: ARG002 (a row that is locked is the writer's affair)
        return False

    def interrupt(self, connection: psycopg.Connection) -> None:
        try:
            connection.cancel_safe(timeout=_CANCEL_GRACE)
        except psycopg.Error:
            with socket.socket(fileno=os.dup(connection.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)

    def obstacle(self, connection: Connection) -> str | None:
        is_read_only = connection.scalar(text("SELECT current_setting('transaction_read_only') = 'on'"))
        return "The database is read-only: a standby, or set so." if is_read_only else None

    def lengthen_log(self, connection: psycopg.Connection) -> None:
        # The server maintains its own log.
        pass

    def shorten_log(self, connection: psycopg.Connection, *, fully: bool = False) -> None:
        """Do nothing: the server makes its own checkpoints."""

    def erase_log(self, connection: psycopg.Connection) -> bool:  # noqa: ARG002 (idem)
        return True

    def is_changed_by_others(self, connection: psycopg.Connection) -> bool:  # noqa: ARG002 (idem)
        return False


async def listening(url: URL, channel: str) -> psycopg.AsyncConnection:
    """Open a connection in the event loop that listens to this channel: in a thread it would block one."""
    _, options = url.get_dialect()().create_connect_args(url)
    ours = {**_KEPT_ALIVE, "connect_timeout": _CONNECT_SECONDS, "prepare_threshold": None, "autocommit": True}
    connection = await psycopg.AsyncConnection.connect(**{**options, **ours})
    try:
        await connection.execute(f"LISTEN {channel}".encode())
    except BaseException:
        # A process that stops while it begins cancels this.
        await connection.close()
        raise
    return connection


async def readable(connection: psycopg.AsyncConnection, seconds: float) -> None:
    """Sleep until the server has sent something, or for `seconds`. The driver's own wait wakes ten times a second."""
    loop, socket_number = asyncio.get_running_loop(), connection.fileno()
    has_some = asyncio.Event()
    loop.add_reader(socket_number, has_some.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await has_some.wait()
    finally:
        loop.remove_reader(socket_number)
