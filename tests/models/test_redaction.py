"""No secret passes the redactor, and ordinary text does unchanged."""

from __future__ import annotations

import pytest

from models.redaction import Redactor, without

SECRET = "tr0ub4dor-and-3"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f'{{"authorization": "Basic {SECRET}"}}',
        f"401: bearer {SECRET} is unknown",
        f"http://me:{SECRET}@host/v1",
        f"https://bucket/x.mp4?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"--api-key {SECRET}",
        f"api_key={SECRET}",
        f"the key {SECRET}",
    ],
)
def test_secrets_are_hidden(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET if text.startswith("the key") else "")
    hidden = Redactor(["MY_KEY"]).text(text)
    assert SECRET not in hidden and "[redacted]" in hidden


def test_variables_named_like_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", SECRET)
    monkeypatch.setenv("KEYBOARD", "qwertyuiop")
    assert Redactor().text(f"it said {SECRET} qwertyuiop") == "it said [redacted] qwertyuiop"
    assert without("another secret; api_key=abcdefgh", ["another", "another secret", "api"]) == (
        "[redacted]; api_key=abcdefgh"
    )


def test_an_argument_after_an_option_for_a_key_is_hidden() -> None:
    tree = {"server": {"arguments": ["--api-key", SECRET, "--port", "80"]}}
    assert Redactor().tree(tree) == {"server": {"arguments": ["--api-key", "[redacted]", "--port", "80"]}}


def test_other_text_is_unchanged() -> None:
    text = "12.5 s; probe.min_duration_s is 5; api_key_env: MY_KEY at http://host/v1?x=1"
    assert Redactor().text(text) == text
