"""Store API keys by their hash, with their policies, marks and last use.

Words: a *mark* is a time that revokes or blocks a key; *rotation* gives a key another secret, the one before is valid
for an overlap; a key is *granted* its right to administer by the key that made it, and ends with that key.

Entry points: `store.KeyStore` and the writes beside it (CreateKey, ChangeKey, RotateKey, MarkKey),
`bootstrap.CreateFirstKeys`, `last_used.LastUsed`.

Invariants: a key itself is stored nowhere (`tests/live/test_secrets.py`); of two editors of a version one wins, and
keys end with the key that granted them (`tests/storage/keys/test_store.py`); first keys are made once, by one process
of many (`tests/live/test_first_keys.py`).
"""
