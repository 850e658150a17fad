"""Price calls in whole nano-dollars: by the operator's prices, else by the public list.

Priced are tokens, in the tier that served them, and searches. The cost of code execution and of stored files is not
known here.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from app.settings.prices import PriceSettings
from app.settings.upstreams import Surface, UpstreamSettings
from app.state.records import TokenUsage
from app.upstream.account import serves, upstream_name

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices

# Prices are looked up anew after this time: lists have dates from which, and hours at which, a price holds.
_KEPT_SECONDS = 600.0
# Clients make up model names: the cache is emptied when it has so many.
_MOST_NAMES = 1000
_PICO = 1000
_PICO_PER_USD_A_MILLION = 1_000_000
_PICO_PER_USD_A_THOUSAND = 1_000_000_000
# The price of a token written to the cache, as a multiple of an input token's; where a list has no other.
_CACHE_WRITE = 1.25
# Tiers that cost what is listed without a tier.
_STANDARD_TIERS = frozenset({"auto", "default"})
_GLOB = frozenset("*?[")
_WITHOUT_OUTPUT = frozenset({"embeddings", "moderations"})

_log = structlog.get_logger("antiphon.prices")

Steps = tuple[tuple[int, int], ...]
"""Picodollars a token, from this many input tokens of the call on; the highest step first, the last from 0 on."""

_Asked: TypeAlias = tuple[str | None, str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold what a model's tokens cost in one tier, and a search (in picodollars).

    A model that only embeds has no price of an output.
    """

    input: Steps
    cached_input: Steps
    cache_write: Steps
    output: Steps | None
    web_search: int = 0
    file_search: int = 0

    def cost(self, usage: TokenUsage) -> int | None:
        """Return what this usage costs, in nano-dollars; None where it has an output without a price."""
        if self.output is None and usage.output_tokens:
            return None
        given = usage.input_tokens
        cached = min(usage.cached_tokens, given)
        written = min(usage.cache_write_tokens, given - cached)
        picos = (
            (given - cached - written) * _at(self.input, given)
            + cached * _at(self.cached_input, given)
            + written * _at(self.cache_write, given)
            + (0 if self.output is None else usage.output_tokens * _at(self.output, given))
            + usage.web_searches * self.web_search
            + usage.file_searches * self.file_search
        )
        return (picos + _PICO // 2) // _PICO


class Prices:
    """Price a call. `overrides` are the operator's prices, the first that matches counts.

    `upstreams` returns the upstreams that are served now.
    """

    def __init__(
        self, overrides: Sequence[PriceSettings], upstreams: Callable[[], Sequence[UpstreamSettings]] = tuple
    ) -> None:
        self._overrides = tuple(overrides)
        self._upstreams = upstreams
        self._known: dict[_Asked, Rates | None] = {}
        self._known_until = 0.0

    async def cost(
        self,
        model_served: str | None,
        model: str,
        usage: TokenUsage | None,
        account: str | None,
        tier: str | None = None,
    ) -> int | None:
        """Return nano-dollars; None where the usage or the model's price is not known.

        `model_served` is the model that upstream named, `model` the requested one, `account` the account that served
        the call, `tier` the service tier.
        """
        if usage is None:
            return None
        rates = await self.rates(model_served, model, account, tier)
        return None if rates is None else rates.cost(usage)

    async def quote(
        self, model: str, usage: TokenUsage, tier: str | None, surface: Surface = "responses"
    ) -> int | None:
        """Return a call's cost at the dearest upstream that may serve this model; None where one has no price.

        Where none serves it, its name alone decides. A call that may have an output needs its price, and a moderation
        without a price is free, as OpenAI's are.
        """
        routes: list[tuple[str | None, str | None]] = [
            (each.aliases.get(model), each.name) for each in self._upstreams() if serves(each, model, surface)
        ]
        costs: list[int] = []
        for served, upstream in routes or [(None, None)]:
            rates = await self.rates(served, model, upstream, tier)
            is_priced = rates is not None and (rates.output is not None or surface in _WITHOUT_OUTPUT)
            cost = rates.cost(usage) if rates is not None and is_priced else None
            if cost is None and surface == "moderations":
                cost = 0
            if cost is None:
                return None
            costs.append(cost)
        return max(costs)

    async def load(self) -> None:
        """Load the public list beside the event loop (140 ms), so that no call waits for it.

        The log names the models that upstreams name explicitly, not by a glob, and that have no known price.
        """
        await asyncio.to_thread(_public, (), None)
        if gc.get_freeze_count():
            # In a process that has frozen what it began with, this joins it: full collections would walk its 20,000
            # objects in vain. What calls hold now is freed all the same, but for cycles.
            gc.freeze()
        if unpriced := await self._unpriced():
            _log.warning(
                "no price is known of some models: keys with a budget in dollars may not use them, unless "
                "ANTIPHON_ALLOW_UNPRICED_MODELS says so",
                models=unpriced,
            )

    async def _unpriced(self) -> list[str]:
        unknown: dict[str, None] = {}
        for upstream in self._upstreams():
            named = [name for name in upstream.models if _GLOB.isdisjoint(name)]
            for model in (*named, *upstream.aliases):
                if await self.rates(upstream.aliases.get(model), model, upstream.name) is None:
                    unknown[f"{upstream.name}: {model}"] = None
        return [*unknown]

    async def rates(
        self, model_served: str | None, model: str, account: str | None, tier: str | None = None
    ) -> Rates | None:
        """Return the rates of such a call; None where they are not known."""
        upstream = None if account is None else upstream_name(account)
        tier = None if tier in _STANDARD_TIERS else tier
        key = (model_served, model, upstream, tier)
        if time.monotonic() > self._known_until or len(self._known) >= _MOST_NAMES:
            self._known = {}
            self._known_until = time.monotonic() + _KEPT_SECONDS
        if key not in self._known:
            names = [name for name in (model_served, model) if name]
            found = self._overriding(names, upstream, tier) or await asyncio.to_thread(_public, names, tier)
            self._known[key] = found
        return self._known[key]

    def _overriding(self, names: Sequence[str], upstream: str | None, tier: str | None) -> Rates | None:
        for price in self._overrides:
            if (
                price.upstream in (None, upstream)
                and price.service_tier in (None, tier)
                and any(fnmatchcase(name, price.model) for name in names)
            ):
                return _rates(
                    price.input,
                    price.cached_input,
                    price.cache_write,
                    price.output,
                    web_search=price.web_search,
                    file_search=price.file_search,
                )
        return None


def _public(names: Sequence[str], tier: str | None) -> Rates | None:
    """Return the rates of the first of these models that the public list has. Blocking."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - it takes long to load

    public = get_snapshot()
    for name in names:
        model = _listed(public, name)
        if model is None:
            continue
        price: Any = model.get_prices(datetime.now(UTC), None if tier is None else {"service_tier": tier})
        # A model has only the prices that its vendor charges.
        priced = vars(price).get
        given, made = priced("input_mtok"), priced("output_mtok")
        if given is None:
            continue
        return _rates(
            given,
            priced("cache_read_mtok"),
            priced("cache_write_mtok"),
            made,
            web_search=priced("web_searches_kcount"),
            file_search=priced("storage_searches_kcount"),
        )
    return None


def _listed(public: Any, name: str) -> Any:
    """Return the model of this name; None where there is none. OpenAI's models that embed are no provider's by name."""
    for provider in (None, "openai"):
        with suppress(LookupError):
            return public.find_provider_model(name, None, provider, None)[1]
    return None


_Price: TypeAlias = "float | Decimal | TieredPrices"
_PriceIfAny: TypeAlias = "float | Decimal | TieredPrices | None"


def _rates(
    given: _Price,
    cached: _PriceIfAny,
    written: _PriceIfAny,
    made: _PriceIfAny,
    *,
    web_search: _PriceIfAny,
    file_search: _PriceIfAny,
) -> Rates:
    plain = _steps(given)
    return Rates(
        plain,
        plain if cached is None else _steps(cached),
        tuple([(start, round(pico * _CACHE_WRITE)) for start, pico in plain]) if written is None else _steps(written),
        None if made is None else _steps(made),
        _search(web_search),
        _search(file_search),
    )


def _steps(price: _Price) -> Steps:
    if isinstance(price, float | Decimal):
        return ((0, _pico(price)),)
    # A tier is for calls with more input tokens than its start, and then for all of their tokens.
    return (*((tier.start + 1, _pico(tier.price)) for tier in reversed(price.tiers)), (0, _pico(price.base)))


def _search(price: _PriceIfAny) -> int:
    if price is None:
        return 0
    return round((price if isinstance(price, float | Decimal) else price.base) * _PICO_PER_USD_A_THOUSAND)


def _pico(usd_a_million: float | Decimal) -> int:
    return round(usd_a_million * _PICO_PER_USD_A_MILLION)


def _at(steps: Steps, input_tokens: int) -> int:
    pico = 0
    for start, pico in steps:  # noqa: B007 (it is what is returned)
        if input_tokens >= start:
            break
    return pico
