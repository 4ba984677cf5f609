"""TLS to providers: verified, with the system's authorities or `ca_file`; what cannot be verified gets no key."""

from __future__ import annotations

import datetime
import random
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.peers import KEY, Peer, Proxy, Upstream, answer_to, get, looped, post, reply, settle
from tests.proxy.test_faults import CHUNKED, begun, chunk, cut, retryable
from tests.proxy.test_tunnel import opened

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(made)
    return made


class Authority:
    """A certificate authority of a test, and the file that a configuration names."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def upstream(self, *names: str, **more: object) -> Upstream:
        return Upstream(tls=context(self.ca.issue_cert(*(names or ("localhost",)), **more)))  # type: ignore[arg-type]

    def extra(self) -> dict[str, object]:
        provider = {"ca_file": str(self.file)}
        return {"providers": {"anthropic": provider, "openai": provider}}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + cert.public_bytes(serialization.Encoding.PEM)
    file = folder / "self.pem"
    file.write_bytes(pem)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(file)
    return made


@looped
async def test_an_own_ca_file_is_trusted(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client, served = await begun(proxy, upstream, post(b"secret"))
        assert served.transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        served.send(reply(b"answer"))
        assert (await answer_to(client)).body == b"answer"
        client.send(post(b"again"))  # the same connection
        await served.has(b"again")
        served.send(reply(b"second"))
        assert (await answer_to(client)).body == b"second"
        assert len(upstream.connections) == 1


async def refused(upstream: Upstream, extra: dict[str, object], why: bytes) -> None:
    """The request gets a retryable 502 that says why, and nothing of it reached the other side."""
    async with upstream, Proxy(upstream, extra) as proxy:
        client = await proxy.sent(post())
        answer = await answer_to(client)
        assert (answer.status, retryable(answer)) == (502, True)
        assert why in answer.body, answer.body
        await settle()
        assert KEY.encode() not in b"".join(upstream.captured())
        assert [(c.state, c.written) for c in proxy.closes()] == [("upstream_error", False)]


@looped
async def test_an_expired_certificate_gets_no_key(authority: Authority) -> None:
    upstream = authority.upstream(not_before=LONG_AGO, not_after=LONG_AGO + datetime.timedelta(days=1))
    await refused(upstream, authority.extra(), b"expired")


@looped
async def test_a_certificate_for_another_host_gets_no_key(authority: Authority) -> None:
    await refused(authority.upstream("other.test"), authority.extra(), b"localhost")


@looped
async def test_an_unknown_authority_gets_no_key(authority: Authority) -> None:
    await refused(authority.upstream(), {}, b"not trusted")


@looped
async def test_another_authority_than_the_configured_one_gets_no_key(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    await refused(other.upstream(), authority.extra(), b"not trusted")


@looped
async def test_a_self_signed_certificate_gets_no_key(authority: Authority, tmp_path: Path) -> None:
    await refused(Upstream(tls=self_signed(tmp_path)), authority.extra(), b"not trusted")


@looped
async def test_a_server_that_speaks_no_tls_gets_no_key(authority: Authority) -> None:
    async def plain(peer: Peer) -> None:
        await peer.until(lambda: peer.data)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Upstream(plain) as upstream:
        url = upstream.url.replace("http://127.0.0.1", "https://localhost")
        async with Proxy(url, authority.extra()) as proxy:
            answer = await answer_to(await proxy.sent(post()))
            assert (answer.status, retryable(answer)) == (502, True)
            assert b"TLS handshake failed" in answer.body
            assert KEY.encode() not in b"".join(upstream.captured())


@pytest.mark.parametrize("how", ["close", "reset"])
@looped
async def test_an_end_inside_the_handshake_is_a_retryable_502(how: str, authority: Authority) -> None:
    async def ending(peer: Peer) -> None:
        await peer.until(lambda: peer.data)
        getattr(peer, how)()

    async with Upstream(ending) as upstream:
        url = upstream.url.replace("http://127.0.0.1", "https://localhost")
        async with Proxy(url, authority.extra()) as proxy:
            answer = await answer_to(await proxy.sent(post()))
            assert (answer.status, retryable(answer)) == (502, True)


@looped
async def test_a_handshake_that_stands_still_is_a_504(authority: Authority) -> None:
    async with Upstream() as upstream:
        url = upstream.url.replace("http://127.0.0.1", "https://localhost")
        extra = authority.extra()
        extra["providers"]["anthropic"]["http_client"] = {"connect_timeout_secs": 0.3}  # type: ignore[index]
        async with Proxy(url, extra) as proxy:
            answer = await answer_to(await proxy.sent(post()))
            assert (answer.status, retryable(answer)) == (504, True)


@pytest.mark.parametrize("piece", [1, 100, 16_384, 16_385, 100_000, 1 << 20])
@looped
async def test_bodies_of_any_size_arrive_whole(piece: int, authority: Authority) -> None:
    body = random.Random(piece).randbytes(min(4 << 20, piece * 300))
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra(), 1 << 25) as proxy:
        client = await proxy.sent(post(b"", length=len(body)))
        served = await upstream.accepted()
        await served.head()
        for at in range(0, len(body), piece):
            await client.flow(body[at : at + piece])
        assert await served.exactly(len(body)) == body
        served.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), piece):
            await served.flow(body[at : at + piece])
        await client.head()
        assert await client.exactly(len(body)) == body
        assert [c.state for c in proxy.closes()] == ["ok"]


@looped
async def test_a_provider_that_does_not_read_holds_the_client_back_over_tls_too(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client = await proxy.sent(post(b"", length=1 << 30))
        served = await upstream.accepted()
        await served.head()
        served.transport.pause_reading()
        await client.fill(b"x" * 262_144)  # ends only by back-pressure
        served.transport.resume_reading()
        await client.until(lambda: not client.write_paused)


@looped
async def test_a_reader_that_is_slow_holds_the_provider_back_over_tls_too(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client, served = await begun(proxy, upstream, post())
        client.transport.pause_reading()
        served.send(CHUNKED)
        await served.fill(chunk(b"x" * 262_144))
        client.transport.resume_reading()
        await served.until(lambda: not served.write_paused)


@looped
async def test_a_stream_over_tls_leaves_piece_by_piece(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client, served = await begun(proxy, upstream, post())
        served.send(CHUNKED)
        await client.head()
        for number in range(20):
            served.send(chunk(b"data: %d\n\n" % number))
            await client.has(b"data: %d\n" % number)
        served.send(b"0\r\n\r\n")
        await client.has(b"0\r\n\r\n")


@looped
async def test_the_end_of_a_close_delimited_answer_must_be_a_close_notify(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client, served = await begun(proxy, upstream, post())
        served.send(b"HTTP/1.1 200 OK\r\n\r\nwhole")
        await client.has(b"whole")
        served.close()  # with close_notify
        assert (await answer_to(client)).body == b"whole"

        client, served = await begun(proxy, upstream, post())
        served.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await client.has(b"half")
        served.finish_now()  # a FIN that anybody on the way could have sent
        await cut(client)


@looped
async def test_a_free_connection_that_got_a_close_notify_is_not_used_again(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client, served = await begun(proxy, upstream, post())
        served.send(reply())
        await answer_to(client)
        served.close()
        await proxy.until(lambda: not next(iter(proxy.plans.pools.values())).idle, "the free connection to go")
        client.send(get())
        fresh = await upstream.accepted()
        await fresh.head()
        fresh.send(reply())
        assert (await answer_to(client, "GET")).status == 200


@looped
async def test_damaged_ciphertext_is_a_cut(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client, served = await begun(proxy, upstream, post())
        served.send(CHUNKED + chunk(b"good"))
        await client.has(b"good")
        served.send_now(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
        await cut(client)
        assert [c.state for c in proxy.closes()] == ["upstream_error"]


@pytest.mark.parametrize("how", ["close", "reset"])
@looped
async def test_a_client_that_is_gone_ends_the_work_over_tls_too(how: str, authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        proxy.tick_as_the_server()
        client, served = await begun(proxy, upstream, post())
        served.send(CHUNKED + chunk(b"x"))
        await client.has(b"x")
        getattr(client, how)()
        await served.until(lambda: served.over)


@looped
async def test_a_tunnel_over_tls(authority: Authority) -> None:
    async with authority.upstream() as upstream, Proxy(upstream, authority.extra()) as proxy:
        client, served = await opened(proxy, upstream)
        data = random.Random(1).randbytes(300_000)
        await client.flow(data)
        assert await served.exactly(len(data)) == data
        await served.flow(data)
        assert await client.exactly(len(data)) == data
        served.close()
        await client.until(lambda: client.over)
