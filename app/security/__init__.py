"""Authenticate callers, throttle wrong keys, and encrypt under the master secret.

Words: an *API key* is a caller's; the *master key* is the administrator's; the *master secret* is what all encryption
and hashing is derived from; the *key ring* has the keys of present and earlier secrets; to *seal* is to encrypt for an
owner.

Entry points: `authentication.Authenticator.identify`, `encryption.Sealer` (clients), `encryption.Vault` (the database),
`master_secret.read_secret`.

* Authentication fails closed, with one policy for every surface: tests/security/test_authentication.py.
* Wrong keys evict no key, and flood no database: tests/security/test_failed_key_throttle.py.
* A change of the master secret refuses no call: tests/live/test_change_of_secret.py.
* No key is in a log or an error: tests/architecture/test_secret_holders.py, tests/live/test_secrets.py.
"""
