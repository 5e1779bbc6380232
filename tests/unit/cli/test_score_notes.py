"""What `quakestream score` says of maps that a reference flatters."""

from quakestream.cli.score import flattered_by

EVENT = {"event": {"id": "quake"}, "bundle": {"name": "b"}}


def test_a_map_of_the_model_alone_has_no_note() -> None:
    assert flattered_by(EVENT) == []
    assert flattered_by({**EVENT, "bundle": {"adapted_to": "another"}}) == []


def test_labels_of_the_event_and_answers_are_named() -> None:
    (adapted,) = flattered_by({**EVENT, "bundle": {"adapted_to": "quake"}})
    assert "adapted to labels of this event" in adapted
    (checked,) = flattered_by({**EVENT, "verification": {"of": "s"}})
    assert "verdicts that people checked are theirs" in checked
