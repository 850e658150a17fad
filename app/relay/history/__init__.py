"""Find the earlier turns that a call continues, and save its own.

Words: a *history* reads chains and items and saves turns; the *stored history* is in the database; a *lane* is one
sequence of turns on a WebSocket, whose latest may be unstored; a *lock* makes a call a conversation's one writer.

Entry points: `base.History` (the protocol), `stored.StoredHistory`, `conversation.Conversations`, `lane.Lanes`.

* A conversation has one writer at a time, across replicas: tests/live/test_conversation_replicas.py.
* A conversation's turn and its response are one commit: tests/storage/conversations/test_turn_commit.py.
* What lanes hold is bounded, and no lane evicts another's share: tests/relay/history/test_lane.py.
"""
