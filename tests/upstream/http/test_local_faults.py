"""Faults of this machine are told as such, to clients and operators, and no account pays for them."""

import errno
import socket
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.upstream.faults.classification import fault_of_exception
from app.upstream.http.local_faults import LocalFaultError, LocalFaultLog, local_fault
from app.upstream.transport import Transport
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import EVENTS, KEYS, SSE, Clock, failure, rig, upstream_settings

LOCAL = [
    (OSError(errno.EMFILE, ""), "gateway_descriptors_exhausted"),
    (OSError(errno.ENFILE, ""), "gateway_descriptors_exhausted"),
    (OSError(errno.ENOMEM, ""), "gateway_memory_exhausted"),
    (OSError(errno.ENOBUFS, ""), "gateway_memory_exhausted"),
    (OSError(errno.EADDRNOTAVAIL, ""), "gateway_ports_exhausted"),
    (OSError(errno.ENOSPC, ""), "gateway_disk_full"),
    (socket.gaierror(socket.EAI_AGAIN, ""), "gateway_name_resolution_failed"),
    (socket.gaierror(socket.EAI_SYSTEM, ""), "gateway_name_resolution_failed"),
    (socket.gaierror(socket.EAI_MEMORY, ""), "gateway_memory_exhausted"),
    (httpx.PoolTimeout(""), "gateway_connections_exhausted"),
]


@pytest.mark.parametrize(("error", "code"), LOCAL)
def test_a_fault_of_this_machine_is_known_and_says_what_to_do(error: Exception, code: str) -> None:
    fault = local_fault(error)
    assert fault is not None
    assert fault.code == code
    assert len(fault.advice) > 40
    told = fault_of_exception(error if isinstance(error, httpx.TransportError) else LocalFaultError(fault))
    assert (told.error.status, told.error.code, told.is_local) == (503, code, True)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ECONNREFUSED, ""),
        OSError(errno.ECONNRESET, ""),
        OSError(errno.EHOSTUNREACH, ""),
        OSError("Multiple exceptions"),
        socket.gaierror(socket.EAI_NONAME, ""),
        RuntimeError(),
        httpx.ConnectTimeout(""),
        TimeoutError(),
    ],
)
def test_any_other_is_not(error: Exception) -> None:
    assert local_fault(error) is None


@pytest.mark.live
@pytest.mark.parametrize("error", [error for error, _ in LOCAL if isinstance(error, OSError)])
async def test_no_account_pays_for_a_fault_of_this_machine(
    error: OSError, upstream: FakeUpstream, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = rig(transport, upstream_settings(f"http://localhost:{httpx.URL(upstream.url).port}/v1", *KEYS))

    def fail(*_: object, **__: object) -> Any:
        raise error

    with monkeypatch.context() as broken_machine, capture_logs() as logs:
        if isinstance(error, socket.gaierror):
            broken_machine.setattr("app.upstream.http.connector.Connector._addresses", fail)
        else:
            broken_machine.setattr("socket.socket", fail)
        for _ in range(8):
            told = await failure(three.open())
            assert told.status == 503
            assert told.headers["retry-after"] == "1"
            assert "x-should-retry" not in told.headers
    assert len(three.rendered) == 8
    assert {state.state for state in three.pool.report()} == {"usable"}
    assert len([line for line in logs if "machine" in line["event"]]) == 1
    upstream.enqueue(Reply.sse(EVENTS))
    assert await three.read() == SSE


def test_operators_are_told_once_in_a_while_and_how_often_it_was() -> None:
    clock = Clock()
    log = LocalFaultLog(clock)
    fault, other = local_fault(OSError(errno.EMFILE, "")), local_fault(OSError(errno.ENOMEM, ""))
    assert fault is not None
    assert other is not None
    with capture_logs() as lines:
        for _ in range(1000):
            log.write(fault)
        log.write(other)
        clock.now += 10
        log.write(fault)
    assert [(line["code"], line["times"]) for line in lines] == [
        ("gateway_descriptors_exhausted", 1),
        ("gateway_memory_exhausted", 1),
        ("gateway_descriptors_exhausted", 1000),
    ]
    assert "LimitNOFILE" in lines[0]["advice"]
