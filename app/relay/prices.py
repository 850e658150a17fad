"""What calls cost: the operator's prices, else the public ones. Must not know who pays.

Costs are whole nano-dollars. Tokens alone are counted: what a search or a stored file costs is not known here.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from app.settings_prices import PriceSettings
from app.state.records import Usage
from app.upstream.account import upstream_name

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices

# Prices are looked up anew after this time: lists have dates from which, and hours at which, a price holds.
_KEPT_SECONDS = 600.0
# Clients name models: of more names than this none is kept.
_MOST_NAMES = 1000
_PICO = 1000
_PICO_PER_USD_A_MILLION = 1_000_000

Steps = tuple[tuple[int, int], ...]
"""Picodollars a token, from this many input tokens of the call on; the highest step first, the last from 0 on."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What the tokens of one model cost."""

    input: Steps
    cached_input: Steps
    output: Steps

    def cost(self, usage: Usage) -> int:
        """What this usage costs, in nano-dollars."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        picos = (
            (usage.input_tokens - cached) * _at(self.input, usage.input_tokens)
            + cached * _at(self.cached_input, usage.input_tokens)
            + usage.output_tokens * _at(self.output, usage.input_tokens)
        )
        return (picos + _PICO // 2) // _PICO


class Prices:
    """Knows what a call costs. `overrides` are the operator's prices, the first that matches counts."""

    def __init__(self, overrides: Sequence[PriceSettings]) -> None:
        self._overrides = tuple(overrides)
        self._known: dict[tuple[str | None, str, str | None], Rates | None] = {}
        self._known_until = 0.0

    async def cost(self, model_served: str | None, model: str, usage: Usage | None, account: str | None) -> int | None:
        """Nano-dollars; None where the usage or the model's price is not known.

        `model_served` is the model that upstream said it was, `model` the one that was asked for, `account` the one
        that served it.
        """
        if usage is None:
            return None
        rates = await self.rates(model_served, model, account)
        return None if rates is None else rates.cost(usage)

    async def load(self) -> None:
        """Load the public list beside the event loop (140 ms), so that no call waits for it."""
        await asyncio.to_thread(_public, ())

    async def rates(self, model_served: str | None, model: str, account: str | None) -> Rates | None:
        """What the tokens of such a call cost; None where that is not known."""
        upstream = None if account is None else upstream_name(account)
        key = (model_served, model, upstream)
        if time.monotonic() > self._known_until or len(self._known) >= _MOST_NAMES:
            self._known = {}
            self._known_until = time.monotonic() + _KEPT_SECONDS
        if key not in self._known:
            names = [name for name in (model_served, model) if name]
            self._known[key] = self._overriding(names, upstream) or await asyncio.to_thread(_public, names)
        return self._known[key]

    def _overriding(self, names: Sequence[str], upstream: str | None) -> Rates | None:
        for price in self._overrides:
            if price.upstream in (None, upstream) and any(fnmatchcase(name, price.model) for name in names):
                cached_input = price.input if price.cached_input is None else price.cached_input
                return Rates(_steps(price.input), _steps(cached_input), _steps(price.output))
        return None


def _public(names: Sequence[str]) -> Rates | None:
    """The rates of the first of these models that the public lists know. Blocking."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - it takes long to load

    public = get_snapshot()
    for name in names:
        try:
            _, model = public.find_provider_model(name, None, None, None)
        except LookupError:
            continue
        price = model.get_prices(datetime.now(UTC))
        if price.input_mtok is None or price.output_mtok is None:
            continue
        cached = price.input_mtok if price.cache_read_mtok is None else price.cache_read_mtok
        return Rates(_steps(price.input_mtok), _steps(cached), _steps(price.output_mtok))
    return None


def _steps(price: "float | Decimal | TieredPrices") -> Steps:
    if isinstance(price, float | Decimal):
        return ((0, _pico(price)),)
    # A tier is for calls with more input tokens than its start, and then for all of their tokens.
    return (*((tier.start + 1, _pico(tier.price)) for tier in reversed(price.tiers)), (0, _pico(price.base)))


def _pico(usd_a_million: float | Decimal) -> int:
    return round(usd_a_million * _PICO_PER_USD_A_MILLION)


def _at(steps: Steps, input_tokens: int) -> int:
    pico = 0
    for start, pico in steps:  # noqa: B007 (it is what is returned)
        if input_tokens >= start:
            break
    return pico
