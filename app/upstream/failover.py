"""What one call may still try after a fault. Must not know which accounts are well, nor make a call."""

from collections.abc import Callable

from app.upstream.account import Account, upstream_name
from app.upstream.faults import Fault


class Failover:
    """One call's.

    An account that is out (its key, its quota, its rate, its model) costs nothing, and one that cannot be reached has
    done nothing. After any other fault upstream may have done the work: it is asked once more, and pays for that.
    """

    def __init__(self, *, is_background: bool) -> None:
        self._is_background = is_background
        self._is_repeated = False
        self._is_stale = False
        self.tried: set[str] = set()
        self.lacking: list[tuple[Account, str]] = []
        self.again: Account | None = None
        self.may_wait = not is_background
        self.is_paid = False

    def allows(self, fault: Fault, account: Account, present: Callable[[], list[Account]]) -> bool:
        """Whether another account may be tried after this fault, or `again` the same one; and if that `is_paid` for."""
        self.again = None
        self.is_paid = fault.blame in {"server", "content"}
        self.may_wait &= not self.is_paid
        self.tried.add(account.name)
        match fault.blame:
            case "unreachable":
                # Its other keys lead to the same place.
                self.may_wait = False
                upstream = upstream_name(account.name)
                self.tried.update(other.name for other in present() if upstream_name(other.name) == upstream)
            case "model":
                self.lacking.append((account, fault.reason))
            case "server":
                return self._allows_one_more(fault, account)
        return True

    def _allows_one_more(self, fault: Fault, account: Account) -> bool:
        if fault.unanswered and not self._is_stale:
            # A connection that was kept may have been closed before the call came: that says nothing of the account.
            self._is_stale = True
            self.again = account
            return True
        if self._is_repeated or (self._is_background and fault.is_timeout):
            return False
        self._is_repeated = True
        return True
