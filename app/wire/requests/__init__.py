"""Parse and check what clients send: create, compact and count bodies, conversations, input items. Bytes are kept.

Words. Check: a function of a value and its path that raises the first fault. Strict: held to OpenAI's own rules;
otherwise to the rules of structure, which hold for any upstream. Stub: an item with an id and no content, which stands
for the stored item.

Entry points: `create.parse_create_request`, `conversation_bodies.parse_new_conversation`.

Invariants:
* The first fault in OpenAI's order is reported: tests/wire/test_create_requests.py, tests/wire/test_input_items.py.
* No request leads to anything but a valid request or an InvalidRequestError: tests/wire/test_any_request.py.
* Unknown values pass where the upstream is not OpenAI: tests/wire/test_structural_requests.py.
"""
