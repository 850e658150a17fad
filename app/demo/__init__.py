"""Serve the offline demo model: an upstream in the gateway's own process, with no key and no network.

Directive: an instruction in brackets in the user's text, for tests (`[words:20]`, `[slow]`, `[fail]`). Hosted tool: a
tool that the model runs itself. Outcome: the output items, status and token counts of a call.

Entry point: `endpoint.answer` (method, path and body in, status and bytes out).

* Every object and event has the form of OpenAI's: tests/demo/test_demo_response.py, tests/demo/test_demo_stream.py.
* The same input gets the same output: tests/demo/test_demo_rules.py.
* Like OpenAI without `store`, it refuses what it cannot look up: tests/demo/test_demo_refusals.py.
* Structured output satisfies its schema: tests/demo/test_demo_schema.py.
"""
