"""Collect the keys of one upstream from the config file: references in a list, or tables."""

from collections.abc import Callable, Collection, Iterable, Mapping

from app.settings.secret_references import BROKEN, SecretReferences


class UpstreamKeys:
    """Collect keys and their names; problems go to `problems`, an unknown member to `unknown(name, key, known)`."""

    def __init__(
        self,
        references: SecretReferences,
        problems: list[str],
        fields: Collection[str],
        unknown: Callable[[str, str, Iterable[str]], None],
    ) -> None:
        self._references = references
        self._problems = problems
        self._fields = fields
        self._unknown = unknown
        self._rows: list[dict[str, object]] = []
        self._names: dict[tuple[int | str, ...], str] = {}
        self._is_broken = False

    def found(self, names: dict[tuple[int | str, ...], str], place: tuple[str, int]) -> object:
        """Return all keys and add their names to `names`; BROKEN if one is missing, so that none is validated."""
        names |= {(*place, "keys", *path): name for path, name in self._names.items()}
        return BROKEN if self._is_broken else self._rows

    def add(self, name: str, text: object, members: Mapping[str, object] | None = None) -> None:
        """Add the keys in `text`, which is written at `name`, all with the same members."""
        secrets = self._references.keys(name, text)
        self._is_broken |= secrets is None
        for secret in secrets or ():
            self._names[len(self._rows), "secret"] = name
            self._rows.append({**(members or {}), "secret": secret})

    def add_list(self, name: str, value: object) -> None:
        """Add the keys of the list `keys`: references, tables, or both."""
        if not isinstance(value, list):
            self._refuse(f'{name}: must be a list of references; write ["env:NAME"] or ["file:/path"].')
            return
        for number, entry in enumerate(value, 1):
            if isinstance(entry, dict):
                self._add_table(f"{name} #{number}", entry)
            else:
                self.add(name, self._references.resolve(name, entry))

    def add_tables(self, name: str, value: object) -> None:
        """Add the keys of the tables `[[upstream.key]]`."""
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            self._refuse(f"{name}: must be an array of tables; write [[upstream.key]].")
            return
        for number, table in enumerate(value, 1):
            self._add_table(f"{name} #{number}", table)

    def _add_table(self, name: str, table: Mapping[str, object]) -> None:
        for key in table:
            if key not in self._fields:
                self._unknown(f"{name} {key}", key, self._fields)
        if "secret" not in table:
            self._refuse(f"{name} secret: Field required.")
            return
        first = len(self._rows)
        known = {key: value for key, value in table.items() if key in self._fields}
        self.add(f"{name} secret", self._references.resolve(f"{name} secret", table["secret"]), known)
        self._names |= {(row,): name for row in range(first, len(self._rows))}

    def _refuse(self, problem: str) -> None:
        self._problems.append(problem)
        self._is_broken = True
