"""The server of the app: uvicorn's, with HTTP/1.1 of our own and WebSockets of its own."""
