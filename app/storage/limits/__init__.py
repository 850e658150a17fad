"""Count what is used of rate limits, stream limits and budgets: in the database, in memory or in Valkey.

Words: a *count* is what is used in a window; a *claim* asks for an amount; a *correction* adds what a call used beyond
its claim, or gives back; to *reconcile* is to correct after the call; a *stream* is a lease; a *budget* lasts longer
than a minute and is always in the database.

Entry points: `backend.LimitBackend` chooses among `database_counts`, `memory_counts`, `valkey_counts` and
`split_counts`, which all implement `app.state.limit_windows.Counts`.

Invariants: a limit of N grants N over all processes, and all claims of a call or none
(`tests/storage/limits/test_limit_counts.py`, `tests/storage/limits/test_limit_rules.py`); a killed process's streams
end by themselves, and a reconciliation that fails is made later, once (`tests/storage/limits/test_database_counts.py`);
Valkey's failure grants nothing (`tests/storage/limits/test_valkey_counts.py`,
`tests/storage/limits/test_split_counts.py`).
"""
