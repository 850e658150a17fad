"""Serve responses: one create call from accepted to settled, and all that surrounds it.

Words: a *call* is admitted, metered and recorded, whatever it asks; its *exchange* is the request with the state that
it builds on; to *settle* is to commit a turn's outcome; an *admitted call* holds one of the process's slots.

Entry points: `serve.Relay` (foreground), `warm_up.WarmUps`, `background.service.BackgroundResponses`,
`context.compact_and_count_calls.ContextCalls`, `idempotency.keyed_calls.Idempotency`.

* The terminal event, or the 200, leaves only after the commit: tests/live/test_commit_order.py.
* No database connection is held while bytes flow: tests/live/test_connections_held.py.
* What clients were shown stays true in any order of calls and crashes: tests/live/test_lifecycle_rules.py.
"""
