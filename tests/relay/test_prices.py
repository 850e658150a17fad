"""What calls cost: the operator's prices before the public ones, and nothing made up."""

import asyncio
import sys

from app.relay.prices import Prices
from app.settings_prices import PriceSettings
from app.state.records import Usage

# $2.5 a million input tokens, $1.25 of them cached, $10 output tokens.
GPT_4O = 600 * 2_500 + 400 * 1_250 + 100 * 10_000


def used(input_tokens: int = 1000, cached: int = 400, output_tokens: int = 100) -> Usage:
    return Usage(input_tokens, output_tokens, input_tokens + output_tokens, cached, 7)


async def test_a_public_price_counts_cached_input_as_such() -> None:
    assert await Prices(()).cost("gpt-4o-2024-08-06", "fast", used(), "openai") == GPT_4O


async def test_the_public_list_is_loaded_before_any_call_needs_it() -> None:
    script = (
        "import asyncio, sys; from app.relay.prices import Prices; before = 'genai_prices' in sys.modules; "
        "asyncio.run(Prices(()).load()); from genai_prices import data_snapshot; "
        "print(before, data_snapshot._bundled_snapshot.cache_info().currsize)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()
    assert told.split() == [b"False", b"1"]


async def test_the_model_asked_for_is_the_price_where_upstream_names_none_that_is_known() -> None:
    prices = Prices(())
    assert await prices.cost("internal-7", "gpt-4o", used(), "openai") == GPT_4O
    assert await prices.cost(None, "gpt-4o", used(), None) == GPT_4O


async def test_an_unknown_price_is_none_and_not_nothing() -> None:
    prices = Prices(())
    assert await prices.cost("house-model", "house-model", used(), "main") is None
    assert await prices.cost("gpt-4o", "gpt-4o", None, "main") is None


async def test_the_first_of_the_operators_prices_that_matches_counts() -> None:
    prices = Prices(
        [
            PriceSettings(model="gpt-4o*", upstream="cheap", input=1, cached_input=0.5, output=2),
            PriceSettings(model="house-*", input=0.029, output=0),
            PriceSettings(model="house-*", input=7, output=7),
        ]
    )
    assert await prices.cost("gpt-4o", "gpt-4o", used(), "cheap") == 600 * 1000 + 400 * 500 + 100 * 2000
    assert await prices.cost("gpt-4o", "gpt-4o", used(), "openai") == GPT_4O
    assert await prices.cost("house-7", "gpt-4o", used(), "main") == 1000 * 29
    assert await prices.cost("other", "house-alias", used(), "main") == 1000 * 29


async def test_what_is_free_costs_nothing_and_is_known() -> None:
    prices = Prices([PriceSettings(model="*", input=0, output=0)])
    assert await prices.cost("demo", "demo", used(), "demo") == 0


async def test_a_long_context_costs_its_tier_for_all_of_its_tokens() -> None:
    prices = Prices(())
    short, long = used(200_000, 0, 10), used(200_001, 0, 10)
    assert await prices.cost("gemini-2.5-pro", "g", short, "google") == 200_000 * 1_250 + 10 * 10_000
    assert await prices.cost("gemini-2.5-pro", "g", long, "google") == 200_001 * 2_500 + 10 * 15_000


async def test_more_cached_tokens_than_input_tokens_are_not_believed() -> None:
    prices = Prices([PriceSettings(model="*", input=4, cached_input=1, output=0)])
    assert await prices.cost("m", "m", used(10, 50, 0), None) == 10 * 1000


async def test_clients_that_name_many_models_do_not_fill_the_memory() -> None:
    prices = Prices([PriceSettings(model="*", input=1, output=1)])
    for number in range(2500):
        assert await prices.cost(None, f"model-{number}", used(1, 0, 0), None) == 1000
    assert len(prices._known) <= 1000
