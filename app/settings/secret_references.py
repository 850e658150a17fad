"""Resolve the secrets that settings refer to: env:NAME, file:/path, and the files that <NAME>_FILE names."""

import re
from collections.abc import Mapping
from pathlib import Path

# Replaces a value whose problem is reported already. Validation refuses it, without a second report.
BROKEN = object()

_REFERENCE = re.compile(r"env:(?P<env>[A-Za-z_]\w*)|file:(?P<file>/.+)")


class SecretReferences:
    """Resolve references, and report each problem to `problems` in a line that holds no secret."""

    def __init__(self, environ: Mapping[str, str], problems: list[str]) -> None:
        self._environ = environ
        self._problems = problems

    def resolve(self, name: str, reference: object) -> object:
        """Return the secret of `env:NAME` or `file:/path`, BROKEN if there is none; `name` says where it is written."""
        match = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
        if match is None:
            # The value is not echoed: most likely it is the secret itself.
            self._problems.append(f"{name}: must be a reference, env:NAME or file:/path, never the secret itself.")
            return BROKEN
        if match["file"]:
            return self._content(name, match["file"])
        if match["env"] not in self._environ:
            self._problems.append(f"{name}: the environment variable {match['env']} is not set; set it.")
        return self._environ.get(match["env"], BROKEN)

    def secret_file(self, env: str) -> object | None:
        """Return the content of the file that `<env>_FILE` names; None when the variable is unset."""
        name = f"{env}_FILE"
        if name not in self._environ:
            return None
        if env in self._environ:
            self._problems.append(f"{name}: {env} is set as well; unset one of the two.")
            return None
        return self._content(name, self._environ[name])

    def keys(self, name: str, text: object) -> list[str] | None:
        """Split comma-separated keys; None if there is none."""
        if not isinstance(text, str):
            return None
        keys = [key.strip() for key in text.split(",") if key.strip()]
        if not keys:
            self._problems.append(f"{name}: holds no key; write one key, or several with commas between them.")
        return keys or None

    def unreadable(self, name: str, path: str, error: OSError | ValueError) -> None:
        """Report a file that cannot be read."""
        # A decoding error's own text quotes bytes of the file, which may be a secret's.
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        self._problems.append(f"{name}: cannot read {path}: {reason}; check the path and its permissions.")

    def _content(self, name: str, path: str) -> object:
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            self.unreadable(name, path, error)
            return BROKEN
        if not text:
            self._problems.append(f"{name}: the file {path} is empty; write the secret into it.")
        return text or BROKEN
