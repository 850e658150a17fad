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
        "app/server/http/request_head.py",
        'raise malformed("it has no Host header")',
        "return",
        "tests/server/test_request_head.py::test_a_request_names_one_host",
    ),
    Mutant(
        "what may be said once is not said twice",
        "app/server/http/request_head.py",
        "if name in joined and name in _ONCE:",
        "if not joined:",
        "tests/server/test_request_head.py::test_what_may_be_said_once_is_not_said_twice",
    ),
    Mutant(
        "trailers are bounded",
        "app/server/http/body_framing.py",
        "_MOST_TRAILER_BYTES = 8192",
        "_MOST_TRAILER_BYTES = 1 << 40",
        "tests/server/test_body_framing.py::test_trailers_are_bounded",
    ),
    Mutant(
        "a header of an address that is there twice tells none",
        "app/api/client_address.py",
        'hops = self._read(values[0].decode("latin-1")) if len(values) == 1 else None',
        'hops = self._read(values[0].decode("latin-1")) if values else None',
        "tests/api/test_client_address.py::test_a_header_that_is_missing_or_there_twice_tells_no_address",
    ),
    Mutant(
        "an IPv4 address has one form",
        "app/state/ip_addresses.py",
        "return address.ipv4_mapped or IPv6Address(int(address))",
        "return IPv6Address(int(address))",
        "tests/api/test_client_address.py::test_the_address_of_a_socket_has_one_form",
    ),
    Mutant(
        "no error ends a background duty",
        "app/relay/process/periodic_tasks.py",
        "except Exception as error:  # noqa: BLE001 (whatever it is: the next step may go well)",
        "except ApiError as error:",
        "tests/relay/process/test_periodic_tasks.py::test_a_step_that_fails_is_made_again_and_each_change_is_logged_once",
    ),
    Mutant(
        "a member in another spelling is known for what it is",
        "app/state/member_synonyms.py",
        'return "".join(filter(str.isalnum, plain))',
        "return name",
        "tests/state/test_member_synonyms.py::test_a_name_that_is_read_as_another_is_known_for_it",
    ),
    Mutant(
        "what is remembered of a stream is bounded",
        "app/relay/stream/accumulator.py",
        "if len(item) <= self._room:",
        "if item:",
        "tests/relay/stream/test_accumulator.py::test_items_beyond_the_room_are_forgotten",
    ),
    Mutant(
        "a response that was only asked for shows no secret of its tools",
        "app/wire/responses/echo.py",
        '"tools": tools_for_response(given.get("tools", ())),',
        '"tools": given.get("tools", []),',
        "tests/wire/test_echo.py::test_what_a_tool_authenticates_with_never_comes_back",
    ),
    Mutant(
        "what is kept of a call has no secret of its tools",
        "app/relay/call/settle.py",
        "raw = exchange.secrets.redacted_in(raw)",
        "pass",
        "tests/live/test_tool_secrets.py::test_a_call_leaves_no_secret_behind",
    ),
    Mutant(
        "a queued call with secrets waits sealed",
        "app/relay/background/run_request.py",
        "body=sealer.seal(caller.project_id, body).encode() if _may_have_secrets(request, body) else body,",
        "request=body,",
        "tests/live/test_tool_secrets.py::test_a_response_in_the_background_waits_sealed_and_is_kept_without_secrets",
    ),
    Mutant(
        "the log of a run has no secret of its tools",
        "app/relay/background/event_log.py",
        "events.parts(frame if secrets is None else secrets.redacted(frame))",
        "events.parts(frame)",
        "tests/live/test_tool_secrets.py::test_a_response_in_the_background_waits_sealed_and_is_kept_without_secrets",
    ),
    Mutant(
        "tools in the input are kept without their secrets",
        "app/state/items/stored_form.py",
        "return item if shown == kept else replace(item, content=orjson.dumps(shown))",
        "return item",
        "tests/live/test_tool_secrets.py::test_tools_in_the_input_are_sent_once_and_kept_without_secrets",
    ),
    Mutant(
        "an error of upstream quotes no secret of a tool",
        "app/upstream/call/attempt.py",
        "text = secrets.redacted(text)",
        "pass",
        "tests/live/test_tool_secrets.py::test_an_error_quotes_no_secret",
    ),
    Mutant(
        "a response that upstream announced by halves ends whole",
        "app/wire/responses/response_object.py",
        'parts = {"created_at": now, **REQUIRED, **members(raw)}',
        "parts = {name: now for name in _NEVER_NULL} | {**members(raw)}",
        "tests/wire/test_echo.py::test_what_upstream_announced_by_halves_is_whole_when_it_ends",
    ),
    Mutant(
        "a completed warm-up says when, and what it used",
        "app/wire/responses/response_object.py",
        "return orjson.dumps({**made, **completed})",
        'return orjson.dumps({**made, "status": "completed"})',
        "tests/wire/test_echo.py::test_each_event_of_a_warm_up_is_openais_to_the_field",
    ),
    Mutant(
        "listed parts have what the API asks for",
        "app/state/items/listed_form.py",
        "if left_out is None:",
        "if left_out is None or left_out:",
        "tests/state/test_listed_form.py::test_parts_are_listed_with_what_the_api_asks_for",
    ),
    Mutant(
        "listed items have what the API asks for",
        "app/state/items/listed_form.py",
        "return join_object({**_left_out(item, parts), **parts})",
        "return join_object(parts)",
        "tests/state/test_listed_form.py::test_what_a_client_left_out_of_an_item_is_listed_as_the_api_has_it",
    ),
    Mutant(
        "a deleted response is told in OpenAI's word",
        "app/api/v1/responses.py",
        '"object": "response.deleted"',
        '"object": "response"',
        "tests/live/test_made_objects.py::test_what_is_deleted_is_told_in_openais_words",
    ),
    Mutant(
        "no window grants more than its limit",
        "app/state/limit_windows.py",
        "if count.used + max(amount, 1) > limit.most",
        "if count.used > limit.most",
        "tests/storage/limits/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[memory-10]",
    ),
    Mutant(
        "no window gives back what was taken from another",
        "app/state/limit_windows.py",
        "if amount > 0 or count.began_at <= at < count.ends_at:",
        "if True:",
        "tests/storage/limits/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[memory-10]",
    ),
    Mutant(
        "what a budget refuses is given back to its minute",
        "app/storage/limits/split_counts.py",
        "if passing and (theirs is None or theirs.refused is not None):",
        "if passing and theirs is None:",
        "tests/storage/limits/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[memory-10]",
    ),
    Mutant(
        "Valkey's windows grant no more than their limit",
        "app/storage/limits/valkey_scripts.py",
        "granted = granted and used + math.max(amount, 1) <= most",
        "granted = granted and used <= most",
        "tests/storage/limits/test_limit_rules.py::test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once[valkey-200]",
    ),
    Mutant(
        "nothing stands between a chat model's calls and their outputs",
        "app/upstream/chat/messages.py",
        "if self._open is None or self._open.is_answered:",
        "if True:",
        "tests/upstream/chat/test_messages.py::test_text_between_a_call_and_its_output_is_folded_into_the_message_of_the_call",
    ),
    Mutant(
        "opaque parts of reasoning go to the upstream that made them",
        "app/upstream/chat/reasoning.py",
        'if parts["upstream"] == upstream:',
        "if True:",
        "tests/upstream/chat/test_messages.py::test_opaque_parts_go_back_whole_to_their_upstream_alone",
    ),
    Mutant(
        "another id at the same index is another call",
        "app/upstream/chat/call_fragments.py",
        "if call is None or (call_id and call.upstream_id):",
        "if call is None:",
        "tests/upstream/chat/test_streams.py::test_each_shape_of_tool_calls_makes_the_same_calls",
    ),
    Mutant(
        "a hosted tool that is alone is refused, and not dropped",
        "app/upstream/chat/offered_tools.py",
        'profile.hosted_tools == "auto" and not offer.functions',
        "False",
        "tests/upstream/chat/test_tools.py::test_a_hosted_tool_is_dropped_beside_others_and_refused_alone",
    ),
    Mutant(
        "a chat stream that ends without saying so has failed",
        "app/upstream/chat/stream.py",
        "partial(self.end, is_told=False)",
        "partial(self.end, is_told=True)",
        "tests/upstream/chat/test_streams.py::test_an_error_amid_a_stream_fails_it_once",
    ),
    Mutant(
        "a chat answer that is nested without end is its server's fault",
        "app/upstream/chat/chunks.py",
        "and is_deeper(chunk, _DEEPEST)",
        "and False",
        "tests/upstream/chat/test_hostile_servers.py::test_what_is_nested_without_end_fails_the_stream",
    ),
    Mutant(
        "a chat server's zeros are no usage",
        "app/wire/completion_usage.py",
        'if _count(said, "prompt_tokens") or _count(said, "completion_tokens")',
        "if said",
        "tests/upstream/chat/test_responses.py::test_usage_that_nobody_told_is_estimated_and_says_so",
    ),
    Mutant(
        "the error in a chat server's 200 keeps its status",
        "app/upstream/chat/errors.py",
        '{**self.members(self.status), "status": self.status}',
        "self.members(self.status)",
        "tests/upstream/chat/test_responses.py::test_an_error_in_place_of_a_completion_keeps_its_status",
    ),
    Mutant(
        "half a key in an error is shown to nobody",
        "app/wire/upstream_errors.py",
        'return words[0] if len(words) > 1 else ""',
        'return " ".join(words)',
        "tests/wire/test_upstream_errors.py::test_a_page_is_cut_between_two_words_so_that_half_a_key_is_in_none",
    ),
    Mutant(
        "only an adapter says what it dropped",
        "app/upstream/headers.py",
        'b"x-request-id": b"x-upstream-request-id",',
        'b"x-request-id": b"x-upstream-request-id", b"x-antiphon-dropped": b"x-antiphon-dropped",',
        "tests/upstream/test_headers.py::test_the_client_sees_only_the_listed_headers",
    ),
    Mutant(
        "whatever breaks a stream, its client is told how it ended",
        "app/relay/stream/pump.py",
        'await self.fail("server_error", _BROKE)',
        "raise",
        "tests/relay/call/test_pump_ends.py::test_a_stream_that_breaks_in_the_gateway_ends_in_one_failure_and_a_line_without_what_was_said",
    ),
    Mutant(
        "a huge stream goes to the compute thread only where something ends",
        "app/upstream/chat/stream.py",
        "return 0 if self._member and self._member == before and not self._has_tags else self.held",
        "return self.held",
        "tests/upstream/chat/test_large_answers.py::test_a_huge_stream_is_in_the_compute_thread_only_where_something_ends",
    ),
    Mutant(
        "what a chat adapter holds of an answer is reserved",
        "app/upstream/chat/chat_transport.py",
        "self._counted += size",
        "self._counted += 2 * size",
        "tests/upstream/chat/test_large_answers.py::test_what_is_held_of_an_answer_is_reserved_as_it_comes",
    ),
    Mutant(
        "a native upstream is sent nothing that was sealed for chat",
        "app/relay/call/exchange.py",
        "not (is_native and is_sealed_reasoning(item))",
        "item is not None",
        "tests/live/test_chat_faults.py::test_a_call_that_fails_over_to_a_native_upstream_leaves_the_seal_behind",
    ),
    Mutant(
        "what a chat upstream cannot be asked hides no passing fault of a native one",
        "app/upstream/call/upstream_client.py",
        'fault.blame == "unfit" and not isinstance(pool, InvalidRequestError)',
        "False",
        "tests/upstream/call/test_unfit_upstreams.py::test_a_native_account_that_rests_is_waited_for_by_the_client",
    ),
    Mutant(
        "what was sealed is for translated upstreams alone",
        "app/upstream/account.py",
        "if self.upstream.is_translated else ()",
        "if self.upstream else ()",
        "tests/upstream/test_account.py::test_an_account_reads_what_was_sealed_for_its_upstream_if_that_is_translated",
    ),
)
