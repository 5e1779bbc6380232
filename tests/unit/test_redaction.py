"""Text without secrets."""

import pickle
from pathlib import Path

import pytest

from quakestream.cli.failures import report_failure
from quakestream.config import parse_run
from quakestream.domain import Issue
from quakestream.errors import ConfigError, StorageError
from quakestream.redaction import HIDDEN, names_secret, redacted, redacted_tree, without_credentials
from tests.unit.config.test_loading import SMALL

S = "hunter2%2Fhunter2=="


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://h/a.tif?token={S}", "https://h/a.tif?token=***"),
        (f"https://h/a.tif?{S.rstrip('=')}", "https://h/a.tif?***"),
        (f"https://h/a?se=1&sig={S}&sp=r", "https://h/a?se=***&sig=***&sp=***"),
        (f"https://h/a?a=1;sig={S}: 403; try it", "https://h/a?a=***: 403; try it"),
        (f"(https://h/a?sig={S}).", "(https://h/a?sig=***)."),
        (f"'https://h/a?sig=a)b{S}'", "'https://h/a?sig=***'"),
        (f"https://me:{S}@h/a", "https://***@h/a"),
        (f"https://me:p@ss{S}@h:80/a b", "https://***@h:80/a b"),
        (f"https://{S}@h/a", "https://***@h/a"),
        (f"s3://key:{S}@bucket/a", "s3://***@bucket/a"),
        (f"simplecache::https://h/a?x={S}", "simplecache::https://h/a?x=***"),
        (f"/vsicurl/https://h/a?x={S}", "/vsicurl/https://h/a?x=***"),
        (f"url=/a/b?token={S} (Caused by timeout)", "url=/a/b?token=*** (Caused by timeout)"),
        (f"https://h/p#access_token={S}", "https://h/p#access_token=***"),
        (f'<a href="https://h/?a=b&amp;t={S}">', '<a href="https://h/?a=***&amp;t=***">'),
        (f"https://h/a?x={S} and\nhttps://k/b?y={S}", "https://h/a?x=*** and\nhttps://k/b?y=***"),
        ("az://container@account/x.tif", "az://container@account/x.tif"),
        ("s3://bucket/a.tif, /home/me/a=b.tif", "s3://bucket/a.tif, /home/me/a=b.tif"),
        ("is https://h/a there? no; a = b", "is https://h/a there? no; a = b"),
        ("user@example.org: got x=3; y=4", "user@example.org: got x=3; y=4"),
    ],
)
def test_a_uri_still_names_its_object_and_nothing_more(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown
    assert redacted_tree({"a": [text, 3, None]}) == {"a": [shown, 3, None]}


@pytest.mark.parametrize(
    "name",
    [
        "aws_secret_access_key",
        "X-Api-Key",
        "accountKey",
        "sasToken",
        "Authorization",
        "Cookie",
        "AZURE_STORAGE_CONNECTION_STRING",
        "sig",
    ],
)
def test_names_that_hold_secrets(name: str) -> None:
    assert names_secret(name)
    assert not any(map(names_secret, ["endpoint_url", "anon", "region", "keyboard", "monkey"]))


def test_errors_and_issues_show_no_secret_and_survive_pickling() -> None:
    error = StorageError("cannot read", f"https://h/a?token={S}", got=f"https://u:{S}@h/b")
    assert S not in str(pickle.loads(pickle.dumps(error)))
    issue = Issue(subject=f"https://h/a?token={S}", kind="scene", cause=str(ValueError(f"?t={S}")))
    assert S not in repr(issue)


def test_the_details_of_an_unforeseen_error_hold_no_secret(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setattr("sys.argv", ["quakestream", "map", f"https://h/run.yaml?sig={S}"])
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError(f"https://h/a?token={S} signed with wJalrXUtnFEMI")
    assert report_failure(caught.value) == 3
    line = capsys.readouterr().err
    details = Path(line.split("details in ")[1].split(",")[0]).read_text()
    for text in (line, details):
        assert S not in text
        assert "wJalrXUtnFEMI" not in text
        assert HIDDEN in text
    assert "ZeroDivisionError" in details
    assert without_credentials("wJalrXUtnFEMI") == HIDDEN


@pytest.mark.parametrize(
    "extra",
    [
        f"storage: {{s3: '{S}'}}",
        f"storage: {{s3: {{aws_secret_access_key: '{S}'}}, http: '{S}'}}",
        f"storage: {{http: {{headers: [{{X-Api-Key: '{S}'}}]}}}}",
        f"storage: {{http: {{headers: {{Cookie: '{S}'}}}}}}",
        f"storage: {{s3: {{endpoint_url: 'https://me:{S}@h'}}}}",
        f"storage: {{s3: {{client_kwargs: {{a: {{secret: '{S}'}}}}}}}}",
        f"storage: '{S}'",
        f"storage: ['{S}']",
        f"out: 'https://me:{S}@h/out'",
        f"profile: 'https://h/?token={S}'",
        f"execution: {{batch: 'https://h/?token={S}'}}",
        f"hazard: {{vs30: ['https://h/?token={S}'], layers: {{'a?token={S}': b.tif}}}}",
        f"outputs: ['https://h/?token={S}']",
        f"summary: {{admin: 3, id: 'https://h/?token={S}', extra: 'https://h/?token={S}'}}",
    ],
)
def test_a_mistake_beside_a_secret_does_not_repeat_it(extra: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(f"{SMALL}{extra}\n", "run.yaml")
    assert "hunter2" not in str(caught.value)


def test_the_folder_of_a_shell_is_no_secret_but_a_password_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PWD", "/data/quake")
    monkeypatch.setenv("OLDPWD", "/data/older")
    monkeypatch.setenv("MYSQL_PWD", "hunter2hunter2")
    shown = without_credentials("/data/quake/a.tif /data/older/b.tif hunter2hunter2")
    assert shown == f"/data/quake/a.tif /data/older/b.tif {HIDDEN}"
