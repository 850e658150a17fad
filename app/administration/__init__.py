"""The rules of administration, over the stores. It must not know HTTP or SQL."""
