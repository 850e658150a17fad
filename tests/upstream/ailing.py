"""What is done to accounts in the tests of their health, and what can be seen of it."""

from typing import Any

from app.upstream.account import Account
from app.upstream.faults.classification import Blame
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.pool import Pool
from app.upstream.pool.selection import PoolRequest
from tests.upstream.rig import fault

WISH = PoolRequest(model="m")


def fail(pool: Pool, account: Account, blame: Blame, rest: float | None = None) -> None:
    """A call on this account that failed."""
    checkout = pool.checkout(account)
    pool.fail(checkout, fault(blame, rest))
    checkout.end()


def serve(pool: Pool, account: Account) -> None:
    """A call on this account that was answered."""
    checkout = pool.checkout(account)
    pool.serve(checkout, {})
    checkout.end()


def usable(pool: Pool, **wish: Any) -> set[str]:
    """The accounts that a call could be tried on."""
    tried: set[str] = set()
    while (checkout := pool.take(PoolRequest(**{"model": "m", **wish}), tried)) is not None:
        tried.add(checkout.account.name)
        checkout.end()
    return tried


def probe(pool: Pool) -> Checkout:
    checkout = pool.take(WISH)
    assert checkout is not None
    assert checkout.probed is not None
    return checkout


def names(*accounts: Account) -> set[str]:
    return {account.name for account in accounts}
