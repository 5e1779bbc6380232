"""How commands end: one line a problem, an exit code, and a file where nobody foresaw it."""

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from quakestream.cli import main
from quakestream.cli.failures import BUGS, exit_code, report_failure
from quakestream.errors import (
    AccountingError,
    ConfigError,
    EngineError,
    MissingExtraError,
    Problem,
    QuakestreamError,
    RequestError,
    StorageError,
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (RequestError, 2),
        (ConfigError, 2),
        (StorageError, 3),
        (MissingExtraError, 3),
        (EngineError, 3),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    kind: type[QuakestreamError], code: int, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = kind(
        "no CRS", "[bold]a:car:b.tif\n", expected="one", got="\x1b[31mnone", remedy="add it"
    )
    assert report_failure(error) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err == "error: [bold]a:car:b.tif : no CRS: expected one, got �[31mnone; add it\n"
    )
    assert list(temporary.iterdir()) == []


def test_several_problems_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem("unknown key", f"run.yaml, line {line}") for line in (3, 7)]
    assert report_failure(ConfigError.of_all(problems)) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: 2 problems",
        "  run.yaml, line 3: unknown key",
        "  run.yaml, line 7: unknown key",
    ]


class PanicException(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize("kind", [ZeroDivisionError, PanicException, MemoryError, RecursionError])
def test_the_last_handler_lets_nothing_through(
    kind: type[BaseException],
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise kind("boom")

    monkeypatch.setattr(main, "_register", fail)
    assert main._run() == 3
    line = capsys.readouterr().err
    assert line.startswith(f"error: unexpected {kind.__name__}: got boom; details in {temporary}")


@pytest.mark.parametrize("kind", [ZeroDivisionError, *BUGS])
def test_what_nobody_foresaw_is_one_line_with_details_in_a_file(
    kind: type[Exception], temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(kind) as caught:
        raise kind("three rows\nare lost")
    assert report_failure(caught.value) == 3
    (line,) = capsys.readouterr().err.splitlines()
    (details,) = temporary.glob("quakestream-*.log")
    assert "three rows are lost" in line
    assert str(details) in line
    assert "Traceback (most recent call last)" in details.read_text()
    assert "raise kind" in details.read_text()


def test_details_that_cannot_be_written_do_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert report_failure(AccountingError("three rows are lost")) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: three rows are lost; details could not be written to ")


@pytest.mark.parametrize(
    ("code", "ends_with"), [(None, 0), (0, 0), (1, 1), (2, 2), (130, 130), (143, 143), (15, 143)]
)
def test_exit_codes_are_those_of_the_contract(code: int | None, ends_with: int) -> None:
    assert exit_code(code) == ends_with


def _signalled(body: str, *signals: signal.Signals, pause_s: float = 0.0) -> tuple[int, str]:
    """Exit code and stderr of a command with that body, which is sent signals."""
    script = (
        "import signal, sys, threading, time\n"
        "from quakestream.cli import main\n"
        # a shell's background jobs ignore SIGINT, and so do the processes they start
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait() -> None:\n"
        "    print('ready', flush=True)\n"
        f"    {body}\n"
        "main._register = lambda: main.app.command('wait')(wait)\n"
        "sys.argv = ['quakestream', 'wait']\n"
        "main.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(pause_s)
    for signum in signals:
        process.send_signal(signum)
        time.sleep(pause_s)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize(
    ("signum", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_a_command_with_its_code_and_a_line(
    signum: signal.Signals, code: int, word: str
) -> None:
    line = f"error: {word}; run the same command again to go on\n"
    assert _signalled("time.sleep(60)", signum) == (code, line)


def test_threads_that_read_or_score_are_not_waited_for() -> None:
    body = (
        "from quakestream.pipeline.work.readahead import threads\n"
        "    with threads(2, 'reader') as pool:\n"
        "        pool.submit(time.sleep, 50).result()"
    )
    began = time.monotonic()
    code, err = _signalled(body, signal.SIGINT, pause_s=3.0)
    assert (code, err.count("\n")) == (130, 1)
    assert time.monotonic() - began < 40


def test_a_command_that_does_not_unwind_says_so_and_a_second_signal_ends_it() -> None:
    """It hangs in a `finally`, and its threads never end."""
    body = (
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        time.sleep(60)"
    )
    code, err = _signalled(body, signal.SIGTERM, signal.SIGTERM, pause_s=1.0)
    assert code == 143
    assert err.splitlines() == [
        "terminated: stopping; groups that are under way are dropped or committed whole",
        "error: terminated; run the same command again to go on",
    ]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_is_one_line(signum: signal.Signals) -> None:
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'quakestream.cli.main':\n"
        f"            os.kill(os.getpid(), {int(signum)})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from quakestream.cli.start import main\n"
        "sys.argv = ['quakestream', '--version']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + signum, "")
    word = "interrupted" if signum == signal.SIGINT else "terminated"
    assert done.stderr == (f"error: {word} before anything was done; run the same command again\n")


NO_COMMANDS = {
    *("__init__", "main", "start", "common", "failures", "folders", "refusals", "signals"),
}


ELSEWHERE = {"serve", "adapt", "suggest"}
"""Commands of packages that use the library, found by their entry points."""


def test_the_table_names_every_command_and_each_has_an_example() -> None:
    folder = Path(main.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")}
    assert set(main.HELP) == modules - NO_COMMANDS | ELSEWHERE
    for name, line in main.HELP.items():
        target = main.load(name)
        if isinstance(target, main.typer.Typer):
            assert target.info.help == line
            commands = [c.callback for c in target.registered_commands if c.callback]
        else:
            assert (target.__doc__ or "").splitlines()[0] == line
            assert target is not None
            commands = [target]
        for function in commands:
            assert "Example: quakestream " in (function.__doc__ or ""), function


HEAVY = {
    *("boto3", "botocore", "rasterio", "geopandas", "pandas", "pyarrow", "pyproj", "shapely"),
    *("numpy", "scipy", "cv2", "torch", "onnxruntime", "openvino", "xarray", "dask", "ray"),
    *("pystac_client", "aiohttp"),
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["no-such-command"],
        ["status", "--help"],
        ["init", "--schema"],
    ],
    ids="-".join,
)
def test_a_command_imports_no_more_than_it_needs(arguments: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from quakestream.cli import main\n"
        "try:\n"
        "    main.main()\n"
        "finally:\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert not modules & HEAVY
    assert "quakestream.cli.main" in modules


def test_mapping_files_does_not_import_the_client_of_apis() -> None:
    """Its JSON schema validator takes a second to import, a fifth of a small map."""
    script = "import sys, quakestream.cli.map; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    modules = set(ast.literal_eval(done.stdout))
    assert not modules & {"pystac_client", "jsonschema", "torch", "ray"}
    assert "quakestream.catalog.search" in modules


def test_help_lists_every_command_with_its_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quakestream.cli.main", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    for name, line in main.HELP.items():
        assert any(name in row and line in row for row in done.stdout.splitlines()), name
