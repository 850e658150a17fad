"""Make a call through the pool until one account answers.

Words. Attempt: one try on one account. Failover: another attempt after a fault, on another account or, after a stale
connection, on the same. Retry budget: the share of calls that may be sent again in an outage. Answer: a 2xx answer
whose first bytes have come.

Entry point: `upstream_client.UpstreamClient`, given an `upstream_call.UpstreamCall`.

Invariants:
* Failover ends at the answer's first byte, except of bytes that report a fault: tests/upstream/call/test_answer.py,
  tests/upstream/call/test_upstream_client.py.
* A call is generated twice at the most, unless upstream reports that it failed: tests/upstream/call/test_retry_rule.py.
* An outage is not multiplied by retries: tests/upstream/call/test_retry_rule.py.
"""
