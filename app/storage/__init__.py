"""Keep all state in SQLite or PostgreSQL. The only room that knows SQLAlchemy (`tests/architecture/test_layers.py`).

Words: a *store* reads one resource and submits its changes; a *write* is one change of the database with a result;
*expiry* removes rows whose time is over; *purge* runs every expiry as a step of its own.

Entry points: `engine.database.Database` (reads), `writer.writer.Writer` (writes), and a store in each sub-room.
`schema_migration.migrate` brings a database to this code's schema; `tables` describes it.

Invariants: no database connection is held while bytes flow (`tests/live/test_connections_held.py`); a change by an
administrator and its audit record are one commit (`tests/storage/keys/test_store.py`); a process whose clock is off
removes nothing (`tests/storage/test_purge.py`); commands that read write nothing (`tests/live/test_reading_verbs.py`).
"""
