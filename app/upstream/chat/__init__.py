"""Speak chat completions to an upstream that has no Responses API, behind the seam of transports.

Words. Profile: what a chat server takes and sends, known by its host and said by the operator. Advice: a parameter
that may be dropped without changing what is answered; it is named in `x-antiphon-dropped`. Binding: a parameter without
which the answer would be another; it is refused. Fragment: a part of a tool call in one chunk. Offer: the tools of a
request as functions, and what each of them is called by the client. Thoughts: a model's reasoning with what its
provider wants back of it, sealed (encrypted for the project) in a reasoning item.

Entry point: `chat_transport.ChatTransport`, a `Transport` around another. All else is pure.

Invariants:
* The response in the last event is what its events add up to: tests/upstream/chat/test_stream_properties.py.
* Whatever JSON a server sends is an answer or its own fault: tests/upstream/chat/test_hostile_servers.py.
* Any cut of upstream's bytes gives the same events: tests/upstream/chat/test_stream_properties.py.
* Whatever a client sends is translated or refused by its path: tests/upstream/chat/test_request_properties.py.
* What would change the answer is refused before upstream is asked: tests/upstream/chat/test_parameters.py.
* An upstream in chat does all that the SDK asks of the gateway: tests/live/test_chat_upstreams.py.
"""
