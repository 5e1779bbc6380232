"""The sizing guide is what the capacity model makes of the measured rates."""

from benchmarks.sizing import table
from tests.helpers.deploying import DEPLOY


def test_the_guide_is_what_the_model_says() -> None:
    text = (DEPLOY / "README.md").read_text()
    shown = text.split("<!-- sizing -->")[1].split("<!-- /sizing -->")[0].strip()
    assert shown == table(), "python -m benchmarks.sizing"


def test_a_way_of_ten_commands() -> None:
    text = (DEPLOY / "README.md").read_text()
    block = text.split("in ten commands")[1].split("```sh\n")[1].split("```")[0]
    commands = block.replace("\\\n", " ").strip().splitlines()
    assert len(commands) - 1 == 10, "besides the line of exports"
