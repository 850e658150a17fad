"""Carry requests to upstreams: an HTTP/1.1 client with a connection pool, proxies and an egress policy.

Words. Route: the way to one origin, directly or through a proxy. Connection pool: the connections of the process.
Egress policy: the addresses that an upstream may have. Stale: a kept connection closed before any byte of an answer.

Entry points: `client_factory`, which makes the transport to each upstream; `http_client` is the client itself.

Invariants:
* A resolved address is checked, and then connected to as checked: tests/upstream/http/test_egress_policy.py.
* Only a stale connection says that upstream may not have seen the call: tests/upstream/http/test_stale_connections.py.
* Nothing waits for a connection that is aborted or lost: tests/upstream/http/test_connection.py.
* The connection pool never exceeds its limit: tests/upstream/http/test_connection_pool.py.
* Whatever a server sends is read as h11 reads it, or is an error: tests/upstream/http/test_connection_fuzz.py.
"""
