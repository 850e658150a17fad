"""Define the operator's prices of models, which replace public price lists."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Usd = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class PriceSettings(BaseModel):
    """Price a model's tokens, in US dollars per million, in place of the public price. The first match counts.

    What is not set here is not taken from the public lists.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: str = Field(min_length=1, description="Glob of the model's name, as asked for or as served.")
    upstream: str | None = Field(None, description="Name of the upstream that it is the price of; unset for all.")
    service_tier: str | None = Field(
        None,
        min_length=1,
        description="Tier that it is the price of, as answers name it (flex, priority); unset for all.",
    )
    input: Usd = Field(description="Price of a million input tokens; 0 is free.")
    cached_input: Usd | None = Field(
        None, description="Price of a million of them that upstream had cached; as input when unset."
    )
    cache_write: Usd | None = Field(
        None, description="Price of a million of them that upstream wrote to its cache; 1.25 times input when unset."
    )
    output: Usd = Field(description="Price of a million output tokens.")
    web_search: Usd | None = Field(None, description="Price of a thousand searches of the web; nothing when unset.")
    file_search: Usd | None = Field(
        None, description="Price of a thousand searches of stored files; nothing when unset."
    )
