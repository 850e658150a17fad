"""What a client deletes from a conversation is in nothing that upstream is sent from then on."""

from typing import Any

import pytest

from tests.builders import says
from tests.fakes.gateway import LiveGateway
from tests.fakes.replies import Reply
from tests.fakes.streams import response, story
from tests.fakes.surfaces import SURFACES, respond
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SECRET = "HUNTER2"
LONG = "one two three " * 400
EDIT: Any = [{"type": "compaction", "compact_threshold": 1000}]


def told(upstream: FakeUpstream) -> None:
    """Have the upstream answer, and repeat the secret in each summary where it is told."""
    made: list[str] = []

    def answer(request: Recorded) -> Reply:
        made.append(f"resp_{len(made)}")
        if "will be replaced by a summary" in str(request.json["input"]):
            text = f"The password is {SECRET}." if SECRET in str(request.json["input"]) else "They said much."
            return Reply.json(200, response(made[-1], "completed", [says(text, f"msg_{made[-1]}")]))
        if request.json.get("stream"):
            return Reply.sse(story(made[-1], "Well."))
        return Reply.json(200, response(made[-1], "completed", [says("Well.", f"msg_{made[-1]}")]))

    upstream.respond = answer


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("way", ["managed", "triggered"])
async def test_what_was_deleted_is_in_no_compaction_that_is_sent_on(
    gateway: LiveGateway, upstream: FakeUpstream, surface: str, way: str
) -> None:
    told(upstream)
    async with gateway.client() as client:
        conversation = (await client.conversations.create()).id
        where: Any = {"conversation": conversation}
        await respond(gateway, "whole", input=LONG, **where)
        await respond(gateway, "whole", input=f"My password is {SECRET}.", **where)
        if way == "managed":
            made = await respond(gateway, surface, input="Go on.", context_management=EDIT, **where)
        else:
            made = await respond(gateway, surface, input=[{"type": "compaction_trigger"}], **where)
        await respond(gateway, "whole", input="Go on.", **where)
        assert SECRET in str(upstream.requests[-1].json["input"])
        async for item in client.conversations.items.list(conversation):
            if SECRET in item.model_dump_json() and item.id is not None:
                await client.conversations.items.delete(item.id, conversation_id=conversation)
        upstream.requests.clear()
        await respond(gateway, "whole", input="And now?", **where)
        # It is compacted anew, without it.
        await respond(gateway, "whole", input="And now?", context_management=EDIT, **where)
        await respond(gateway, "whole", input="And now?", previous_response_id=made["id"])
    sent = [str(request.json["input"]) for request in upstream.requests]
    assert len(sent) == 4
    assert [SECRET in each for each in sent] == [False] * 4
    assert "They said much." in sent[2]
