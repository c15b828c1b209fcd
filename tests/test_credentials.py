"""Secrets: refused where they would travel, resolved where they are used, shown nowhere."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.credentials import (
    HIDDEN,
    RedactingFilter,
    check_options,
    check_url,
    redact,
    redacted,
    resolve,
)
from sdbatch.errors import InputError

SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize(
    "options",
    [
        {"key": SECRET},
        {"secret": SECRET},
        {"token": SECRET},
        {"password": SECRET},
        {"account_key": SECRET},
        {"sas_token": SECRET},
        {"connection_string": f"AccountKey={SECRET}"},
        {"client_kwargs": {"aws_secret_access_key": SECRET}},
        {"client_kwargs": {"aws_session_token": SECRET}},
        {"client_secret": SECRET},
        {"token": {"private_key": SECRET}},
        {"credential": object()},
        {"endpoint_url": f"https://me:{SECRET}@host"},
        {"endpoint_url": f"https://host/?sig={SECRET}"},
        {"steps": [{"secret": SECRET}]},
        {"apikey": SECRET},
        {"secretkey": SECRET},
        {"client_kwargs": {"pw": SECRET}},
        {"client_kwargs": {"headers": {"X-Api-Key": SECRET}}},
        {"secret_access": SECRET},
        {"SSECustomerKey": SECRET},
        {"endpoint_url": f"http://u:p/{SECRET}@h"},
        {"endpoint_url": f"http://{SECRET}@h"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_secret_that_is_written_out_is_refused_and_not_repeated(options):
    with pytest.raises(InputError, match=r"env:NAME|not an object") as caught:
        check_options(options)

    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"anon": True},
        {"endpoint_url": "http://127.0.0.1:9000", "client_kwargs": {"region_name": "eu-west-1"}},
        {"key": "env:MY_KEY", "secret": "env:MY_SECRET"},
        {"token": "anon"},
        {"token": "/run/secrets/google.json"},
        {"account_name": "pictures"},
        {"requester_pays": True, "max_concurrency": 4, "key": None},
        {"config_kwargs": {"s3": {"addressing_style": "path", "signature_version": "s3v4"}}},
        {"s3_additional_kwargs": {"SSEKMSKeyId": "arn:aws:kms:eu:1:key/2"}},
        {"client_secret_file": "/run/secrets/x"},
        {"endpoint_url": "http://127.0.0.1:9000/a@b"},
    ],
)
def test_options_without_secrets_are_taken(options):
    check_options(options)


def test_names_are_resolved_where_the_store_is_opened(monkeypatch):
    monkeypatch.setenv("MY_SECRET", SECRET)
    options = {"secret": "env:MY_SECRET", "client_kwargs": {"verify": False, "x": "env:MY_SECRET"}}

    assert resolve(options) == {
        "secret": SECRET, "client_kwargs": {"verify": False, "x": SECRET}
    }  # fmt: skip
    assert options["secret"] == "env:MY_SECRET"


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("NOBODY_SET_THIS", raising=False)

    with pytest.raises(InputError, match="NOBODY_SET_THIS is not set"):
        resolve({"secret": "env:NOBODY_SET_THIS"})


@pytest.mark.parametrize("value", ["env:", "env:A B", "env:1A"])
def test_a_variable_needs_a_name(value):
    with pytest.raises(InputError, match="name of a variable"):
        check_options({"secret": value})


@pytest.mark.parametrize(
    "url",
    [
        f"https://me:{SECRET}@host/x.parquet",
        f"https://host/x.parquet?X-Amz-Signature={SECRET}",
        f"https://a.blob.core.windows.net/c/x.parquet?sv=2024&sig={SECRET}",
    ],
)
def test_a_url_that_is_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(InputError, match="would be stored with the job") as caught:
        check_url(url, "manifest")

    assert SECRET not in str(caught.value)


def test_a_plain_url_passes():
    for url in (
        "s3://bucket/x",
        "abfs://box@account.dfs.core.windows.net/x",
        "a:b/c@d",
        "x?sigma=1",
    ):
        check_url(url, "output")


LEAKS = [
    f"https://me:{SECRET}@host/x",
    f"GET /c/x?sv=2024&sig={SECRET}&se=1",
    f"x-amz: X-Amz-Signature={SECRET}",
    f"X-Amz-Credential={SECRET}%2F2026",
    f"AccountName=a;AccountKey={SECRET};EndpointSuffix=x",
    f"SharedAccessSignature={SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"{{'secret': '{SECRET}'}}",
    f'"private_key": "{SECRET}"',
    f"aws_secret_access_key = {SECRET}",
    f"password={SECRET}",
]


@pytest.mark.parametrize("text", LEAKS)
def test_what_clients_say_is_shown_without_secrets(text):
    assert SECRET not in redact(text)
    assert HIDDEN in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a: no such object",
        "the key is wrong",
        "secret",
        "token 12",
        "a:b@c",
        "design=4",
    ],
)
def test_plain_words_stay(text):
    assert redact(text) == text


def test_values_of_the_environment_are_known_by_sight(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-like-any-pattern-1")
    monkeypatch.setenv("OWN_NAME", "not-like-any-pattern-2")
    resolve({"secret": "env:OWN_NAME"})

    assert redact("a not-like-any-pattern-1 b not-like-any-pattern-2") == f"a {HIDDEN} b {HIDDEN}"


@given(st.text(max_size=60))
def test_redacting_is_safe_for_any_text_and_settles(text):
    assert redact(redact(text)) == redact(text)


def test_log_records_and_their_tracebacks_are_redacted():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(RedactingFilter())
    logger = logging.getLogger("test.credentials")
    logger.propagate = False
    logger.addHandler(handler)
    try:
        logger.error("signed %s", f"https://h/x?sig={SECRET}")
        try:
            raise RuntimeError(f"password={SECRET}")
        except RuntimeError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)

    assert SECRET not in out.getvalue()
    assert "RuntimeError" in out.getvalue()
    assert out.getvalue().count(HIDDEN) >= 2


SLASHED = [
    "s3://AKIAIOSFODNN7EXAMPLE:wJalr/K7MDENG/bPxRfiCYEXAMPLEKEY@pictures/x",
    "s3://mykey:12/K7MDENG/bPxRfiCYEXAMPLEKEY@pictures/x.parquet",
    "https://user:pa/K7MDENG@127.0.0.1/x.parquet",
    "https://user:80/K7MDENG@127.0.0.1/x.parquet",
    "S3://mykey:a@b/K7MDENG@pictures/x",
]


@pytest.mark.parametrize("url", SLASHED)
def test_a_secret_with_slashes_is_one_secret(url):
    with pytest.raises(InputError, match="would be stored with the job") as caught:
        check_url(url, "output")
    for said in (str(caught.value), redact(f"{url}: no bucket"), redact(f"'{url}', {url}")):
        assert "K7MDENG" not in said
        assert "AKIA" not in said


@pytest.mark.parametrize("url", ["s3://k:a b/K7MDENG@x/y", "https://u:a'b/K7MDENG@x/y"])
def test_a_password_with_a_blank_or_a_quote_is_refused_whole(url):
    with pytest.raises(InputError, match="would be stored with the job") as caught:
        check_url(url, "output")

    assert "K7MDENG" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/bucket@v2/x",
        "https://host.org:8443/a@b.parquet",
        "http://[::1]:9000/a@b",
        "http://localhost:80/a@b",
        "s3://bucket/user@day/x",
    ],
)
def test_an_at_sign_behind_a_port_or_in_a_folder_is_no_password(url):
    check_url(url, "output")

    assert redact(url) == url


def test_a_number_under_the_name_of_a_secret_is_refused():
    with pytest.raises(InputError, match="env:NAME"):
        check_options({"password": 123456})


def test_texts_of_a_whole_summary_are_redacted_and_the_rest_stays():
    said = redacted({"reason": LEAKS[0], "shards": [1, LEAKS[-1]], "left": None, "ok": True})

    assert SECRET not in str(said)
    assert (said["shards"][0], said["left"], said["ok"]) == (1, None, True)
