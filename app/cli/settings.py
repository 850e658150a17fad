"""Run `antiphon settings`: list the settings in effect with their sources."""

from app.cli.console import AsJson, member, print_json, print_table


def settings(*, as_json: AsJson = False) -> None:
    """List every setting with its value, secrets masked, and where the value comes from."""
    from app.administration.settings import effective
    from app.administration.views import resources
    from app.settings.gateway import load_settings

    loaded = load_settings()
    found = [resources.setting(each) for each in effective(loaded, loaded)]
    if as_json:
        print_json(resources.page(found))
    else:
        print_table(found, {name: member(name) for name in ("name", "value", "source")})
