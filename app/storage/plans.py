"""Have PostgreSQL read a page of rows in the order of an index, whatever its statistics say of the table.

Where it takes the rows for few it sorts all that there are, for each page anew: after a bulk load, in a table that has
not been analyzed yet, or where most rows have one value.
"""

from sqlalchemy import Connection

_BY_INDEX = (
    "BEGIN READ ONLY; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off"
)


def read_by_index(connection: Connection) -> None:
    """Set this for the statements that a reader executes from here on; it ends with what the reader runs."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_BY_INDEX)
