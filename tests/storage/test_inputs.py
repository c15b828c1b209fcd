"""What rows may point to: refused in one line, fetched within caps, wherever redirects lead."""

import os
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sdbatch.errors import InputError, InputPictureError, InputUnreachableError
from sdbatch.storage.inputs import InputFetcher
from sdbatch.storage.store import open_store
from tests.storage.hostile_server import BODY, hostile_server, silent_server


@pytest.fixture(scope="module")
def server():
    with hostile_server() as running:
        yield running


def fetcher(server, **options):
    defaults = {"allowed_schemes": ("https", "http"), "allow_hosts": (server.host,)}
    return InputFetcher(**{**defaults, "timeout_s": 5.0, **options})


def refusal(fetch, uri):
    with pytest.raises(InputPictureError) as caught:
        fetch.fetch(uri)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_picture_is_fetched_as_it_lies_there(server):
    server.asked.clear()

    assert fetcher(server).fetch(f"{server.url}/good/a%20b%C3%A9.png?x=1&y=%2F") == BODY
    path, headers = server.asked[-1]
    assert path == "/good/a%20b%C3%A9.png?x=1&y=%2F"
    assert headers["Host"] == server.host
    assert headers["Accept-Encoding"] == "identity"


def test_five_redirects_are_followed_and_six_are_not(server):
    assert fetcher(server).fetch(f"{server.url}/hops?5") == BODY
    assert "more than 5 redirects" in refusal(fetcher(server), f"{server.url}/hops?6")


def test_by_default_only_https_is_followed(server):
    said = refusal(InputFetcher(allow_hosts=(server.host,)), f"{server.url}/good")

    assert "is a 'http' address, allowed are: https" in said


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "127.1",
        ),
        *("017700000001", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "[::]"),
        *("169.254.169.254", "2852039166", "[fd00:ec2::254]", "10.0.0.1", "[fe80::1%25lo]"),
    ],
)
@pytest.mark.parametrize("through", ["at once", "by redirect"])
def test_no_spelling_of_a_private_address_is_asked(server, host, through):
    server.asked.clear()
    where = f"http://{host}:{server.port + (host == '127.0.0.1')}/good"
    server.elsewhere = where
    said = refusal(fetcher(server), where if through == "at once" else f"{server.url}/away")

    assert "only public hosts are asked" in said or "has no address" in said
    assert not [path for path, _ in server.asked if path.startswith("/good")]


@pytest.mark.parametrize(
    ("location", "right"),
    [
        ("file:///etc/passwd", "leads to a 'file' address"),
        ("ftp://example.org/x", "leads to a 'ftp' address"),
        ("s3://bucket/x", "leads to a 's3' address"),
        ("http://user:pass@example.org/", "with a user name"),
        ("https:///x", "names no host"),
        ("http://[::1/", "leads nowhere"),
        ("http://example.org:99999/", "is no URL"),
    ],
)
def test_a_redirect_is_judged_like_the_first_address(server, location, right):
    server.elsewhere = location

    assert right in refusal(fetcher(server), f"{server.url}/away")


def test_a_redirect_to_nowhere_is_told(server):
    assert "leads nowhere" in refusal(fetcher(server), f"{server.url}/nowhere")


