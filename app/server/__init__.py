"""Run the app on a socket: listen, serve connections, bound what clients hold, and stop without refusing a request.

Transport, protocol: asyncio's words for a connection's socket and for the object that reads it. Liveness: whether the
kernel says that a client is still there and takes its bytes. Drain: on shutdown, the time that live calls have to end.
Readiness: what /readyz says; it falls before the socket closes, so that proxies go elsewhere.

Entry points: `listener.listen`, `run.serve` (a uvicorn server with the protocols of `http` and `websocket_protocol`).

* A stop refuses no request that arrived: tests/live/test_shutdown.py, tests/faults/test_rolling_restart.py.
* A client that reads nothing is ended, one that reads slowly is not: tests/server/test_disconnect_watch.py,
  tests/faults/test_stalled_readers.py.
* Clients never take all file descriptors: tests/server/test_file_descriptors.py, tests/faults/test_floods.py.
* A WebSocket breaks no limit and gets our errors: tests/live/test_socket_frames.py, tests/live/test_socket_limits.py.
"""
