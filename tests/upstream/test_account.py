from app.settings.upstreams import UpstreamSettings
from app.upstream.account import accounts_of, are_strict, serves
from tests.upstream.rig import KEYS, upstream_settings


def test_an_account_is_named_after_its_upstream_and_a_digest_of_its_key() -> None:
    one, two = accounts_of(upstream_settings("http://a/v1", *KEYS[:2]))
    assert one.name == "main/aaa6271e98a1"
    assert two.name != one.name
    assert [one, two] == list(accounts_of(upstream_settings("http://a/v1", *KEYS[:2])))


def test_an_upstream_without_keys_has_one_account_that_sends_none() -> None:
    (account,) = accounts_of(UpstreamSettings(name="local", base_url="http://a/v1"))
    assert account.name == "local/none"
    assert account.authorization is None


def test_the_key_is_in_no_text_of_an_account() -> None:
    (account,) = accounts_of(upstream_settings())
    assert account.authorization is not None
    assert account.authorization.get_secret_value() == f"Bearer {KEYS[0]}"
    assert KEYS[0] not in f"{account!r} {account} {account.authorization} {account.upstream!r}"


def test_an_account_reads_what_was_sealed_for_its_upstream_if_that_is_translated() -> None:
    native, chat = (
        accounts_of(upstream_settings("http://a/v1", *KEYS[:2], name=name, api=api))
        for name, api in (("native", "responses"), ("chat", "chat"))
    )
    for account in native:
        assert account.reads == {None, account.name}
    one, two = chat
    assert one.reads - {one.name} == two.reads - {two.name} == {None, "chat/", "/"}


def test_openais_rules_hold_where_all_that_may_serve_the_model_have_them() -> None:
    openai = upstream_settings("https://api.openai.com/v1", models=("gpt-*", "shared"))
    vendor = upstream_settings("https://vendor.example/v1", name="vendor", models=("llama-*", "shared"))
    both = (openai, vendor)
    assert [are_strict(both, model) for model in ("gpt-5", "llama-4", "shared")] == [True, False, False]
    assert not are_strict(both)
    assert are_strict([openai])
    told = [
        upstream_settings("https://api.openai.com/v1", validation="structural"),
        upstream_settings(validation="openai"),
    ]
    assert [are_strict([one], "m") for one in told] == [False, True]


def test_models_match_by_glob_and_by_case() -> None:
    upstream = upstream_settings(models=("gpt-5*", "o3"))
    assert [serves(upstream, model) for model in ("gpt-5.4", "o3", "O3", "o3-mini", "xgpt-5")] == [
        True,
        True,
        False,
        False,
        False,
    ]
