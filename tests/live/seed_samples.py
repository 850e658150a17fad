"""The reference page of "Create response" as data: its code samples, its parameters and its response fields."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent

from tests.fakes.gateway import LiveGateway

T = TypeVar("T")

MODEL = "demo"

LANGUAGES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "languages": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "use_case": {"type": "string"}},
                "required": ["name", "use_case"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["languages"],
    "additionalProperties": False,
}

# The order in which the page lists the events of a stream.
EVENTS = (
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
)

PARAMETERS = frozenset(
    {
        *("model", "input", "instructions", "background", "context_management", "conversation", "include"),
        *("max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls", "previous_response_id", "prompt"),
        *("prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store"),
        *("stream", "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p"),
        *("truncation", "user"),
    }
)

RESPONSE_FIELDS = frozenset(
    {
        *("id", "object", "created_at", "status", "background", "completed_at", "error", "incomplete_details"),
        *("instructions", "max_output_tokens", "model", "output", "output_text", "parallel_tool_calls"),
        *("previous_response_id", "reasoning", "service_tier", "store", "temperature", "text", "tool_choice", "tools"),
        *("top_p", "truncation", "usage", "user", "metadata", "content_filters", "frequency_penalty"),
        *("max_tool_calls", "presence_penalty", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
        "top_logprobs",
    }
)


async def ask(gateway: LiveGateway, sample: Callable[[OpenAI], T]) -> T:
    """Run a sample as its reader would: with the blocking client, against the gateway in place of the page's host."""

    def run() -> T:
        with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as client:
            return sample(client)

    return await asyncio.to_thread(run)


def basic(client: OpenAI) -> Response:
    return client.responses.create(
        model=MODEL,
        input="Tell me a three sentence bedtime story about a unicorn.",
    )


def two_turns(client: OpenAI) -> tuple[Response, Response]:
    # First turn
    response = client.responses.create(
        model=MODEL,
        input="What is quantum computing?",
    )

    # Second turn — previous context is included automatically
    follow_up = client.responses.create(
        model=MODEL,
        input="Can you explain that more simply?",
        previous_response_id=response.id,
    )
    return response, follow_up


def built_in_tool(client: OpenAI) -> Response:
    return client.responses.create(
        model=MODEL,
        input="Find the current price of Bitcoin",
        tools=[{"type": "web_search_preview"}],
    )


def function_call(client: OpenAI) -> Response:
    return client.responses.create(
        model=MODEL,
        input="What's the weather in Tokyo?",
        tools=[
            {  # type: ignore[list-item]  # as on the page: without `strict`
                "type": "function",
                "name": "get_weather",
                "description": "Get current weather for a location",
                "parameters": {
                    "type": "object",
                    "properties": {"location": {"type": "string"}},
                    "required": ["location"],
                },
            }
        ],
    )


def structured_output(client: OpenAI) -> Response:
    return client.responses.create(
        model=MODEL,
        input="List 3 programming languages with their main use cases",
        text={
            "format": {
                "type": "json_schema",
                "name": "languages",
                "strict": True,
                "schema": LANGUAGES,
            }
        },
    )


def reasoning(client: OpenAI) -> Response:
    return client.responses.create(
        model=MODEL,
        input="Solve this step by step: if f(x) = x^3 - 6x^2 + 11x - 6, find all roots.",
        reasoning={"effort": "high"},  # "low", "medium", or "high"
    )


def streaming(client: OpenAI) -> tuple[list[ResponseStreamEvent], str]:
    stream = client.responses.create(
        model=MODEL,
        input="Write a haiku about coding",
        stream=True,
    )

    events, printed = [], ""
    for event in stream:
        events.append(event)
        if event.type == "response.output_text.delta":
            printed += event.delta
    return events, printed
