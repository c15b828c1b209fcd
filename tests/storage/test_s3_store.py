"""Uploads in parts: what is left behind when they fail, and what may not be touched then."""

from __future__ import annotations

import io

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from sdbatch.errors import SdbatchError
from sdbatch.storage.retrying import FaultError, Patience
from sdbatch.storage.s3_store import S3Store

SIZE = 12 << 20


def refusal(status, code, retries=0):
    facts = {"HTTPStatusCode": status, "RetryAttempts": retries}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": facts}, "x")


LOST = ConnectionClosedError(endpoint_url="http://host")


def calls_of(monkeypatch, faults):
    """What is asked of a store on which each call named in `faults` meets those in turn."""
    store = S3Store("s3://bucket/x", {})
    store.patience = Patience(call_s=5, verb_s=0.3, pause_s=0.01)
    asked = []

    async def ask(request, **_parameters):
        asked.append(request)
        left = faults.get(request, [])
        if left:
            raise left.pop(0) if len(left) > 1 else left[0]
        return {"UploadId": "u", "ETag": "e"}

    monkeypatch.setattr(store, "_ask", ask)
    monkeypatch.setattr(store, "_before", lambda: None)
    monkeypatch.setattr(store, "head", lambda _key: None)
    with pytest.raises((SdbatchError, FaultError)):
        store._put_large("data/x", io.BytesIO(bytes(SIZE)), SIZE, "")
    return asked


@pytest.mark.parametrize(
    "fault", [refusal(403, "AccessDenied"), refusal(404, "NoSuchUpload"), refusal(412, "x"), LOST]
)
def test_an_upload_is_given_up_when_a_part_of_it_was_not_taken(monkeypatch, fault):
    assert calls_of(monkeypatch, {"upload_part": [fault]})[-1] == "abort_multipart_upload"


@pytest.mark.parametrize("fault", [refusal(403, "AccessDenied"), refusal(412, "x")])
def test_an_upload_is_given_up_when_its_end_was_refused(monkeypatch, fault):
    asked = calls_of(monkeypatch, {"complete_multipart_upload": [fault]})

    assert asked[-2:] == ["complete_multipart_upload", "abort_multipart_upload"]


@pytest.mark.parametrize(
    "faults",
    [
        [LOST],
        [LOST, refusal(403, "AccessDenied")],
        [LOST, refusal(404, "NoSuchUpload")],
        [refusal(403, "AccessDenied", retries=1)],
        [refusal(500, "InternalError")],
    ],
)
def test_an_upload_whose_end_is_in_doubt_is_left_alone(monkeypatch, faults):
    asked = calls_of(monkeypatch, {"complete_multipart_upload": faults})

    assert "complete_multipart_upload" in asked
    assert "abort_multipart_upload" not in asked
