"""Read and write the turns of responses and conversations, as statements on a connection.

Words: a *turn* is a row of packed items; its *outline* has the items' ids, types and lengths, its *content* their
bytes; a *place* is an item's position in its turn; *measured* is read without its content, to reserve memory first.

Entry points: `conversation_turns` (append, remove_item, read), `item_reads.read_items_of_turns`, and `insert_view`, the
view through which a response and the index of its items are inserted by one statement.

Invariants: content is measured before it is read (`tests/storage/turns/test_measured_reads.py`); the index finds an
item's turn, also beside a release without it (`tests/storage/conversations/test_pages.py`); a deleted item is
in no compaction (`tests/storage/turns/test_conversation_compactions.py`); the view inserts every column of `responses`
(`tests/storage/turns/test_insert_view.py`).
"""
