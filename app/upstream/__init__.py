"""Call the upstreams: choose an account, send the request, judge what fails, try the next. Only this room knows httpx.

Words. Upstream: a Responses API, or a chat completions server, behind the gateway. Account: an upstream with one of
its keys, named by both. Pool: all accounts. Checkout: one call in flight on an account. Cooldown: the time in which an
account is not used. Fault: why an attempt failed. Transport: what carries requests: our HTTP client, a model in this
process, or a translation around one of the two.

Entry points: `call.upstream_client.UpstreamClient.open`, `model_catalogue.ModelCatalogue`.

Invariants:
* Nothing a client sends chooses a destination: tests/upstream/test_credentials.py, tests/live/test_destinations.py.
* Headers pass allow-lists both ways, without the upstream key: tests/upstream/test_headers.py.
* An account keeps its name across restarts: tests/upstream/test_account.py.
"""
