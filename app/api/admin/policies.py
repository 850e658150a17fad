"""Policies as bodies: which members there are and of what type. What they may say is administration's matter."""

from pydantic import Field

from app.api.admin.forms import Body
from app.state.policy import Period, Scope


class BudgetBody(Body):
    """What may be spent in a period."""

    period: Period
    tokens: int | None = None
    usd: float | None = None


class LimitsBody(Body):
    """How much; null is without limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_streams: int | None = None
    max_output_tokens: int | None = None
    budgets: list[BudgetBody] = Field([])


class ProjectPolicyBody(Body):
    """What all keys of a project may do together."""

    models: list[str] = Field([])
    limits: LimitsBody = LimitsBody()


class KeyPolicyBody(ProjectPolicyBody):
    """What one key may do."""

    scopes: list[Scope] = Field([])
    addresses: list[str] = Field([])
