"""`s3://`: Amazon S3 and the many servers that speak its language.

Create-once is `If-None-Match: *` on a single PUT. Many servers take that condition on a
multipart upload and do not keep it, so records are always single PUTs. Every object carries its
MD5 as metadata too, since an ETag is one only for single, unencrypted uploads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import aiohttp
from botocore import exceptions as boto

from sdbatch.errors import StorageError
from sdbatch.storage.chunks import part_bytes, send_parts
from sdbatch.storage.cloud_store import CloudStore, Facts
from sdbatch.storage.digests import md5_base64, md5_of
from sdbatch.storage.retrying import Fault, FaultError, Kind, TornError, by_status

MD5_NAME = "sdbatch-md5"
MOST_PARTS = 9_000
SMALLEST_PART = 5 << 20

_PLAIN_ETAG = re.compile(r"[0-9a-f]{32}")
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
)
_MISUSED = (
    boto.ParamValidationError,
    boto.NoRegionError,
    boto.InvalidRegionError,
    boto.ConfigParseError,
    boto.ConfigNotFound,
    boto.InvalidConfigError,
    ValueError,
)
_WORDS = {
    "NoSuchBucket": "there is no such bucket, create it or name another",
    "PermanentRedirect": "the bucket lies in another region, set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket lies in another region, set AWS_REGION",
    "RequestTimeTooSkewed": "this machine's clock is wrong, set it",
    "ExpiredToken": "the credentials have expired, renew them",
    "ExpiredTokenException": "the credentials have expired, renew them",
    "InvalidToken": "the session token is not valid, renew it",
    "AccountProblem": "the account is barred, ask its owner",
}
_TORN_UPLOAD = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}
_PASSING = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "InternalError",
            "ServiceUnavailable", "RequestLimitExceeded"}  # fmt: skip


class S3Store(CloudStore):
    """A bucket of S3, or a folder of one."""

    async def _put(self, name: str, data: bytes, md5: str, *, only_new: bool) -> None:
        condition = {"IfNoneMatch": "*"} if only_new else {}
        reply = await self._ask(
            "put_object",
            Key=name,
            Body=data,
            ContentMD5=md5_base64(md5),
            Metadata={MD5_NAME: md5},
            **condition,
        )
        if not reply.get("ETag"):  # something on the way answered for the store
            raise TornError("an answer without an ETag")

    async def _read(self, name: str, first: int, end: int, tag: str) -> tuple[bytes, Facts]:
        condition = {"IfMatch": f'"{tag}"'} if tag else {}
        span = f"bytes={first}-{end - 1}"
        reply = await self._ask("get_object", Key=name, Range=span, **condition)
        async with reply["Body"] as body:
            data = await body.read()
        total = str(reply.get("ContentRange", "")).rpartition("/")[2]
        size = int(total) if total.isdigit() else int(reply["ContentLength"])
        return data, _facts(reply, size)

    async def _stat(self, name: str) -> Facts:
        reply = await self._ask("head_object", Key=name)
        return _facts(reply, int(reply["ContentLength"]))

    async def _page(self, prefix: str, mark: str) -> tuple[Sequence[tuple[str, Facts]], str]:
        go_on = {"ContinuationToken": mark} if mark else {}
        reply = await self._ask("list_objects_v2", Prefix=prefix, **go_on)
        found = [
            (entry["Key"], Facts(int(entry["Size"]), entry["ETag"].strip('"')))
            for entry in reply.get("Contents", ())
        ]
        return found, reply.get("NextContinuationToken", "") if reply.get("IsTruncated") else ""

    async def _remove(self, name: str) -> None:
        await self._ask("delete_object", Key=name)

    def _put_large(self, key: str, file: BinaryIO, size: int, md5: str) -> str:
        name, metadata = self._name(key), {MD5_NAME: md5}
        begun = self._do(
            key,
            "write",
            lambda: self._ask("create_multipart_upload", Key=name, Metadata=metadata),
        )
        upload = {"Key": name, "UploadId": begun["UploadId"]}
        try:
            digests, parts = self._send_parts(key, file, size, upload)
        except BaseException:
            self._abort(key, upload)
            raise
        self._complete(key, upload, parts)
        return f"{md5_of(*(bytes.fromhex(digest) for digest in digests))}-{len(digests)}"

    def _complete(self, key: str, upload: Mapping[str, str], parts: list[dict[str, Any]]) -> None:
        """Make an object of the parts; the upload is given up only if it surely was refused."""
        tries = 0

        async def request() -> None:
            nonlocal tries
            tries += 1
            made = {"MultipartUpload": {"Parts": parts}, **upload}
            await self._ask("complete_multipart_upload", **made)

        try:
            self._do(key, "complete", request)
        except (FaultError, StorageError) as error:
            gone = isinstance(error, FaultError) and error.fault.kind is Kind.ABSENT
            if gone and self.head(key) is not None:
                return  # the reply to an earlier try may have been lost: what stands will tell
            if tries == 1 and _is_first_answer(error.__cause__):
                self._abort(key, upload)
            raise

    def _abort(self, key: str, upload: Mapping[str, str]) -> None:
        """Have the parts deleted, if that can be: they cost room and belong to no object."""
        with suppress(StorageError, FaultError):
            self._do(key, "abort", lambda: self._ask("abort_multipart_upload", **upload))

    def _send_parts(
        self, key: str, file: BinaryIO, size: int, upload: Mapping[str, str]
    ) -> tuple[list[str], list[dict[str, Any]]]:
        def send(number: int, data: bytes) -> tuple[str, dict[str, Any]]:
            digest = md5_of(data)
            facts = {"PartNumber": number + 1, "ContentMD5": md5_base64(digest), **upload}
            reply = self._do(key, "send", lambda: self._ask("upload_part", Body=data, **facts))
            return digest, {"PartNumber": number + 1, "ETag": reply["ETag"]}

        length = part_bytes(size, max(self.chunk_bytes, SMALLEST_PART), MOST_PARTS)
        sent = send_parts(file, size, length, self.streams, send)
        return [digest for digest, _ in sent], [part for _, part in sent]

    async def _ask(self, request: str, **parameters: Any) -> Any:
        fs = self._client()
        client = await fs.set_session()
        method = getattr(client, request)
        return await method(**fs._get_s3_method_kwargs(method, Bucket=self.bucket, **parameters))

    def _sort(self, error: Exception) -> Fault:
        if isinstance(error, boto.ClientError):
            return _answer(error.response)
        if isinstance(error, _NO_CREDENTIALS):
            return Fault(
                Kind.ACCESS,
                f"{_line(error)}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or "
                "an instance role",
            )
        if isinstance(error, _MISUSED):
            return Fault(Kind.REFUSED, _line(error))
        if isinstance(error, boto.BotoCoreError | aiohttp.ClientError | OSError | KeyError):
            return Fault(Kind.PASSING, _line(error))
        return Fault(Kind.REFUSED, f"{type(error).__name__}: {_line(error)}")


def _facts(reply: Mapping[str, Any], size: int) -> Facts:
    tag = str(reply["ETag"]).strip('"')
    sealed = "kms" in str(reply.get("ServerSideEncryption", "")) or "SSECustomerAlgorithm" in reply
    plain = tag if _PLAIN_ETAG.fullmatch(tag) and not sealed else ""
    return Facts(size, tag, reply.get("Metadata", {}).get(MD5_NAME, "") or plain, tag)


def _is_first_answer(error: BaseException | None) -> bool:
    """Whether the store answered, and to the only request that the client made."""
    if not isinstance(error, boto.ClientError):
        return False
    return not error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)


def _answer(response: Mapping[str, Any]) -> Fault:
    """What an error document means."""
    said = response.get("Error", {})
    code, message = str(said.get("Code", "")), str(said.get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _WORDS:
        return Fault(Kind.ACCESS, f"{code}: {_WORDS[code]}")
    if code in _TORN_UPLOAD or code in _PASSING or not status:
        return Fault(Kind.PASSING, f"{code} {message}")
    if status < 300:  # an error in the body of a reply that began well
        return Fault(Kind.PASSING, f"{code} {message}")
    return by_status(status, code, message)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
