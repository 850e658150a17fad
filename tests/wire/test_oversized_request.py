"""The words by which servers say that one request is larger than the limit itself, and those that only ask to wait."""

import pytest

from app.wire.oversized_request import is_oversized
from app.wire.upstream_errors import ParsedError

LARGER = [
    (
        "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 31538. "
        "The input or output tokens must be reduced in order to run successfully.."
    ),
    "Request too large for gpt-4.1-2025-04-14 (for limit gpt-4.1) on TPM: Limit 30000, Requested 37313.",
    (
        "Request too large for model `llama-3.1-8b-instant` in organization `org_x` on tokens per "
        "minute (TPM): Limit 6000, Requested 6294, please reduce your message size and try again."
    ),
    "Request body too large for gpt-4o model. Max size: 8000 tokens.",
    "Request too large.",
    "The prompt is too long: 210000 tokens > 200000 maximum",
    "Rate limit reached on tokens per min: Limit 30,000, Used 0, Requested 40,000. Please try again in 20s.",
    "TPM limit: 30_000; requested: 40_000",
    "A single request exceeds the tokens per minute of this deployment.",
    "The request is larger than your rate limit.",
]
WAITING = [
    (
        "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29937, "
        "Requested 385. Please try again in 644ms."
    ),
    "Rate limit reached on tokens per min: Limit 30000, Used 1, Requested 30000.",
    (
        "Requests to the Responses_Create Operation have exceeded token rate limit of your current pricing tier. "
        "Please retry after 86400 seconds."
    ),
    (
        "This request would exceed the rate limit for your organization of 20,000 input tokens per minute. "
        "Please reduce the prompt length or the maximum tokens requested, or try again later."
    ),
    "Too many tokens, please wait before trying again.",
    "Too many requests.",
    "The request queue is too long.",
    "Your request took too long.",
    "Resource has been exhausted (e.g. check quota).",
    "Slow down: limit 10, requested none.",
    "",
]


@pytest.mark.parametrize("message", LARGER)
def test_a_request_that_no_wait_makes_fit_is_known_by_its_words(message: str) -> None:
    assert is_oversized(ParsedError(message, "rate_limit_exceeded", "tokens"))


@pytest.mark.parametrize("message", WAITING)
def test_a_limit_that_is_over_in_time_is_only_a_limit(message: str) -> None:
    assert not is_oversized(ParsedError(message, "rate_limit_exceeded", "tokens"))


@pytest.mark.parametrize("name", ["request_too_large", "context_length_exceeded", "TOKENS_LIMIT_REACHED"])
def test_a_request_that_no_wait_makes_fit_is_known_by_its_code_or_type(name: str) -> None:
    assert is_oversized(ParsedError("No.", code=name))
    assert is_oversized(ParsedError("No.", type=name))
