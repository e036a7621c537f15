"""The layers around the file: variables, overlays, and the files that it includes."""

from __future__ import annotations

from pathlib import Path

import pytest

from aioresilience.config import ConfigError, Document, FileSource, MappingSource, TextSource, load
from aioresilience.policy import BUILTIN

NOW = 1_800_000_000.0


def read(*texts: str, **options) -> Document:
    sources = [TextSource(text, f"{number}.yaml") for number, text in enumerate(texts, 1)]
    return load(sources, patterns=BUILTIN, now=NOW, **options)


def pattern(document: Document, key: str, policy: str = "a"):
    return dict(document.policies[policy].patterns).get(key)


def seconds(document: Document, policy: str = "a") -> float | None:
    found = pattern(document, "timeout", policy)
    return None if found is None else found.timeout


def ids(*texts: str, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(*texts, **options)
    return [one.id for one in caught.value.diagnostics]


VARIABLES = {
    "AIORESILIENCE_POLICIES__CARD_PAYMENTS__RETRY__MAX_ATTEMPTS": ("retry", "max_attempts", "5", 5),
    "AIORESILIENCE_POLICIES__CARD_PAYMENTS__TIMEOUT": ("timeout", "timeout", "3s", 3.0),
    "AIORESILIENCE_POLICIES__CARD_PAYMENTS__BULKHEAD": ("bulkhead", "max_concurrent", "{max_concurrent: 4}", 4),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_patches_the_policy_whose_name_it_spells(variable):
    key, field, value, expected = VARIABLES[variable]
    document = read("version: 1\npolicies: {card-payments: {}}", environ={variable: value})
    assert getattr(pattern(document, key, "card-payments"), field) == expected


def test_a_variable_may_remove_a_pattern():
    document = read("version: 1\npolicies: {a: {timeout: 2}}", environ={"AIORESILIENCE_POLICIES__A__TIMEOUT": "null"})
    assert seconds(document) is None


@pytest.mark.parametrize("names", ["{other: {}}", "{card-payments: {}, card.payments: {}}"])
def test_a_variable_that_fits_none_or_several_is_a_warning_and_an_error_where_it_is_checked(names):
    environ = {"AIORESILIENCE_POLICIES__CARD_PAYMENTS__TIMEOUT": "3s"}
    text = f"version: 1\npolicies: {names}"
    assert [(one.id, one.severity) for one in read(text, environ=environ).findings] == [("AR315", "warning")]
    assert ids(text, environ=environ, strict=True) == ["AR315"]
    assert ids(text, environ=environ, in_service=False) == ["AR315"]


def test_variables_alone_define_policies():
    environ = {"AIORESILIENCE_POLICIES__CARD_PAYMENTS__TIMEOUT": "3s", "AIORESILIENCE_DEFAULTS__DEADLINE": "9s"}
    document = load([], patterns=BUILTIN, environ=environ)
    assert [key for key, _ in document.policies["card-payments"].patterns] == ["deadline", "timeout"]


def test_a_variable_s_error_names_the_variable():
    with pytest.raises(ConfigError, match="environment AIORESILIENCE_POLICIES__A__TIMEOUT: error AR205"):
        read("version: 1\npolicies: {a: {}}", environ={"AIORESILIENCE_POLICIES__A__TIMEOUT": "soon"})


def test_an_overlay_that_is_not_chosen_changes_nothing_but_is_checked():
    text = "version: 1\npolicies: {a: {timeout: 2}}\nenvironments: {e: {policies: {a: {timeout: %s}}}}"
    assert seconds(read(text % "'${UNSET}'")) == 2
    assert ids(text % "soon") == ["AR205"]


def test_an_unknown_environment_is_an_error_only_where_the_file_has_environments():
    assert read("version: 1", environment="production").revision
    assert ids("version: 1\nenvironments: {production: {}}", environment="prodution") == ["AR313"]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".yaml").write_text(f"version: 1\n{text}")
    return folder / "main.yaml"


def from_files(folder: Path, **files: str) -> Document:
    return load(FileSource(write(folder, **files)), patterns=BUILTIN, now=NOW)


def test_a_file_lies_over_its_includes_and_later_includes_over_earlier(tmp_path):
    document = from_files(
        tmp_path,
        one="policies: {a: {timeout: 1}, b: {timeout: 1}, c: {timeout: 1}}",
        two="policies: {a: {timeout: 2}, b: {timeout: 2}}",
        main="include: [one.yaml, two.yaml]\npolicies: {a: {timeout: 3}}",
    )
    assert [seconds(document, name) for name in "abc"] == [3, 2, 1]


def test_includes_start_at_the_folder_of_the_including_file(tmp_path):
    document = from_files(
        tmp_path,
        sub__inner="policies: {a: {timeout: 1}}",
        sub__outer="include: [inner.yaml]",
        main="include: [sub/outer.yaml]",
    )
    assert seconds(document) == 1


def test_a_file_included_twice_counts_once_at_its_first_place(tmp_path):
    document = from_files(
        tmp_path,
        base="policies: {a: {timeout: 1}}",
        one="include: [base.yaml]\npolicies: {a: {timeout: 2}}",
        two="include: [base.yaml]",
        main="include: [one.yaml, two.yaml]",
    )
    assert seconds(document) == 2


def test_a_link_out_of_the_root_is_refused(tmp_path):
    (tmp_path / "outside.yaml").write_text("version: 1")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    with pytest.raises(ConfigError, match="AR310"):
        from_files(tmp_path / "root", main="include: [link.yaml]")


def test_a_wider_root_lets_includes_climb(tmp_path):
    main = write(tmp_path, common="policies: {a: {timeout: 1}}", sub__main="include: [../common.yaml]")
    main = tmp_path / "sub" / "main.yaml"
    with pytest.raises(ConfigError, match="AR310"):
        load(FileSource(main), patterns=BUILTIN)
    assert seconds(load(FileSource(main), patterns=BUILTIN, root=tmp_path)) == 1


def test_a_circle_of_includes_names_its_steps(tmp_path):
    with pytest.raises(ConfigError, match=r"main.yaml -> one.yaml -> main.yaml"):
        from_files(tmp_path, one="include: [main.yaml]", main="include: [one.yaml]")


def test_errors_of_an_included_file_name_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, sub__one="policies: {a: {timeout: soon}}", main="include: [sub/one.yaml]")
    with pytest.raises(ConfigError, match=r"^sub/one.yaml:2:25: error AR205"):
        load(FileSource("main.yaml"), patterns=BUILTIN)


def test_a_text_has_no_folder_to_include_from():
    assert ids("version: 1\ninclude: [a.yaml]") == ["AR309"]


def test_errors_of_all_sources_come_at_once(tmp_path):
    main = write(tmp_path, main="policies: {a: {timeout: soon}}")
    with pytest.raises(ConfigError) as caught:
        load([FileSource(main), MappingSource({"version": 2}), TextSource("version: 1\nx: [", "t")], patterns=BUILTIN)
    assert sorted(one.id for one in caught.value.diagnostics) == ["AR105", "AR205", "AR211"]
