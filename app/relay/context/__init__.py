"""Compact contexts, and count their tokens, where upstream does not.

Words: a *compaction* is an item that stands for the context before it; a *summary* is what a model writes for it; a
*trigger* is an input item that asks for a compaction; a *threshold* is the size from which a client wants one.

Entry points: `compaction.Compactor` (for create calls), `compact_and_count_calls.ContextCalls`; `retained_messages`
chooses what a summary does not replace.

* A summary is paid for once, and has its own usage entry: tests/live/test_summaries_paid.py.
* The cache of summaries is bounded, for each project: tests/relay/context/test_summary_cache.py.
* Instructions, and the user's newest messages, stay word for word: tests/relay/context/test_retained_messages.py.
* A compaction stands for the whole context or is not made: tests/live/test_context_management.py.
"""
