"""The HTTP surface: knows FastAPI, holds no rules."""
