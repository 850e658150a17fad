"""Store responses, each a turn with its items, and remove them when they expire.

Words: a *chain* is a response with its ancestors (`previous_response_id`); the *tip* is its newest turn; a response is
*continued* where another has it as its parent; a *sweep* is one pass of the expiry; *retention* is how many days a
project keeps responses.

Entry points: `store.ResponseStore`, `expiry.ResponseExpiry`, `retention.Retention`; the store reads by `chain_reads`
and `items_by_id`.

Invariants: a saved turn reads back byte for byte, an id is saved once, and a chain with a deleted ancestor is not found
(`tests/storage/responses/test_store.py`); of several items with one id the newest is found
(`tests/storage/responses/test_items_by_id.py`); an expired turn is kept while a living one continues it, and a sweep
reads no living turns (`tests/storage/responses/test_expiry.py`); a shorter retention holds for stored responses, too
(`tests/storage/responses/test_retention.py`); a large turn is packed off the event loop
(`tests/live/test_large_work.py`).
"""
