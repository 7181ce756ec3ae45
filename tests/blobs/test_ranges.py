"""Files read by ranges from a real server, and everything that servers and addresses get wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelguard.blobs.base import read
from modelguard.blobs.http import Client, Reachable, origin, shown
from modelguard.blobs.ranges import BLOCK, RangeBlob
from modelguard.errors import CannotFetch, CannotRead
from tests.servers.files import Files, file_server

CONTENT = random.Random(5).randbytes(3 * BLOCK + 1234)


@pytest.fixture(scope="module")
def server() -> Iterator[Files]:
    with file_server() as files:
        yield files


@pytest.fixture(autouse=True)
def clean(server: Files) -> None:
    server.content = {"/model": CONTENT}
    server.faults.clear()
    server.asked.clear()


def client(*servers: Files, waits: list[float] | None = None) -> Client:
    waited = [] if waits is None else waits
    return Client(Reachable(operators=frozenset(origin(server.url) for server in servers)), sleep=waited.append)


def blob(server: Files, path: str = "/model", size: int | None = None, waits: list[float] | None = None, token: str = "") -> RangeBlob:
    secret = {"Authorization": f"Bearer {token}"} if token else {}
    return RangeBlob(client(server, waits=waits), lambda _expired: (server.url + path, secret), "model", size=size)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)))
def test_any_part_is_the_files_part(server: Files, start: int, length: int) -> None:
    length = min(length, len(CONTENT) - start)
    assert read(blob(server), start, length) == CONTENT[start : start + length]


def test_small_reads_travel_once_and_nothing_but_parts_travels(server: Files) -> None:
    model = blob(server, size=len(CONTENT))
    for start in range(0, 5000, 100):
        read(model, start, 100)
    assert len(server.asked) == 1
    assert not model.verified
    with pytest.raises(CannotRead, match="ends at byte"):
        model.readinto(len(CONTENT) - 1, memoryview(bytearray(2)))


def replaced(server: Files) -> None:
    server.content["/model"] = CONTENT[::-1]


def test_a_file_that_is_replaced_is_noticed(server: Files) -> None:
    model = blob(server)
    replaced(server)
    with pytest.raises(CannotFetch, match="replaced"):
        read(model, 2 * BLOCK, 10)


def whole(handler: BaseHTTPRequestHandler) -> bool:
    handler.answer(200, CONTENT)  # type: ignore[attr-defined]
    return True


def elsewhere(handler: BaseHTTPRequestHandler) -> bool:
    handler.answer(206, CONTENT[:BLOCK], content_range=f"bytes 7-{BLOCK + 6}/{len(CONTENT)}")  # type: ignore[attr-defined]
    return True


def unsaid(handler: BaseHTTPRequestHandler) -> bool:
    handler.answer(206, CONTENT[:BLOCK])  # type: ignore[attr-defined]
    return True


def squeezed(handler: BaseHTTPRequestHandler) -> bool:
    handler.answer(206, CONTENT[:BLOCK], content_range=f"bytes 0-{BLOCK - 1}/{len(CONTENT)}", content_encoding="gzip")  # type: ignore[attr-defined]
    return True


def cut(handler: BaseHTTPRequestHandler) -> bool:
    handler.send_response(206)
    handler.send_header("content-range", f"bytes 0-{BLOCK - 1}/{len(CONTENT)}")
    handler.send_header("content-length", str(BLOCK))
    handler.end_headers()
    handler.wfile.write(CONTENT[:100])
    handler.close_connection = True
    return True


def forbidden(handler: BaseHTTPRequestHandler) -> bool:
    handler.answer(403, b"no")  # type: ignore[attr-defined]
    return True


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (whole, "does not serve parts"),
        (elsewhere, "another part"),
        (unsaid, "without saying which"),
        (squeezed, "without saying which"),
        (cut, "ended after 100|connection broke"),
        (forbidden, "403"),
    ],
)
def test_a_server_that_errs_is_one_line(server: Files, fault, told: str) -> None:  # type: ignore[no-untyped-def]
    server.faults["/model"] = fault
    with pytest.raises(CannotFetch, match=told) as caught:
        blob(server)
    assert "\n" not in str(caught.value)


def test_a_size_that_is_not_the_named_one_is_refused(server: Files) -> None:
    with pytest.raises(CannotFetch, match="where 5 are named"):
        blob(server, size=5)


@pytest.mark.parametrize(("header", "least", "most"), [("7", 7, 7), ("100000", 60, 60), ("soon", 0.3, 3), ("-5", 0.3, 3)])
def test_patience_is_what_the_server_asks_for_within_limits(server: Files, header: str, least: float, most: float) -> None:
    busy = iter([True, True, False])

    def later(handler: BaseHTTPRequestHandler) -> bool:
        if next(busy, False):
            handler.answer(429, b"", retry_after=header)  # type: ignore[attr-defined]
            return True
        return False

    server.faults["/model"] = later
    waits: list[float] = []
    assert read(blob(server, waits=waits), 0, 10) == CONTENT[:10]
    assert len(waits) == 2
    assert all(least <= wait <= most for wait in waits)


def test_a_server_that_stays_busy_is_given_up(server: Files) -> None:
    def busy(handler: BaseHTTPRequestHandler) -> bool:
        handler.answer(503, b"")  # type: ignore[attr-defined]
        return True

    server.faults["/model"] = busy
    waits: list[float] = []
    with pytest.raises(CannotFetch, match="503"):
        blob(server, waits=waits)
    assert len(waits) == 3


def test_an_address_that_expired_is_asked_for_anew(server: Files) -> None:
    state = {"key": "1"}

    def signed(handler: BaseHTTPRequestHandler) -> bool:
        if f"key={state['key']}" in handler.path:
            return False
        return forbidden(handler)

    server.faults["/model"] = signed
    model = RangeBlob(client(server), lambda _expired: (f"{server.url}/model?key={state['key']}", {}), "model")
    state["key"] = "2"
    assert read(model, 2 * BLOCK, 50) == CONTENT[2 * BLOCK : 2 * BLOCK + 50]


def test_a_token_stays_with_its_origin(server: Files) -> None:
    with file_server() as other:
        other.content = {"/model": CONTENT}

        def moved(handler: BaseHTTPRequestHandler) -> bool:
            handler.answer(302, b"", location=f"{other.url}/model?X-Amz-Signature=canary")  # type: ignore[attr-defined]
            return True

        server.faults["/model"] = moved
        reaching = client(server, other)
        model = RangeBlob(reaching, lambda _expired: (f"{server.url}/model", {"Authorization": "Bearer secret"}), "model")
        assert read(model, 0, 10) == CONTENT[:10]
        assert server.asked[0][1]["authorization"] == "Bearer secret"
        assert all("authorization" not in headers for _, headers in other.asked)
        other.faults["/model"] = forbidden
        with pytest.raises(CannotFetch) as caught:
            read(model, 2 * BLOCK, 1)
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest", "https://localhost/x", "https://127.0.0.1:1/x", "file:///etc/passwd", "https://a:b@example.org/x"],
)
def test_no_redirect_leads_inside(server: Files, target: str) -> None:
    def moved(handler: BaseHTTPRequestHandler) -> bool:
        handler.answer(302, b"", location=target)  # type: ignore[attr-defined]
        return True

    server.faults["/model"] = moved
    with pytest.raises(CannotFetch):
        blob(server)


def test_a_private_address_is_refused_before_anything_is_sent(server: Files) -> None:
    other = Client(Reachable(hosts=frozenset({"127.0.0.1"})), sleep=lambda _: None)
    with pytest.raises(CannotFetch, match="no https"), other.ask(f"{server.url}/model"):
        pass
    port = server.url.rpartition(":")[2]
    with pytest.raises(CannotFetch, match="private network"), other.ask(f"https://127.0.0.1:{port}/model"):
        pass
    assert server.asked == []


def test_redirects_end(server: Files) -> None:
    def again(handler: BaseHTTPRequestHandler) -> bool:
        handler.answer(302, b"", location="/model")  # type: ignore[attr-defined]
        return True

    server.faults["/model"] = again
    with pytest.raises(CannotFetch, match="redirects more"):
        blob(server)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("host", "allowed"), [("example.org", True), ("a.cdn.example", True), ("example.org.evil.test", False), ("evilcdn.example", False)]
)
def test_hosts_are_names_or_domains(host: str, allowed: bool) -> None:
    rules = Reachable(hosts=frozenset({"example.org", ".cdn.example"}))
    if allowed:
        rules.check(f"https://{host}/x")
    else:
        with pytest.raises(CannotFetch, match="not allowed"):
            rules.check(f"https://{host}/x")


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    assert shown("https://user:pass@host/path?token=secret#part") == "https://host/path"
