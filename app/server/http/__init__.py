"""Serve HTTP/1.1 on one client connection: parse its requests one at a time, call the app, send the answers in order.

Head: the request line and headers. Cycle: one request and its answer (uvicorn's word). Framing: how a body's end is
found. Pipelining: requests that are sent before the answer to the last. Whole: a body whose last byte is here.

Entry point: `protocol.HttpProtocol`, which uvicorn makes for each connection.

* One request at a time; a refusal follows the answers before it: tests/server/test_protocol.py.
* Only a request that every reader of RFC 9112 understands alike is taken: tests/server/test_request_head.py,
  tests/server/test_body_framing.py, tests/server/test_against_h11.py, tests/server/test_conformance.py.
* The parse cache and the cuts between reads change no result: tests/server/test_request_reader.py.
* No header of an answer holds a line break; a client that is gone is noticed: tests/server/test_cycle.py,
  tests/server/test_protocol_ends.py.
* A client can send on for a moment after its answer, and read it: tests/server/test_lingering_close.py.
* Pipelining clients do not delay others: tests/server/test_loop_fairness.py.
"""
