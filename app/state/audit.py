"""Record an administrator's change. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Record who did what to whom, when (unix seconds) and from where. `details` is a JSON object without secrets."""

    id: str
    at: int
    actor: str
    address: str | None
    action: str
    subject: str
    details: bytes
