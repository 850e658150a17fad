"""Copy a stream from upstream to its listener, and do what its end asks for.

Words: a *frame* is an event with its blank line; the *pump* copies frames; the *accumulator* holds what a failed stream
is ended with; a *listener* takes frames: a client or an event log; the *tail* is what follows the terminal event.

Entry points: `pump.Pump.run`, `client.Client`, `accumulator.StreamAccumulator.feed`.

* The client receives upstream's bytes in whole frames: tests/live/test_streams_unchanged.py.
* A terminal event is written only after the settling: tests/relay/call/test_pump_ends.py.
* A client that leaves, or a stop, ends the call once: tests/relay/call/test_pump_interrupted.py.
* What is accumulated is bounded: tests/relay/stream/test_accumulator.py.
"""
