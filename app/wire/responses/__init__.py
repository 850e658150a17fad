"""Read upstream's response objects and stream events, and make those of the gateway's own.

Words. Facts: what the gateway reads of a response object. Echo: a response object that repeats its request. Warm-up: a
request that asks for no answer. Terminal event: the last event of a stream, with the whole response.

Entry points: `response_object.read`, `echo.echo`, `stream_events.kind`, `events_from_object.frames_of`,
`tool_secrets.ToolSecrets`.

Invariants:
* Members that the gateway does not answer for keep upstream's bytes: tests/wire/test_response_object.py.
* A response object never shows the secrets of its tools: tests/wire/test_echo.py, tests/live/test_tool_secrets.py.
* An answer is a stream if its first bytes say so, whatever its label: tests/wire/test_stream_detection.py.
* Objects and events of our own are complete: tests/wire/test_echo.py, tests/wire/test_gateway_response.py.
"""
