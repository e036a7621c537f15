"""Secrets: files that hold them, and that no text ever shows them."""

from __future__ import annotations

import pytest

from aioresilience.config import ConfigError, Document, TextSource, load
from aioresilience.policy import BUILTIN

SECRET = "hunter2-made-up"


def read(text: str, **options) -> Document:
    return load(TextSource(f"version: 1\n{text}", "r.yaml"), patterns=BUILTIN, **options)


def refused(text: str, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, **options)
    return str(caught.value)


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "redis-password"
    path.write_text(f"{SECRET}\n")
    return path


def backend(rest: str) -> str:
    return f"backends:\n  main: {{type: redis, url: 'redis://127.0.0.1:6379/0', {rest}}}\n"


def test_what_a_secret_file_holds_is_hidden_wherever_it_turns_up(secret_file):
    text = backend(f"password: {{file: {secret_file}}}") + f"policies: {{a: {{timeout: {SECRET}}}}}\n"
    shown = refused(text)
    assert SECRET not in shown
    assert "AR205" in shown
    assert read(backend(f"password: {{file: {secret_file}}}")).secrets == {SECRET}


@pytest.mark.parametrize("text", ["", "\n"], ids=["empty", "a line break"])
def test_an_empty_secret_file_is_refused(text, tmp_path):
    (tmp_path / "s").write_text(text)
    assert "the secret file cannot be read: it is empty" in refused(backend(f"password: {{file: {tmp_path / 's'}}}"))


def test_a_secret_file_that_is_no_text_or_too_large_is_refused(tmp_path):
    (tmp_path / "s").write_bytes(b"\xff\xfe")
    assert "it is not UTF-8" in refused(backend(f"password: {{file: {tmp_path / 's'}}}"))
    (tmp_path / "s").write_bytes(b"x" * 70_000)
    assert "larger than 64 KiB" in refused(backend(f"password: {{file: {tmp_path / 's'}}}"))


def test_a_secret_file_that_is_missing_is_an_error_in_a_service_and_a_note_outside():
    text = backend("password: {file: /no/such/file}")
    shown = refused(text)
    assert "r.yaml:3:73: error AR317 backends.main.password.file: the secret file cannot be read: no such" in shown
    found = read(text, in_service=False).findings
    assert [(one.id, one.severity) for one in found] == [("AR317", "note")]


LEAKS = [
    backend(f"password: {SECRET}, fleet_size: '{SECRET}'"),
    backend(f"password: [{SECRET}]"),
    backend(f"passwort: {SECRET}, password: '{SECRET}'"),
    f"backends: {{main: {{type: redis, url: 'redis://:{SECRET}@127.0.0.1/0', fleet_size: {SECRET}}}}}\n",
    f"backends: {{main: {{type: redis, url: 'redis://:{SECRET}@h/0'}}}}\npolicies: {{a: {{timeout: {SECRET}}}}}\n",
    f"backends: {{main: {{type: redis, url: 'redis://u:{SECRET}@h:port/0', fleet_size: -1}}}}\n",
    f"backends: {{main: {{type: mysql, url: 'redis://u:{SECRET}@h:1/0'}}}}\n",
    f"backends: {{main: 'redis://u:{SECRET}@h:1/0'}}\n",
    f"backends: ['redis://u:{SECRET}@h:1/0']\n",
    f"backends:\n  main:\n    type: redis\n    password: {SECRET}\n     url: x\n",
    f"backends:\n  main:\n    type: redis\n    password: {SECRET}\n    password: {SECRET}x\n",
    f"backends:\n  main:\n    type: redis\n    url: x\n    password: \t{SECRET}\n    y: [\n",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_message_shows_a_password(text):
    assert SECRET not in refused(text)


def test_a_number_as_a_password_is_hidden_too():
    assert "73519846" not in refused(backend("password: 73519846"))


def test_what_variables_bring_into_backends_is_hidden():
    environ = {
        "URL": f"redis://:{SECRET}@h:1/0",
        "AIORESILIENCE_BACKENDS__MAIN__PASSWORD": SECRET,
        "OTHER": "shown-word",
    }
    text = "backends: {main: {type: redis, url: '${URL}'}}\npolicies: {a: {timeout: '%s'}}\n"
    assert SECRET not in refused(text % SECRET, environ=environ)
    assert "word" in refused(text % "${OTHER}", environ=environ)


def test_neither_document_nor_backend_shows_a_password_when_printed():
    document = read(f"backends: {{main: {{type: redis, url: 'redis://:{SECRET}@h:1/0', password: {SECRET}}}}}\n")
    assert SECRET not in repr(document)
    assert SECRET not in str(document.backends["main"])
