"""Serve /admin/v1, the REST API of administrators: parse a form, call `administration`, answer with a view.

Form: the body or query of a call as a pydantic model. View: the JSON members of a record (`administration.views`).
Actor: who administers, the master key's holder or an API key with an admin scope.

Entry points: `admin_routes.ADMIN` (all calls as a table) and `admin_routes.add_admin_routes`.

* Every route authenticates an administrator as a part of itself: tests/architecture/test_route_table.py.
* admin:read changes nothing: tests/api/test_dependencies.py.
* An unknown member or parameter is refused by name: tests/api/test_admin_refusals.py.
* A secret is in an answer only when it is made: tests/api/test_admin_keys.py, tests/api/test_admin_upstreams.py.
"""
