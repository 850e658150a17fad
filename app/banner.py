"""What an operator is told at start: where things are and what to type next. Holds no secret but the first keys."""

from collections.abc import Sequence
from pathlib import Path

from app import __version__
from app.installation import FirstKeys
from app.relay.roster import DEMO
from app.settings import Settings
from app.settings_upstream import UpstreamSettings

_DEMO_NOTICE = """\
  !! No upstream is configured, so this gateway serves the built-in DEMO model only: it answers `model="demo"`
  !! with canned text and calls nothing. Set OPENAI_API_KEY to reach a real model.
"""
_FIRST_KEY_NOTICE = """\
  Your first {kind} key (shown this once{saved}):

      {key}

"""


def banner(
    settings: Settings, upstreams: Sequence[UpstreamSettings], url: str, database: str, first_keys: FirstKeys | None
) -> str:
    """The text printed when the gateway is about to serve these upstreams at this URL."""
    demo = upstreams[0] is DEMO
    data_dir = settings.storage.data_dir
    key_file = data_dir / "first-api-key"
    saved = key_file.exists() if first_keys is None else _is_saved(first_keys.key, key_file)
    shown_key = f"$(cat {key_file})" if saved else "$ANTIPHON_KEY"
    model = "demo" if demo else "MODEL"
    return (
        f"\n  Antiphon {__version__}\n"
        f"    serves     {url}/v1\n"
        f"    database   {database}\n"
        f"    upstreams  {', '.join(map(_described, upstreams))}\n\n"
        + (_DEMO_NOTICE + "\n" if demo else "")
        + _first_key_notices(first_keys, data_dir)
        + f'  Try it:\n\n      curl {url}/v1/responses -H "Authorization: Bearer {shown_key}" \\\n'
        f'        -H \'Content-Type: application/json\' -d \'{{"model": "{model}", "input": "Hello!"}}\'\n'
    )


def _first_key_notices(first_keys: FirstKeys | None, data_dir: Path) -> str:
    if first_keys is None:
        return ""
    notices = [_first_key_notice("API", first_keys.key, data_dir / "first-api-key")]
    if first_keys.admin_key is not None:
        notices.append(_first_key_notice("admin", first_keys.admin_key, data_dir / "first-admin-key"))
    return "".join(notices)


def _first_key_notice(kind: str, key: str, file: Path) -> str:
    saved = f"; also saved in {file}" if _is_saved(key, file) else ""
    return _FIRST_KEY_NOTICE.format(kind=kind, key=key, saved=saved)


def _is_saved(key: str, file: Path) -> bool:
    # It may be an earlier database's, with another key in it.
    return file.exists() and file.read_text().strip() == key


def _described(upstream: UpstreamSettings) -> str:
    if upstream is DEMO:
        return "demo (built in)"
    keys = f"{len(upstream.keys)} key{'' if len(upstream.keys) == 1 else 's'}"
    return f"{upstream.name} ({upstream.base_url}, {keys}, models {' '.join(upstream.models)})"
