"""Convert items between the forms in which clients send them, turns store them, upstreams get them and lists show them.

Words. Stored form: an item as a stateless upstream takes it back. Reader: the account that alone can read an item.
Account-bound: naming what one account alone has. Stub, reference: an item that stands for a stored one. Compaction: an
item that replaces a history. Outline: a turn's facts without content.

Entry points: `stored_form.input_items`, `stored_form.output_items`, `turn_packing.pack`, `history_input.replay`,
`item_pages.page`, `compacted.summary_input`.

Invariants:
* What is sent is coherent, and the same turn by turn or item by item: tests/state/test_history_input.py.
* A call is answered once, and nothing else is: tests/state/test_call_pairs.py.
* A packed turn gives its items back as they were: tests/state/test_turn_packing.py.
* Pages hold each item once, under one id: tests/state/test_item_pages.py.
"""
