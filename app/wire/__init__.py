"""Read and write what crosses the wire: requests, response objects, events, SSE frames, messages, errors. Pure.

Words. Member: a name and value of a JSON object. Item: an element of an input or output. Frame: an SSE event with its
blank line. Event: the JSON in a frame. Envelope: the members of a WebSocket message around its create call.

Entry points: `requests.create.parse_create_request`, `responses.response_object.read`, `sse.FrameSplitter`,
`websocket_messages.read_message`, `upstream_errors.parse_json_error`; `error_messages` has every error's wording.

Invariants:
* Frames, and then the rest, are exactly the bytes fed: tests/wire/test_sse.py.
* A body is bounded in depth and values before it is decoded: tests/wire/test_json_body.py.
* Errors have OpenAI's code and wording: tests/wire/test_create_requests.py, tests/wire/test_field_rules.py.
* An error of any public shape reaches the client in OpenAI's: tests/wire/test_upstream_errors.py.
"""
