"""Tables of acquisition times as spreadsheets save them."""

import datetime as dt
from pathlib import Path

import pytest

from quakestream.catalog import read_times
from quakestream.errors import ConfigError

EXACT = dt.datetime(2023, 2, 7, 8, 38, 42, tzinfo=dt.UTC)
DAY = dt.datetime(2023, 2, 7, tzinfo=dt.UTC)


def written(folder: Path, content: str | bytes) -> str:
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


TABLE = "file,datetime\nköy 1.tif,2023-02-07T08:38:42Z\nb.tif,2023-02-07\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t").encode("utf-16"),
        TABLE.replace(",", " ; ").replace("\n", "\r\n").encode("utf-8-sig"),
        '"file";"datetime"\r\n"köy 1.tif";"2023-02-07T08:38:42Z"\r\n;\r\n"b.tif";"2023-02-07"\r\n',
        "sep=;\n\nFile;Sensor, mode;DateTime\nköy 1.tif;a;2023-02-07T08:38:42Z\nb.tif;;07.02.2023",
    ],
    ids=[
        "commas",
        "semicolons",
        "tabs of UTF-16",
        "BOM and CRLF",
        "quoted",
        "sep and more columns",
    ],
)
def test_a_table_is_read_as_it_was_saved(tmp_path: Path, content: str | bytes) -> None:
    times = read_times(written(tmp_path, content))
    assert list(times) == ["köy 1.tif", "b.tif"]
    assert (times["köy 1.tif"].start, times["köy 1.tif"].end) == (EXACT, EXACT)
    assert (times["b.tif"].start, times["b.tif"].end.date()) == (DAY, DAY.date())


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("2023-02-07 8:38", EXACT.replace(second=0) - dt.timedelta(hours=14)),  # no zone
        ("2023/2/7 08:38:42Z", EXACT),
        ("2023:02:07 08:38:42 UTC", EXACT),
        ("07.02.2023 08:38:42+00:00", EXACT),
        ("13/02/2023", DAY.replace(day=13)),
        ("2/13/2023 11:05 PM Z", DAY.replace(day=13, hour=23, minute=5)),
        ("2/13/2023 12:05 am Z", DAY.replace(day=13, minute=5)),
        ("02-02-2023", DAY.replace(day=2)),
        ("20230207", DAY),
    ],
)
def test_local_forms_of_one_meaning_are_read(tmp_path: Path, text: str, start: dt.datetime) -> None:
    assert read_times(written(tmp_path, f"file;datetime\na.tif;{text}\n"))["a.tif"].start == start


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("03/04/2023", "month and day of datetime may be exchanged"),
        ("3-4-2023 10:00", "month and day of datetime may be exchanged"),
        ("noon", "datetime is not a time"),
        ("44964.36", "datetime is not a time"),
        ("31.02.2023", "datetime is not a time"),
        ("13/13/2023", "datetime is not a time"),
        ("2/13/2023 13:00 PM", "datetime is not a time"),
        ("07.02.23", "datetime is not a time"),
    ],
)
def test_what_is_no_clear_time_is_named_with_row_and_forms(
    tmp_path: Path, text: str, what: str
) -> None:
    uri = written(tmp_path, f"file;datetime\nok.tif;2023-02-07\na.tif;{text}\n")
    with pytest.raises(ConfigError) as caught:
        read_times(uri)
    assert str(caught.value) == (
        f"--times {uri}, line 3, a.tif: {what}: expected 2023-02-07T08:38:42Z, 2023-02-07 08:38 "
        f"(no zone), 2023-02-07, or 07.02.2023 08:38 (day first), got '{text}'"
    )


def test_all_rows_are_told_at_once_up_to_a_few(tmp_path: Path) -> None:
    rows = "".join(f"{n}.tif,03/04/2023\n" for n in range(9))
    uri = written(tmp_path, f"file,datetime\n{rows}")
    with pytest.raises(ConfigError) as caught:
        read_times(uri)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == [
        f"--times {uri}, line 2, 0.tif",
        f"--times {uri}, line 3, 1.tif",
    ]
    assert len(lines) == 6
    assert lines[-1] == f"--times {uri}: 4 more rows have no time that can be read"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name;when\na;b\n", "columns are missing: expected file,datetime, got name;when; write"),
        ("a.tif;2023-02-07\n", "columns are missing: expected file,datetime, got a.tif;2023-02-07"),
        ("", "columns are missing: expected file,datetime, got nothing"),
        ("file,datetime\na.tif\n", "line 2, a.tif: row has no datetime: .*got nothing"),
        ("file,datetime\n,2023-02-07\n", "line 2: row names no file: expected file, got nothing"),
        (
            "file;datetime\na.tif;2023-02-07\na.tif;2023-02-08\n",
            "line 3, a.tif: file has another time above: got 2023-02-08",
        ),
        (b"PK\x03\x04\xff\xfe", "not text: expected CSV in UTF-8, got an Excel workbook; save"),
        ("file;datetime\nş.tif;2023".encode("cp1254"), "not text: expected CSV in UTF-8"),
    ],
)
def test_what_is_no_such_table_is_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_times(written(tmp_path, content))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--times .*none.csv: .*there is no such file"):
        read_times(str(tmp_path / "none.csv"))
