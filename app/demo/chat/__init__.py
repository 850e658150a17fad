"""Let the demo model be asked in chat, and for embeddings: a call becomes one of the Responses API, its events chunks.

Entry points: `completion_request.as_create_body`, `embeddings.embeddings`; `endpoint` writes the answers.

* The SDK reads what the demo says in chat: tests/demo/test_demo_chat.py.
"""
