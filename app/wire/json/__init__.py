"""Decode large or damaged JSON, without holding the interpreter for longer than one slice.

Words. Slice: about 32 KB of elements or members that orjson decodes at once. Repair: replace half a surrogate pair, or
invalid UTF-8, by U+FFFD.

Entry points: `sliced_decoder.decode`, `sliced_decoder.SlicedDecoder`, `repair.repaired`.

Invariants:
* Slices decode to what orjson decodes, with the same errors: tests/wire/test_sliced_decoder.py.
* Nothing large is decoded in one go: tests/wire/test_sliced_decoder.py, tests/live/test_large_work.py.
* Valid JSON is not changed by a repair: tests/wire/test_json_repair.py.
"""
