"""Make PostgreSQL read a page of rows in the order of an index, whatever its statistics say of the table.

When it takes the rows for few, it sorts all of them for each page: after a bulk load, in a table that has not been
analyzed yet, or where most rows have one value.
"""

from sqlalchemy import Connection

_BY_INDEX = (
    "BEGIN READ ONLY; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off"
)


def read_by_index(connection: Connection) -> None:
    """Force index order for the reader's following statements, until its work ends."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_BY_INDEX)
