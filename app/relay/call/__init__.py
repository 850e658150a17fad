"""Prepare one call, render its body for an account, settle its turn and deliver its answer.

Words: the *exchange* records a call from admitted to settled; the *chain* is what it continues; a *grant* is what it
reserved of its limits; a *sealed compaction* is an item that stands for a context and that only this gateway can open.

Entry points: `prepare.Preparer.prepare`, `exchange.Exchange.render`, `settle.Settler.settle`, for background runs, too;
`stream_or_whole_answer.AnswerDelivery.deliver`.

* A history is reserved before it is read, and refused over its limit: tests/relay/call/test_prepare.py.
* A turn that only one account can read goes to that account: tests/relay/call/test_prepare.py.
* A commit that fails is raised, and nothing is announced: tests/relay/call/test_settle.py.
* The client gets the form that it asked for: tests/live/test_answer_forms.py.
"""
