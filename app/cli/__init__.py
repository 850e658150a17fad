"""The verbs of the `antiphon` command, one module per noun. Knows typer, holds no rules."""
