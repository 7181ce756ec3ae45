"""Which registry an address names: a PostgreSQL URL, or an SQLite file."""

from __future__ import annotations

from pathlib import Path

from modelguard.errors import BadRequest
from modelguard.registry.base import Store
from modelguard.registry.postgres import SCHEMES, open_postgres
from modelguard.registry.sqlite import open_sqlite


def open_registry(address: str, *, create: bool = False) -> Store:
    """The registry that an operator names. Close it after use."""
    if address.startswith(SCHEMES):
        return open_postgres(address, create=create)
    if "://" in address:
        raise BadRequest(f"{address.partition('://')[0][:20]}:// is no registry", advice="a file, or postgresql://user@host/database")
    return open_sqlite(Path(address), address, create=create)


def open_foreign(path: Path, where: str) -> Store:
    """The registry in a file that somebody else wrote: nothing in it is trusted, and it is not written to."""
    return open_sqlite(path, where, foreign=True)
