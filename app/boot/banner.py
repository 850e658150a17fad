"""Render the banner of a start: URL, database, upstreams, what to type next; first keys for a terminal alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app import __version__
from app.relay.pool_sync.served_upstreams import DEMO
from app.settings.gateway import Settings
from app.settings.upstreams import UpstreamSettings

_DEMO_NOTICE = """\
  !! No upstream is configured, so this gateway serves the built-in DEMO model only: it answers `model="demo"`
  !! with canned text and calls nothing. Set OPENAI_API_KEY to reach a real model.
"""
_SHOWN_NOTICE = """\
  Your first {kind} key (shown this once{saved}):

      {key}

"""
_SAVED_NOTICE = """\
  Your first {kind} key is in {file}

"""
_NO_KEY_NOTICE = """\
  !! No API key was made, because there is no terminal to show it to and it cannot be saved in {folder}.
  !! Make one: `antiphon keys create --name NAME`, and `--scope admin` for one that administers.

"""


@dataclass(frozen=True, slots=True)
class FirstKey:
    """Hold a key that this start made, and the file that keeps it, if one could be written."""

    kind: str
    key: str = field(repr=False)
    file: Path | None


def banner(
    settings: Settings,
    upstreams: Sequence[UpstreamSettings],
    url: str,
    database: str,
    first_keys: Sequence[FirstKey],
    *,
    shows_keys: bool,
) -> str:
    """Render the text that is printed when the gateway is about to serve these upstreams at this URL.

    Without `shows_keys` the text may end up in a log: it names the files of the first keys.
    """
    demo = upstreams[0] is DEMO
    files = [first.file for first in first_keys if first.kind == "API"]
    key_file = files[0] if files else _earlier(settings.storage.data_dir / "first-api-key")
    shown_key = f"$(cat {key_file})" if key_file else "$ANTIPHON_KEY"
    model = "demo" if demo else "MODEL"
    return (
        f"\n  Antiphon {__version__}\n"
        f"    serves     {url}/v1\n"
        f"    database   {database}\n"
        f"    upstreams  {', '.join(map(_described, upstreams))}\n\n"
        + (_DEMO_NOTICE + "\n" if demo else "")
        + "".join(_notice(first, shows_keys=shows_keys) for first in first_keys)
        + f'  Try it:\n\n      curl {url}/v1/responses -H "Authorization: Bearer {shown_key}" \\\n'
        f'        -H \'Content-Type: application/json\' -d \'{{"model": "{model}", "input": "Hello!"}}\'\n'
    )


def no_key(folder: Path) -> str:
    """Render the notice that no first key was made, because it could be neither shown nor saved."""
    return _NO_KEY_NOTICE.format(folder=folder)


def _notice(first: FirstKey, *, shows_keys: bool) -> str:
    if shows_keys:
        saved = f"; also saved in {first.file}" if first.file else ""
        return _SHOWN_NOTICE.format(kind=first.kind, key=first.key, saved=saved)
    return _SAVED_NOTICE.format(kind=first.kind, file=first.file)


def _earlier(file: Path) -> Path | None:
    try:
        return file if file.exists() else None
    except OSError:
        return None


def _described(upstream: UpstreamSettings) -> str:
    if upstream is DEMO:
        return "demo (built in)"
    keys = f"{len(upstream.keys)} key{'' if len(upstream.keys) == 1 else 's'}"
    return f"{upstream.name} ({upstream.base_url}, {keys}, models {' '.join(upstream.models)})"