def test_a_name_is_resolved_once_and_the_judged_address_is_the_one_that_is_asked(monkeypatch):
    answers = [[(2, 1, 6, "", ("93.184.216.34", 80))], [(2, 1, 6, "", ("127.0.0.1", 80))]]
    connected = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers.pop(0))

    def refuse(address, *_):
        connected.append(address)
        raise ConnectionRefusedError("not in a test")

    monkeypatch.setattr(socket, "create_connection", refuse)
    fetch = InputFetcher(("http",))

    with pytest.raises(InputUnreachableError, match="not in a test"):
        fetch.fetch("http://rebinding.example/x.png")
    assert connected == [("93.184.216.34", 80)]
    assert len(answers) == 1


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch):
    both = [(2, 1, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)

    assert "is 10.0.0.1, private" in refusal(InputFetcher(("http",)), "http://mixed.example/x.png")


@pytest.mark.parametrize("kind", ["slow_body", "slow_header"])
def test_a_server_that_drips_is_given_up_in_time(server, kind):
    server.dripping_ended.clear()
    started = time.monotonic()
    with pytest.raises(InputUnreachableError, match=r"took longer than 0\.4 s"):
        fetcher(server, timeout_s=0.4).fetch(f"{server.url}/{kind}")

    assert time.monotonic() - started < 3
    assert server.dripping_ended.wait(5), "the connection was left open"


def test_a_server_that_says_nothing_is_given_up_in_time():
    with silent_server() as host:
        fetch = InputFetcher(("http",), timeout_s=0.3, allow_hosts=(host,))
        with pytest.raises(InputUnreachableError, match=r"0\.3 s|timed out"):
            fetch.fetch(f"http://{host}/x")


def test_a_body_that_is_too_long_is_refused_by_its_announcement_or_as_it_comes(server):
    fetch = fetcher(server, max_bytes=2500)

    assert "longer than 2,500 bytes" in refusal(fetch, f"{server.url}/announced?2501")
    assert "longer than 2,500 bytes" in refusal(fetch, f"{server.url}/chunks?1000")
    assert len(fetch.fetch(f"{server.url}/chunks?2")) == 2000


def test_a_lying_content_length_never_gives_half_a_body(server):
    size = len(BODY)
    with pytest.raises(InputUnreachableError, match=f"{size:,} of {size + 9:,} bytes arrived"):
        fetcher(server).fetch(f"{server.url}/announced?{size + 9}")
    with pytest.raises(InputUnreachableError, match="cannot be fetched"):
        fetcher(server).fetch(f"{server.url}/chunks?-1")


def test_a_packed_body_is_refused(server):
    assert "comes packed" in refusal(fetcher(server), f"{server.url}/packed")


@pytest.mark.parametrize(
    ("status", "later"), [(404, False), (403, False), (503, True), (429, True)]
)
def test_only_what_may_pass_is_worth_another_try(server, status, later):
    with pytest.raises(InputPictureError, match=f"the server answers {status}") as caught:
        fetcher(server).fetch(f"{server.url}/status?{status}")

    assert caught.value.retryable is later
    assert str(status) not in str(caught.value).partition(":")[0]


def test_a_pinned_connection_still_demands_the_certificate_of_the_name(monkeypatch, tmp_path):
    trusted, server_side = certificate("pictures.test", tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", here(socket.getaddrinfo))
    with hostile_server(server_side) as secure:
        fetch = InputFetcher(
            allow_hosts=(f"pictures.test:{secure.port}", f"other.test:{secure.port}"), tls=trusted
        )

        assert fetch.fetch(f"https://pictures.test:{secure.port}/good") == BODY
        with pytest.raises(InputUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch.fetch(f"https://other.test:{secure.port}/good")


def here(resolve):
    """Every name of the tests is this machine."""

    def answer(host, *place, **how):
        return resolve("127.0.0.1" if host.endswith(".test") else host, *place, **how)

    return answer


def certificate(name, folder):
    """(context that trusts it, context that shows it) of a certificate made for one name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "both.pem").write_bytes(secret + pem)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(folder / "both.pem")
    return ssl.create_default_context(cadata=pem.decode()), shown


def test_https_to_a_server_that_speaks_none_fails_in_one_line(server):
    with pytest.raises(InputUnreachableError, match="cannot be fetched"):
        fetcher(server).fetch(f"https://{server.host}/good")


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("", "no plain path or URL"),
        ("https://a.example/x\ny", "no plain path or URL"),
        ("filecache::https://a.example/x", "no plain path or URL"),
        ("zip://a::https://a.example/x", "no plain path or URL"),
        ("https://a.example/" + "x" * 5000, "no plain path or URL"),
        ("file:///etc/passwd", "this run allows none"),
        ("/etc/passwd", "this run allows none"),
        ("etc/passwd", "this run allows none"),
        ("s3://bucket/x.png", "below no root"),
        ("gopher://a.example/x", "below no root"),
        ("memory://x/y", "below no root"),
        ("data:image/png;base64,AAAA", "below no root"),
        ("https:///x", "names no host"),
        ("https://me:secret@a.example/x", "with a user name"),
    ],
)
def test_what_is_not_allowed_is_refused_before_anything_is_asked(uri, right):
    said = refusal(InputFetcher(), uri)

    assert right in said
    assert "secret" not in said
    assert len(said) < 400


@pytest.fixture
def folders(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "in", outside):
        folder.mkdir(parents=True)
    (root / "in" / "a b é.png").write_bytes(BODY)
    (outside / "secret.png").write_bytes(b"secret")
    (tmp_path / "root-next").mkdir()
    (tmp_path / "root-next" / "x.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "inner.png").symlink_to(root / "in" / "a b é.png")
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize("name", ["in/a b é.png", "inner.png", "in/../in/a b é.png"])
def test_a_file_below_an_allowed_folder_is_read(folders, name):
    fetch = InputFetcher(("file",), [str(folders)])

    assert fetch.fetch(name) == BODY
    assert fetch.fetch(f"{folders}/{name}") == BODY
    assert fetch.fetch(f"file://{folders}/{name}") == BODY


@pytest.mark.parametrize(
    "name",
    [
        *("link.png", "folder/secret.png", "../outside/secret.png", "../root-next/x.png"),
        *("in/../../outside/secret.png", "/etc/passwd", "missing.png", "~/x", ""),
    ],
)
def test_nothing_outside_an_allowed_folder_is_read(folders, name):
    refusal(InputFetcher((), [str(folders)]), name)
    if name:
        refusal(InputFetcher((), [str(folders)]), f"{folders}/{name}")


@pytest.mark.parametrize("name", ["pipe.png", "in", "."])
def test_what_is_no_regular_file_is_refused_at_once(folders, name):
    started = time.monotonic()

    assert "regular file" in refusal(InputFetcher((), [str(folders)]), name)
    assert time.monotonic() - started < 2


def test_a_file_url_needs_the_scheme_even_below_a_folder(folders):
    assert "allows none" in refusal(
        InputFetcher((), [str(folders)]), f"file://{folders}/in/a b é.png"
    )


def test_a_file_that_is_too_long_is_refused(folders):
    fetch = InputFetcher((), [str(folders)], max_bytes=len(BODY) - 1)

    assert "longer than" in refusal(fetch, "in/a b é.png")


def test_an_object_is_read_below_a_root_and_nowhere_else(request):
    bucket = f"memory://inputs-{request.node.name[:20].replace('_', '-')}"
    open_store(bucket).put("prefix/a.png", BODY)
    open_store(bucket).put("other/b.png", b"secret")
    fetch = InputFetcher((), [f"{bucket}/prefix/"])

    assert fetch.fetch(f"{bucket}/prefix/a.png") == BODY
    assert "no such object" in refusal(fetch, f"{bucket}/prefix/missing.png")
    for uri in ("prefix/../other/b.png", "prefix//a.png", "prefix/./a.png"):
        assert "spelt without" in refusal(fetch, f"{bucket}/{uri}")
    for uri in ("other/b.png", "prefix", "prefixed/a.png"):
        assert "below no root" in refusal(fetch, f"{bucket}/{uri}")
    assert "longer than" in refusal(
        InputFetcher((), [f"{bucket}/prefix"], max_bytes=3), f"{bucket}/prefix/a.png"
    )


@pytest.mark.parametrize(
    ("schemes", "roots", "right"),
    [
        (("ftp",), (), "scheme 'ftp'"),
        (("s3",), (), "naming it as a root"),
        ((), ("https://a.example/x",), "local folder or a bucket"),
        ((), ("zip::s3://bucket",), "local folder or a bucket"),
        ((), ("/no/such/folder",), "no such folder"),
    ],
)
def test_rules_that_cannot_be_held_are_refused(schemes, roots, right):
    with pytest.raises(InputError, match=right):
        InputFetcher(schemes, roots)
