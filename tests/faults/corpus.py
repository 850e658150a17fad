"""Requests that are wrong in one way each. Nothing but a refusal may come of them: none has a key."""

from tests.fakes.raw_http import chunked

_HEAD = b"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
CORPUS = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"SSH-2.0-client\r\n",
    b"GET /v1/models\r\n\r\n",
    b"GET /v1/models HTTP/9.9\r\nhost: gateway\r\n\r\n",
    b"GET  /v1/models  HTTP/1.1\r\nhost: gateway\r\n\r\n",
    b"G\x00T /v1/models HTTP/1.1\r\nhost: gateway\r\n\r\n",
    b"GET /v1/\xff\xfe HTTP/1.1\r\nhost: gateway\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: gateway\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\nno colon\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\nx : y\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: gateway\r\nx: \x00\r\n\r\n",
    _HEAD + b"content-length: -1\r\n\r\n{}",
    _HEAD + b"content-length: two\r\n\r\n{}",
    _HEAD + b"content-length: 99999999999999999999999\r\n\r\n{}",
    _HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
    _HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n" + chunked(b"{}"),
    _HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    _HEAD + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    _HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    _HEAD + b"content-length: 2\r\n\r\n{",
    b"\r\n\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
    b"GET /livez HTTP/1.1\nhost: a\n\n",
    b"CONNECT elsewhere:443 HTTP/1.1\r\nhost: elsewhere:443\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n" + b"\x81\xff" * 600,
    (
        b"GET /v1/responses HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x7f\xff\xff"
    ),
    _HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    _HEAD + b"transfer-encoding: chunked\r\n\r\n5;" + b"e" * 70_000 + b"\r\n",
    b"POST /v1/responses HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
)
