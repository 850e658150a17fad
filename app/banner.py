"""What an operator is told at start: where things are and what to type next. Holds no secret but the first key."""

from pathlib import Path

from app import __version__
from app.main import DEMO, upstreams_of
from app.settings import Settings, UpstreamSettings

_DEMO_NOTICE = """\
  !! No upstream is configured, so this gateway serves the built-in DEMO model only: it answers `model="demo"`
  !! with canned text and calls nothing. Set OPENAI_API_KEY to reach a real model.
"""
_FIRST_KEY_NOTICE = """\
  Your first API key (shown this once{saved}):

      {key}

"""


def banner(settings: Settings, url: str, database: str, first_key: str | None) -> str:
    """The text printed when the gateway is about to serve at this URL."""
    upstreams = upstreams_of(settings)
    demo = upstreams == (DEMO,)
    key_file = settings.storage.data_dir / "first-api-key"
    # The file may be an earlier database's, with another key in it.
    saved = key_file.exists() and first_key in {None, key_file.read_text().strip()}
    shown_key = f"$(cat {key_file})" if saved else "$ANTIPHON_KEY"
    model = "demo" if demo else "MODEL"
    return (
        f"\n  Antiphon {__version__}\n"
        f"    serves     {url}/v1\n"
        f"    database   {database}\n"
        f"    upstreams  {', '.join(map(_described, upstreams))}\n\n"
        + (_DEMO_NOTICE + "\n" if demo else "")
        + (_first_key_notice(first_key, key_file if saved else None) if first_key else "")
        + f'  Try it:\n\n      curl {url}/v1/responses -H "Authorization: Bearer {shown_key}" \\\n'
        f'        -H \'Content-Type: application/json\' -d \'{{"model": "{model}", "input": "Hello!"}}\'\n'
    )


def _first_key_notice(key: str, key_file: Path | None) -> str:
    return _FIRST_KEY_NOTICE.format(key=key, saved=f"; also saved in {key_file}" if key_file else "")


def _described(upstream: UpstreamSettings) -> str:
    if upstream is DEMO:
        return "demo (built in)"
    keys = f"{len(upstream.keys)} key{'' if len(upstream.keys) == 1 else 's'}"
    return f"{upstream.name} ({upstream.base_url}, {keys}, models {' '.join(upstream.models)})"
