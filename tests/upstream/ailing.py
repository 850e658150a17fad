"""What is done to accounts in the tests of their health, and what can be seen of it."""

from typing import Any

from app.upstream.account import Account
from app.upstream.choice import Wish
from app.upstream.faults import Blame
from app.upstream.lease import Lease
from app.upstream.pool import Pool
from tests.upstream.rig import fault

WISH = Wish(model="m")


def fail(pool: Pool, account: Account, blame: Blame, rest: float | None = None) -> None:
    """A call on this account that failed."""
    lease = pool.lease(account)
    pool.fail(lease, fault(blame, rest))
    lease.end()


def serve(pool: Pool, account: Account) -> None:
    """A call on this account that was answered."""
    lease = pool.lease(account)
    pool.serve(lease, {})
    lease.end()


def usable(pool: Pool, **wish: Any) -> set[str]:
    """The accounts that a call could be tried on."""
    tried: set[str] = set()
    while (lease := pool.take(Wish(**{"model": "m", **wish}), tried)) is not None:
        tried.add(lease.account.name)
        lease.end()
    return tried


def probe(pool: Pool) -> Lease:
    lease = pool.take(WISH)
    assert lease is not None
    assert lease.probed is not None
    return lease


def names(*accounts: Account) -> set[str]:
    return {account.name for account in accounts}
