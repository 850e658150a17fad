"""Serve the endpoints of /v1, which clients call: read the request, call the relay or a store, send the answer.

Turn: one `response.create` on a WebSocket and its answer. Lane: a sequence of turns on a WebSocket, named by its
`stream_id`. Beta: a call with `?beta=true`, which is passed on to upstream.

Entry points: `responses.CreateResponse` (POST /v1/responses), `websocket.ResponsesWebSocket` (the same over WebSocket);
`api.routes` lists all endpoints.

* A turn on a WebSocket is the same call as over HTTP: tests/exchanges/test_exchanges.py.
* Turns of a lane run in order, nothing of a connection outlives it: tests/live/test_socket.py,
  tests/live/test_socket_ends.py.
* What waits on a connection is bounded: tests/live/test_socket_limits.py.
* Errors have OpenAI's shape, status, code and wording: tests/live/test_bad_input.py.
"""
