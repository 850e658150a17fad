"""What a run has started so far. A target is started when it is first asked for, and ended with the run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from benchmarks.peers import litellm, ogx
from benchmarks.postgres import Postgres, postgres
from benchmarks.servers import NO_SETTINGS, UPSTREAM_KEYS, gateway, haproxy, nginx, upstream
from benchmarks.target import Target

DIRECT = "direct"
HAPROXY = "haproxy"
NGINX = "nginx"
SQLITE = "antiphon, SQLite"
POSTGRES = "antiphon, PostgreSQL"
BRIDGE = "antiphon, chat upstream"
LITELLM = "LiteLLM"
OGX = "OGX"


class Stage:
    """The servers of one run, with what they keep in `folder`; peers are installed in `installed`.

    `kept` is how many turns a database gets to keep that grows, where it is not what the scenario says.
    """

    def __init__(self, folder: Path, installed: Path, kept: int | None = None) -> None:
        self.folder = folder
        self.kept = kept
        self._installed = installed
        self._ending = ExitStack()
        self._targets: dict[str, Target | None] = {}
        self._postgres: Postgres | None = None

    def __enter__(self) -> Self:
        self.upstream = upstream()
        self._ending.callback(self.upstream.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def target(self, name: str) -> Target | None:
        """The target of this name, one of those above; None when it is not installed."""
        if name not in self._targets:
            self._targets[name] = target = self._starters[name]()
            if target is None:
                print(f"{name} cannot be had on this machine: it is left out.\n")
            elif target is not self.upstream:
                self._ending.callback(target.stop)
        return self._targets[name]

    def targets(self, names: tuple[str, ...]) -> list[Target]:
        """Those of these that are installed, in this order."""
        return [target for target in map(self.target, names) if target is not None]

    @property
    def versions(self) -> list[str]:
        """What was started, where a version is known of it."""
        return [target.version for target in self._targets.values() if target is not None and target.version]

    @contextmanager
    def gateway(
        self,
        data: Path,
        upstream_keys: Sequence[str] = UPSTREAM_KEYS,
        postgres: Postgres | None = None,
        *,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> Iterator[Target]:
        """A gateway of a scenario's own, on the SQLite file in this data folder or on this PostgreSQL."""
        name = POSTGRES if postgres else SQLITE
        target = gateway(name, data, self.upstream.port, postgres, upstream_keys, settings=settings)
        try:
            yield target
        finally:
            target.stop()

    @property
    def postgres(self) -> Postgres:
        """The run's PostgreSQL."""
        if self._postgres is None:
            self._postgres = self._ending.enter_context(postgres())
        return self._postgres

    @property
    def postgres_data(self) -> Path:
        """The data folder of every gateway on it."""
        return self.folder / "postgres"

    @property
    def _bridged(self) -> Mapping[str, str]:
        """The settings of a gateway whose upstream is asked in chat."""
        config = self.folder / "bridge.toml"
        config.write_text(
            f'[[upstream]]\nname = "chat"\nbase_url = "http://127.0.0.1:{self.upstream.port}/v1"\n'
            'api = "chat"\nkeys = ["env:OPENAI_API_KEY"]\n'
        )
        return {"ANTIPHON_CONFIG": str(config)}

    @property
    def _starters(self) -> Mapping[str, Callable[[], Target | None]]:
        port = self.upstream.port
        return {
            DIRECT: lambda: self.upstream,
            HAPROXY: lambda: haproxy(self.folder, port),
            NGINX: lambda: nginx(self.folder, port),
            SQLITE: lambda: gateway(SQLITE, self.folder / "sqlite", port),
            BRIDGE: lambda: gateway(BRIDGE, self.folder / "bridge", port, settings=self._bridged),
            POSTGRES: lambda: gateway(POSTGRES, self.postgres_data, port, self.postgres),
            LITELLM: lambda: litellm(LITELLM, self.folder, self._installed, port),
            OGX: lambda: ogx(OGX, self.folder, self._installed, port),
        }
