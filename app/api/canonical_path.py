"""Correct the known mistakes of base URLs in the path of a request, before routes are matched."""

_API_ROOTS = ("/responses", "/models", "/conversations")
_ADMIN_ROOT = "/admin"


def canonical_path(raw_path: bytes) -> str:
    """Return the path that routes are matched with: the path as sent, less the known mistakes of base URLs.

    The mistakes are a slash at the end, a second slash behind `/v1`, and no `/v1` at all. Nothing is decoded (a route
    decodes the ids in its path, `routes.LiteralRoute`), no dots are resolved, and `/admin` has one spelling alone: a
    proxy's rule about a path holds for all that is served there.
    """
    path = raw_path.decode("latin-1")
    if path.startswith(_ADMIN_ROOT):
        return path
    if path.endswith("/") and len(path) > 1:
        path = path[:-1]
    if path.startswith("/v1//"):
        path = f"/v1{path[4:]}"
    if path.startswith(_API_ROOTS):
        path = f"/v1{path}"
    return path
