"""The way to the model: accounts, pool, transport, faults. The only room that knows httpx."""
