"""One response from accepted to settled: prepare, connect, pump, settle."""
