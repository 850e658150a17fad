"""The shortest way through everything: one call, kept and read back."""

import pytest
from openai import BadRequestError, NotFoundError

from tests.fakes.gateway import LiveGateway
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


async def test_a_response_is_created_chained_read_and_deleted(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with gateway.client() as client:
        first = await client.responses.create(model="demo", input="My city is Utrecht.")
        second = await client.responses.create(model="demo", input="What is my city?", previous_response_id=first.id)
        assert second.output_text == "Your city is Utrecht."
        assert second.previous_response_id == first.id
        sent = (await upstream.request(1)).json
        assert "previous_response_id" not in sent
        assert sent["store"] is False
        kept = await client.responses.retrieve(second.id)
        assert kept.model_dump() == second.model_dump()
        await client.responses.delete(first.id)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(BadRequestError) as broken_chain:
            await client.responses.create(model="demo", input="And now?", previous_response_id=second.id)
        assert broken_chain.value.code == "previous_response_not_found"
