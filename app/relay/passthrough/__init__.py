"""Relay calls whose answers are not kept: chat completions, embeddings, completions and moderations.

Words: a *surface* is one of them, by its path; a *completion stream* is what a chat completion streams.

Entry point: `passthrough_calls.PassthroughCalls.serve`.

* Bytes pass unchanged, but for the usage frame that the gateway itself asked for: tests/live/test_passthrough.py.
* Nothing is left in an upstream's account: tests/relay/passthrough/test_passthrough_call.py.
* A stream that breaks off ends with an error and without its `[DONE]`: tests/live/test_passthrough_ends.py.
"""
