"""Store conversations and their items, and lock each for its one writer.

Words: a *lock* is a lease on a conversation by the database's clock, taken in the name of its *holder*, a call or a run
with its epoch; a *refusal* is why nothing was written; an *idle* conversation was unchanged for its project's days.

Entry points: `store.ConversationStore` (the endpoints), `locks.ConversationLockStore` (calls in a conversation),
`turn_commit.SaveTurn` (what such a call leaves), `expiry.ConversationExpiry`; `pages.read_page` reads a page of items.

Invariants: one writer at a time over all replicas (`tests/storage/conversations/test_locks.py`,
`tests/live/test_conversation_replicas.py`); a turn and its response are one commit, which also releases the lock
(`tests/storage/conversations/test_turn_commit.py`); every item id in a conversation is unique
(`tests/storage/conversations/test_store.py`); a page reads no more than it shows
(`tests/storage/conversations/test_pages.py`); a locked conversation never expires
(`tests/storage/conversations/test_expiry.py`).
"""
