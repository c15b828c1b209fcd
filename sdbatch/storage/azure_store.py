"""`az://`, `abfs://` and `abfss://`: blobs of Azure, over the client that adlfs brings.

Create-once is an upload that may not overwrite. The service computes the MD5 of a blob that
comes in one request; of one that comes in blocks it checks each block and stores what it is
told of the whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import aiohttp
from azure.core import MatchConditions
from azure.core import exceptions as az
from azure.storage.blob import BlobBlock, ContentSettings

from sdbatch.errors import StorageError, StoreAccessError
from sdbatch.remote import CONNECT_S, READ_S
from sdbatch.storage.chunks import part_bytes, send_parts
from sdbatch.storage.cloud_store import CloudStore, Facts
from sdbatch.storage.digests import md5_hex
from sdbatch.storage.retrying import Fault, Kind, TornError, by_status

MOST_BLOCKS = 45_000
ONE_TRY = {"retry_total": 0, "connection_timeout": CONNECT_S, "read_timeout": READ_S}
"""The client's own retries wait 15 s and more; ours do not."""

_WORDS = {
    "ContainerNotFound": "there is no such container, create it or name another",
    "ContainerBeingDeleted": "the container is being deleted, name another",
    "AuthenticationFailed": "the credentials are not valid, or this machine's clock is wrong",
}


class AzureStore(CloudStore):
    """A container of an Azure storage account, or a folder of one."""

    async def _put(self, name: str, data: bytes, md5: str, *, only_new: bool) -> None:
        settings = ContentSettings(content_md5=bytearray.fromhex(md5))
        async with self._blob(name) as blob:
            reply = await blob.upload_blob(
                data,
                length=len(data),
                overwrite=not only_new,
                validate_content=True,
                content_settings=settings,
                **ONE_TRY,
            )
        if not reply.get("etag"):  # something on the way answered for the store
            raise TornError("an answer without an ETag")

    async def _read(self, name: str, first: int, end: int, tag: str) -> tuple[bytes, Facts]:
        version: dict[str, Any] = {}
        if tag:
            version = {"etag": f'"{tag}"', "match_condition": MatchConditions.IfNotModified}
        async with self._blob(name) as blob:
            stream = await blob.download_blob(
                offset=first, length=end - first, max_concurrency=1, **version, **ONE_TRY
            )
            data = await stream.readall()
            # The client calls the length of the range a size; the whole is behind the slash.
            total = str(stream.properties.content_range or "").rpartition("/")[2]
            facts = _facts(stream.properties)
            return data, replace(facts, size_bytes=int(total)) if total.isdigit() else facts

    async def _stat(self, name: str) -> Facts:
        async with self._blob(name) as blob:
            return _facts(await blob.get_blob_properties(**ONE_TRY))

    async def _page(self, prefix: str, mark: str) -> tuple[Sequence[tuple[str, Facts]], str]:
        service = self._client().service_client
        async with service.get_container_client(self.bucket) as container:
            pages = container.list_blobs(
                name_starts_with=prefix, include=["metadata"], **ONE_TRY
            ).by_page(mark or None)
            found = [
                (blob.name, _facts(blob))
                async for blob in await anext(pages)
                if not (blob.metadata or {}).get("hdi_isfolder")
            ]
            return found, pages.continuation_token or ""

    async def _remove(self, name: str) -> None:
        async with self._blob(name) as blob:
            await blob.delete_blob(**ONE_TRY)

    def _put_large(self, key: str, file: BinaryIO, size: int, md5: str) -> str:
        upload = uuid.uuid4().hex[:16]

        async def stage(number: int, data: bytes) -> str:
            block = f"{upload}-{number:06d}"
            async with self._blob(self._name(key)) as blob:
                await blob.stage_block(
                    block, data, length=len(data), validate_content=True, **ONE_TRY
                )
            return block

        async def commit() -> None:
            settings = ContentSettings(content_md5=bytearray.fromhex(md5))
            async with self._blob(self._name(key)) as blob:
                await blob.commit_block_list(
                    [BlobBlock(block) for block in blocks], content_settings=settings, **ONE_TRY
                )

        def send(number: int, data: bytes) -> str:
            return self._do(key, "send", lambda: stage(number, data))

        length = part_bytes(size, self.chunk_bytes, MOST_BLOCKS)
        blocks = send_parts(file, size, length, self.streams, send)
        self._do(key, "write", commit)
        return md5

    def _blob(self, name: str) -> Any:
        return self._client().service_client.get_blob_client(self.bucket, name)

    def _sort(self, error: Exception) -> Fault:
        if isinstance(error, az.ClientAuthenticationError) and error.status_code is None:
            return Fault(Kind.ACCESS, f"{_line(error)[:200]}; {_ADVICE}")
        if isinstance(error, az.HttpResponseError) and error.status_code:
            return _answer(error)
        if isinstance(error, az.AzureError | aiohttp.ClientError | OSError):
            return Fault(Kind.PASSING, _line(error)[:300])
        return Fault(Kind.REFUSED, f"{type(error).__name__}: {_line(error)[:300]}")

    def _not_opened(self, error: Exception) -> StorageError:
        return StoreAccessError(f"{self.url}: {type(error).__name__}: no credentials; {_ADVICE}")


_ADVICE = "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and a key or identity"


def _facts(properties: Any) -> Facts:
    if not properties.etag:
        raise TornError("an answer without an ETag")
    md5 = md5_hex(properties.content_settings.content_md5)
    return Facts(int(properties.size), str(properties.etag).strip('"'), md5, md5)


def _answer(error: Any) -> Fault:
    """What an error document means."""
    said = getattr(error, "error_code", None)  # absent where the answer could not be read
    code = str(getattr(said, "value", said) or "")
    message = str(error.message or "").splitlines()[:1]
    if code in _WORDS:
        return Fault(Kind.ACCESS, f"{code}: {_WORDS[code]}")
    if code == "BlobAlreadyExists":
        return Fault(Kind.EXISTS, code)
    if code in ("Md5Mismatch", "InvalidMd5"):
        return Fault(Kind.PASSING, code)
    if error.status_code < 300:  # an answer that began well and could not be read
        return Fault(Kind.PASSING, message[0] if message else "a torn answer")
    return by_status(error.status_code, code, message[0] if message else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
