"""Rules of the gateway, each as the line that keeps it, the line without it, and the tests that then have to fail.

A new rule is one more entry.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A rule taken out: in `file` this `line`, which stands there once, becomes `instead`."""

    rule: str
    file: str
    line: str
    instead: str
    caught_by: str


MUTANTS = (
    Mutant(
        "a request names its host",
        "app/server/head.py",
        'raise malformed("it has no Host header")',
        "return",
        "tests/server/test_head.py::test_a_request_names_one_host",
    ),
    Mutant(
        "what may be said once is not said twice",
        "app/server/head.py",
        "if name in joined and name in _ONCE:",
        "if not joined:",
        "tests/server/test_head.py::test_what_may_be_said_once_is_not_said_twice",
    ),
    Mutant(
        "trailers are bounded",
        "app/server/body.py",
        "_MOST_TRAILER_BYTES = 8192",
        "_MOST_TRAILER_BYTES = 1 << 40",
        "tests/server/test_body.py::test_trailers_are_bounded",
    ),
    Mutant(
        "a header of an address that is there twice tells none",
        "app/api/addresses.py",
        'hops = self._read(values[0].decode("latin-1")) if len(values) == 1 else None',
        'hops = self._read(values[0].decode("latin-1")) if values else None',
        "tests/api/test_addresses.py::test_a_header_that_is_missing_or_there_twice_tells_no_address",
    ),
    Mutant(
        "an IPv4 address has one form",
        "app/state/addresses.py",
        "return address.ipv4_mapped or IPv6Address(int(address))",
        "return IPv6Address(int(address))",
        "tests/api/test_addresses.py::test_the_address_of_a_socket_has_one_form",
    ),
    Mutant(
        "no error ends a background duty",
        "app/relay/duties.py",
        "except Exception as error:  # noqa: BLE001 (whatever it is: the next step may go well)",
        "except ApiError as error:",
        "tests/relay/test_duties.py::test_a_step_that_fails_is_made_again_and_each_change_is_logged_once",
    ),
    Mutant(
        "a member in another spelling is known for what it is",
        "app/state/synonyms.py",
        'return "".join(filter(str.isalnum, plain))',
        "return name",
        "tests/state/test_synonyms.py::test_a_name_that_is_read_as_another_is_known_for_it",
    ),
    Mutant(
        "what is remembered of a stream is bounded",
        "app/relay/fold.py",
        "if len(item) <= self._room:",
        "if item:",
        "tests/relay/test_fold.py::test_items_beyond_the_room_are_forgotten",
    ),
    Mutant(
        "a response that was only asked for shows no secret of its tools",
        "app/wire/echo.py",
        '"tools": shown(said.get("tools", ())),',
        '"tools": said.get("tools", []),',
        "tests/wire/test_echo.py::test_what_a_tool_authenticates_with_never_comes_back",
    ),
    Mutant(
        "what is kept of a call has no secret of its tools",
        "app/relay/settle.py",
        "raw = turn.secrets.hidden_in(raw)",
        "pass",
        "tests/live/test_tool_secrets.py::test_a_call_leaves_no_secret_behind",
    ),
    Mutant(
        "a queued call with secrets waits sealed",
        "app/relay/order.py",
        "request=sealer.seal(caller.project_id, body).encode() if _may_have_secrets(request, body) else body,",
        "request=body,",
        "tests/live/test_tool_secrets.py::test_a_response_in_the_background_waits_sealed_and_is_kept_without_secrets",
    ),
    Mutant(
        "the log of a run has no secret of its tools",
        "app/relay/journal.py",
        "events.parts(frame if secrets is None else secrets.hidden(frame))",
        "events.parts(frame)",
        "tests/live/test_tool_secrets.py::test_a_response_in_the_background_waits_sealed_and_is_kept_without_secrets",
    ),
    Mutant(
        "tools in the input are kept without their secrets",
        "app/state/items.py",
        "return item if shown == kept else replace(item, content=orjson.dumps(shown))",
        "return item",
        "tests/live/test_tool_secrets.py::test_tools_in_the_input_are_sent_once_and_kept_without_secrets",
    ),
    Mutant(
        "an error of upstream quotes no secret of a tool",
        "app/upstream/attempt.py",
        "said = secrets.hidden(said)",
        "pass",
        "tests/live/test_tool_secrets.py::test_an_error_quotes_no_secret",
    ),
    Mutant(
        "a response that upstream announced by halves ends whole",
        "app/wire/response.py",
        'parts = {"created_at": now, **REQUIRED, **members(raw)}',
        "parts = {name: now for name in _NEVER_NULL} | {**members(raw)}",
        "tests/wire/test_echo.py::test_what_upstream_announced_by_halves_is_whole_when_it_ends",
    ),
    Mutant(
        "a completed warm-up says when, and what it used",
        "app/wire/response.py",
        "return orjson.dumps({**made, **completed})",
        'return orjson.dumps({**made, "status": "completed"})',
        "tests/wire/test_echo.py::test_each_event_of_a_warm_up_is_openais_to_the_field",
    ),
    Mutant(
        "listed parts have what the API asks for",
        "app/state/listed_item.py",
        "if left_out is None:",
        "if left_out is None or left_out:",
        "tests/state/test_listed_item.py::test_parts_are_listed_with_what_the_api_asks_for",
    ),
    Mutant(
        "listed items have what the API asks for",
        "app/state/listed_item.py",
        "return join_object({**_left_out(item, parts), **parts})",
        "return join_object(parts)",
        "tests/state/test_listed_item.py::test_what_a_client_left_out_of_an_item_is_listed_as_the_api_has_it",
    ),
    Mutant(
        "a deleted response is told in OpenAI's word",
        "app/api/responses.py",
        '"object": "response.deleted"',
        '"object": "response"',
        "tests/live/test_made_objects.py::test_what_is_deleted_is_told_in_openais_words",
    ),
    Mutant(
        "no window grants more than its limit",
        "app/state/limits.py",
        "if count.used + max(amount, 1) > limit.most",
        "if count.used > limit.most",
        "tests/storage/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[memory-10]",
    ),
    Mutant(
        "no window gives back what was taken from another",
        "app/state/limits.py",
        "if amount > 0 or count.began_at <= at < count.ends_at:",
        "if True:",
        "tests/storage/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[memory-10]",
    ),
    Mutant(
        "what a budget refuses is given back to its minute",
        "app/storage/split_counts.py",
        "if passing and (theirs is None or theirs.refused is not None):",
        "if passing and theirs is None:",
        "tests/storage/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[memory-10]",
    ),
    Mutant(
        "Valkey's windows grant no more than their limit",
        "app/storage/valkey_scripts.py",
        "granted = granted and used + math.max(amount, 1) <= most",
        "granted = granted and used <= most",
        "tests/storage/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[valkey-200]",
    ),
)
