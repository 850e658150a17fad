"""Store the usage of calls: an entry for each call, and sums by the hour and by the day.

Words: an *entry* is the row of one call: tokens, cost, latency, outcome; *sums* add entries by caller, model and
upstream; an *unrecorded* response is stored without an entry, as its process was killed; the *sweep* finds it.

Entry points: `store.UsageStore`; `writes` has RecordUsage and PurgeUsage, `hourly_sums.HourlySums` what an entry adds
to which sum, `daily_sums` the triggers of the day sums, `budget_recovery.charge` the budgets of unrecorded calls.

Invariants: a stored response has one entry, also after a crash, and sums equal their entries
(`tests/storage/usage/test_store.py`, `tests/storage/usage/test_usage_recovered.py`,
`tests/live/test_usage_adds_up.py`); day sums equal the hours' (`tests/storage/usage/test_daily_sums.py`); no budget is
charged twice (`tests/storage/usage/test_budget_recovery.py`); sums name only models that have answered
(`tests/storage/usage/test_usage_models.py`).
"""
