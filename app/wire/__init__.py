"""The words of the API: requests, items, responses, events, SSE frames. Pure: bytes in and out."""
