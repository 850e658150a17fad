"""What calls cost: the operator's prices before the public ones, and nothing made up."""

import asyncio
import sys

from structlog.testing import capture_logs

from app.relay.metering.prices import Prices
from app.settings.prices import PriceSettings
from app.settings.upstreams import UpstreamSettings
from app.state.records import TokenUsage

# $2.5 a million input tokens, $1.25 of them cached, $10 output tokens.
GPT_4O = 600 * 2_500 + 400 * 1_250 + 100 * 10_000


def used(input_tokens: int = 1000, cached: int = 400, output_tokens: int = 100) -> TokenUsage:
    return TokenUsage(input_tokens, output_tokens, input_tokens + output_tokens, cached, 7)


async def test_a_public_price_counts_cached_input_as_such() -> None:
    assert await Prices(()).cost("gpt-4o-2024-08-06", "fast", used(), "openai") == GPT_4O


async def test_the_public_list_is_loaded_before_any_call_needs_it() -> None:
    script = (
        "import asyncio, sys; from app.relay.metering.prices import Prices; before = 'genai_prices' in sys.modules; "
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


async def test_what_is_written_to_the_cache_costs_a_quarter_more_where_no_list_says_otherwise() -> None:
    prices = Prices(
        [
            PriceSettings(model="own", input=4, cached_input=1, cache_write=7, output=0),
            PriceSettings(model="*", input=4, cached_input=1, output=0),
        ]
    )
    usage = TokenUsage(1000, 0, 1000, cached_tokens=100, cache_write_tokens=600)
    assert await prices.cost("m", "m", usage, None) == 300 * 4000 + 100 * 1000 + 600 * 5000
    assert await prices.cost("own", "own", usage, None) == 300 * 4000 + 100 * 1000 + 600 * 7000
    written = TokenUsage(1000, 0, 1000, cached_tokens=800, cache_write_tokens=600)
    assert await prices.cost("m", "m", written, None) == 800 * 1000 + 200 * 5000, "no token is paid for twice"


async def test_a_public_price_of_cache_writes_and_of_tiers_counts() -> None:
    prices = Prices(())
    plain, written = TokenUsage(4000, 0, 4000), TokenUsage(4000, 0, 4000, cache_write_tokens=4000)
    standard = await prices.cost("gpt-5.6", "gpt-5.6", plain, "openai")
    assert standard is not None
    assert await prices.cost("gpt-5.6", "gpt-5.6", written, "openai") == standard * 5 // 4
    assert await prices.cost("gpt-5.6", "gpt-5.6", plain, "openai", "default") == standard
    flex = await prices.cost("gpt-5.6", "gpt-5.6", plain, "openai", "flex")
    priority = await prices.cost("gpt-5.6", "gpt-5.6", plain, "openai", "priority")
    assert flex is not None
    assert priority is not None
    assert flex < standard < priority


async def test_an_operators_price_may_be_that_of_a_tier_alone() -> None:
    prices = Prices(
        [
            PriceSettings(model="m", service_tier="flex", input=1, output=1),
            PriceSettings(model="m", input=2, output=2),
        ]
    )
    assert await prices.cost("m", "m", used(10, 0, 0), None, "flex") == 10 * 1000
    assert await prices.cost("m", "m", used(10, 0, 0), None, "priority") == 10 * 2000
    assert await prices.cost("m", "m", used(10, 0, 0), None) == 10 * 2000


async def test_searches_are_paid_for() -> None:
    prices = Prices([PriceSettings(model="house", input=0, output=0, web_search=8)])
    searched = TokenUsage(0, 0, 0, web_searches=2, file_searches=1)
    assert await prices.cost("house", "house", searched, None) == 2 * 8_000_000
    # $10 and $2.5 a thousand.
    assert await prices.cost("gpt-4o", "gpt-4o", searched, "openai") == 2 * 10_000_000 + 2_500_000


async def test_a_quote_is_that_of_the_dearest_upstream_that_may_serve_the_model() -> None:
    upstreams = [
        UpstreamSettings(name="cheap", base_url="http://cheap.test", models=("fast", "m")),
        UpstreamSettings(name="dear", base_url="http://dear.test", models=("fast",), aliases={"fast": "gpt-4o"}),
        UpstreamSettings(name="local", base_url="http://local.test", models=("fast", "llama"), aliases={"llama": "x"}),
    ]
    overrides = [PriceSettings(model="fast", upstream="cheap", input=1, output=1)]
    prices = Prices(overrides, lambda: upstreams[:2])
    assert await prices.quote("fast", used(1000, 0, 0), None) == 1000 * 2500
    assert await prices.quote("m", used(), None) is None
    prices = Prices(overrides, lambda: upstreams)
    assert await prices.quote("fast", used(1000, 0, 0), None) is None, "one of them has no price for it"
    assert await prices.quote("gpt-4o", used(1000, 0, 0), None) == 1000 * 2500
    with capture_logs() as logs:
        await prices.load()
    assert [line["models"] for line in logs] == [["cheap: m", "local: fast", "local: llama"]]
    assert "ANTIPHON_ALLOW_UNPRICED_MODELS" in logs[0]["event"]


async def test_a_quote_asks_the_upstreams_of_the_surface() -> None:
    embedder = UpstreamSettings(
        name="embedder",
        base_url="http://127.0.0.1:9/v1",
        models=("small",),
        aliases={"small": "bge"},
        serves=["embeddings"],
    )
    prices = Prices([PriceSettings(model="bge", upstream="embedder", input=1, output=0)], lambda: [embedder])
    assert await prices.quote("small", used(1000, 0, 0), None, "embeddings") == 1_000_000
    assert await prices.quote("small", used(1000, 0, 0), None) is None
