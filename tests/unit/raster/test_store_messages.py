"""What object stores answer, in words."""

import pytest
from rasterio.errors import RasterioIOError

from quakestream.errors import StorageError
from quakestream.raster.messages import root_cause
from quakestream.storage import StorageOptions, local_copy

XML = '<?xml version="1.0"?><Error><Code>{}</Code><BucketName>b</BucketName></Error>'


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (XML.format("NoSuchKey"), "there is no such object; the name of a folder ends in a slash"),
        (XML.format("NoSuchBucket"), "there is no such bucket"),
        (XML.format("SlowDown"), "the store answers SlowDown"),
        (XML.format("SignatureDoesNotMatch"), "permission denied; the secret key does not fit"),
        ("AWS_SECRET_ACCESS_KEY ... not defined", "no credentials on the machine that asks; set "),
        ("not a TIFF", "not a TIFF"),
    ],
)
def test_answers_are_said_in_words(said: str, words: str) -> None:
    assert root_cause(RasterioIOError(said)).startswith(words)


@pytest.mark.slow
def test_a_dead_endpoint_is_named_with_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    options = StorageOptions(protocols={"s3": {"endpoint_url": "http://127.0.0.1:9"}})
    with pytest.raises(StorageError) as caught, local_copy("s3://b/boxes.geojson", options):
        raise AssertionError
    assert caught.value.what == "cannot fetch: no server answers at http://127.0.0.1:9"
    assert "--s3-endpoint" in caught.value.remedy
