"""The administration over HTTP: /admin/v1. Knows FastAPI, holds no rules."""
