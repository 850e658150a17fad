"""What a response, a turn and a chain are. Pure: no I/O."""
