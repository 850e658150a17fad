"""Serve the gateway over HTTP: authenticate and bound each request, call the room that decides, send the answer.

Direct route: a plain ASGI endpoint that the middleware calls past the framework's router. Scope: the right that a key
needs for a route (`state.policies.Scope`), or ASGI's dict of a request. Held: bytes of the budget that are reserved for
a call until its answer is written. Services: the objects that endpoints call.

Entry points: `application.Application` (the app behind `middleware.RequestMiddleware`), `routes.API` (all of /v1).

* Every route authenticates, whatever its path: tests/architecture/test_route_table.py, tests/api/test_dependencies.py.
* A body is bounded, and reserved before it is read: tests/api/test_request_body.py,
  tests/api/test_request_body_budget.py.
* A client's address is its socket's, or what one trusted header says clearly: tests/api/test_client_address.py.
* `/admin` has one spelling; each request has one log line, without ids of objects: tests/api/test_middleware.py.
* A prompt is freed with the answer of its call: tests/api/test_freed.py.
"""
