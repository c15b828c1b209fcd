"""Addresses of buckets: only spellings that every store reads alike."""

from __future__ import annotations

import pytest

from sdbatch.errors import InputError
from sdbatch.storage.cloud_address import parse_address


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a/b/", ("bucket", "a/b/")),
        ("gs://my.bucket-1/run=a/x y", ("my.bucket-1", "run=a/x y/")),
        ("abfs://box@account.dfs.core.windows.net/a", ("box", "a/")),
    ],
)
def test_bucket_and_folder_are_told_apart(url, place):
    assert parse_address(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///x",
        "s3://b?c/x",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/./x",
        "s3://bucket/a?versionId=1",
        "s3://bucket/a#b",
        "s3://bucket/a\\b",
        "s3://bucket/a*",
        "s3://bucket/a\nb",
        "s3://bucket/ä",
    ],
)
def test_what_stores_disagree_about_is_refused(url):
    with pytest.raises(InputError, match=r"name a bucket|only letters"):
        parse_address(url)


def test_a_refused_address_is_shown_without_its_secret():
    with pytest.raises(InputError) as caught:
        parse_address("s3://AKIAIOSFODNN7EXAMPLE:wJalr/K7MDENG@pictures/x")

    assert "wJalr" not in str(caught.value)
    assert "K7MDENG" not in str(caught.value)
