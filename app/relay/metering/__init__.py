"""Limit calls before they are made, and record and price what they used after.

Words: a *grant* is what a call reserved of its limits; to *reconcile* is to correct it by what was used; a *usage
entry* is the record of one call; a *standing* is how much of a limit is used; a *claim* is what a call asks of a limit.

Entry points: `meter.Meter.call`, `limiter.Limiter`, `usage_recorder.UsageRecorder`, `prices.Prices`.

* A call gets all of its caller's limits or none: tests/relay/metering/test_limiter.py.
* A client that leaves pays for what it got: tests/relay/metering/test_meter.py.
* An entry is written once, and lost ones are recovered: tests/relay/metering/test_usage_recorder.py.
* No spelling of a member evades a limit: tests/relay/metering/test_limiter_synonyms.py.
"""
