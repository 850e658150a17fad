"""Log one line per request and event, without secrets or prompts.

Words: a *line* is one event as JSON or text; the *facts* that a request notes stand in all of its lines; to *redact* is
to replace what looks like a key or a password.

Entry points: `logging.configure`, `logging.note`; `line_writer.LineWriter` writes.

* A log that blocks or fails costs no call: tests/observability/test_line_writer.py, tests/live/test_log_fails.py.
* No key and no prompt is in a line: tests/api/test_log_lines.py, tests/live/test_privacy.py.
"""
