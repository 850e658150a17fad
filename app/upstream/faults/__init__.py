"""Judge what a failed attempt says of the account, and make the error for the client.

Words. Fault: the cause of a failed attempt, with a blame (key, quota, rate, server, ...). Local fault: a fault of this
machine, which blames no account. Rest: the time that upstream asks for before the next call.

Entry points: `classification.fault_of_exception`, `classification.fault_of_status`, `in_body.fault_in_body`,
`in_body.fault_in_event`, and the errors in `pool_exhausted`.

Invariants:
* A client's fault is passed on, and blames no account: tests/upstream/faults/test_classification.py.
* An error in the body outranks a status of success: tests/upstream/faults/test_in_body.py.
* A wait is read from headers in the SDKs' order, and bounded: tests/upstream/faults/test_retry_after.py.
"""
