"""Tokens: who they name, what they may do, and when they end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.errors import ConfigError
from serving.tokens import Permission, TokenFile, new_token


def test_a_token_is_kept_as_a_hash(tmp_path: Path) -> None:
    token, entry = new_token("ada", [Permission.READ], None)
    assert token not in entry
    path = tmp_path / "tokens.yaml"
    path.write_text(entry)
    caller = TokenFile(str(path)).caller(token)
    assert caller is not None
    assert caller.name == "ada"
    assert caller.may(Permission.READ)
    assert not caller.may(Permission.SUBMIT)
    assert caller.sees("ada")
    assert not caller.sees("ben")


def test_a_token_ends(tmp_path: Path) -> None:
    end = datetime(2026, 12, 1, tzinfo=UTC)
    token, entry = new_token("ada", [Permission.ADMIN], end)
    path = tmp_path / "tokens.yaml"
    path.write_text(entry)
    tokens = TokenFile(str(path))
    assert tokens.caller(token, end - timedelta(seconds=1)) is not None
    assert tokens.caller(token, end) is None


@pytest.mark.parametrize("wrong", ["", "x", "ä", "\udcff", "a" * 100_000])
def test_other_tokens_are_nobody(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(new_token("ada", [Permission.READ], None)[1])
    assert TokenFile(str(path)).caller(wrong) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "x: 1",
        "- name: a",
        "- {name: a, sha256: zz, scopes: [read]}",
        "- {name: a, sha256: abcd, scopes: [read]}",
        f"- {{name: a, sha256: {'ab' * 32}, scopes: [write]}}",
        f"- {{name: a, sha256: {'ab' * 32}, scopes: read}}",
        f"- {{name: a, sha256: {'ab' * 32}, scopes: [read], expires: soon}}",
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError):
        TokenFile(str(path))


def test_two_tokens_of_one_name_work_while_one_takes_over(tmp_path: Path) -> None:
    old, new = (new_token("ada", [Permission.READ], None) for _ in range(2))
    path = tmp_path / "tokens.yaml"
    path.write_text(old[1] + new[1])
    tokens = TokenFile(str(path))
    assert tokens.caller(old[0]) == tokens.caller(new[0]) is not None
