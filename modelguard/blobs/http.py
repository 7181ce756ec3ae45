"""The one HTTP client for bytes: which hosts it asks, what it tells them, how long it waits, and what it says when it fails.

Redirects are followed by hand, so that every hop is held against the hosts that are allowed, and a token reaches the origin that it
was given for and no other. Addresses are checked after the name was resolved and the connection made, before anything is sent: a name
that leads into the machine's own network is refused even where the name itself is allowed. Messages show no query and no header.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from modelguard.errors import BadRequest, CannotFetch

CONNECT, IDLE = 10.0, 30.0  # seconds
TRUSTED = "MODELGUARD_TRUSTED_ORIGINS"
MAX_HOPS = 5
MAX_ERROR_BODY = 64 << 10
ATTEMPTS = 4
LONGEST_WAIT = 60.0
TRANSIENT = (408, 429, 500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """Where requests may go. `hosts` are names, or `.suffix` for a domain and all below it; empty allows every public host.

    `operators` are origins (scheme, host, port) that the operator named: they may be plain HTTP, and lie in a private network.
    """

    hosts: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()

    def check(self, url: str) -> None:
        """Raises CannotFetch for an address that must not be asked."""
        parts = urlsplit(url)
        if origin(url) in self.operators:
            return
        if parts.scheme != "https" or parts.username is not None or not parts.hostname:
            raise CannotFetch(f"{shown(url)}: is no https address", advice="give an https:// address without a user name")
        if self.hosts and not any(parts.hostname == host or (host[0] == "." and parts.hostname.endswith(host)) for host in self.hosts):
            raise CannotFetch(f"{shown(url)}: leads to a host that is not allowed", advice="allow it in the base policy if it is yours")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: the status, the headers in lower case, and where it came from after all redirects."""

    status: int
    headers: Mapping[str, str]
    url: str
    response: requests.Response = field(repr=False)

    def into(self, buffer: memoryview, *, last: bool = True) -> None:
        """Fills `buffer` with the next bytes of the body, or the last ones. Raises CannotFetch when there are fewer, or more."""
        done = 0
        with spoken(self.url):
            while done < len(buffer):
                count = self.response.raw.readinto(buffer[done:])
                if not count:
                    raise CannotFetch(f"{shown(self.url)}: ended after {done} of {len(buffer)} bytes", advice="try again")
                done += count
            if last and self.response.raw.read(1):
                raise CannotFetch(f"{shown(self.url)}: sends more than was asked for")

    def text(self) -> bytes:
        """A body of at most 64 KiB."""
        with spoken(self.url):
            return bytes(self.response.raw.read(MAX_ERROR_BODY, decode_content=True))


class Client:
    """Asks, follows, waits and tries again, within what is reachable."""

    def __init__(self, reachable: Reachable, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._reachable, self._sleep = reachable, sleep
        self._session = requests.Session()
        self._session.headers.clear()
        self._session.mount("https://", _Careful(reachable))
        self._session.mount("http://", _Careful(reachable))

    @contextmanager
    def ask(
        self, url: str, *, headers: Mapping[str, str] | None = None, secret: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[Answer]:
        """The answer to GET, or to POST where there is a body. `secret` headers go to the origin of `url` alone.

        Raises CannotFetch when there is no answer, or one that asks for patience more than three times.
        """
        answer = self._patiently(url, {"Accept-Encoding": "identity", **(headers or {})}, secret or {}, body)
        try:
            yield answer
        finally:
            answer.response.close()

    def _patiently(self, url: str, headers: Mapping[str, str], secret: Mapping[str, str], body: bytes | None) -> Answer:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._follow(url, headers, secret, body)
            except _Broken as error:
                if attempt == ATTEMPTS:
                    raise CannotFetch(f"{shown(url)}: {error}", advice="try again later") from error
                self._sleep(_backoff(attempt))
                continue
            if answer.status not in TRANSIENT or attempt == ATTEMPTS:
                return answer
            answer.response.close()
            self._sleep(_wait(answer, attempt))
        raise AssertionError("unreachable")

    def _follow(self, url: str, headers: Mapping[str, str], secret: Mapping[str, str], body: bytes | None) -> Answer:
        here, home = url, origin(url)
        for _ in range(MAX_HOPS + 1):
            self._reachable.check(here)
            told = {**headers, **secret} if origin(here) == home else dict(headers)
            answer = self._once(here, told, body)
            target = answer.headers.get("location")
            if answer.status not in REDIRECTS or not target:
                return answer
            answer.response.close()
            if body is not None:
                raise CannotFetch(f"{shown(url)}: redirects a question that carries a body")
            here = urljoin(here, target)
        raise CannotFetch(f"{shown(url)}: redirects more than {MAX_HOPS} times")

    def _once(self, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        request = requests.Request("GET" if body is None else "POST", url, headers=dict(headers), data=body).prepare()
        try:
            settings = self._session.merge_environment_settings(url, {}, True, None, None)
            response = self._session.send(request, timeout=(CONNECT, IDLE), allow_redirects=False, **settings)
        except requests.exceptions.InvalidURL as error:
            raise CannotFetch(f"{shown(url)}: is no address") from error
        except requests.RequestException as error:
            raise _Broken(_reason(error)) from error
        named = {name.lower(): value for name, value in response.headers.items()}
        return Answer(status=response.status_code, headers=named, url=url, response=response)


class _Broken(Exception):
    """The connection failed in a way that another attempt may mend."""


class _Careful(HTTPAdapter):
    """Connections whose far end is looked at before anything is sent."""

    def __init__(self, reachable: Reachable) -> None:
        self._reachable = reachable
        super().__init__(pool_maxsize=8)

    def init_poolmanager(self, *arguments: object, **named: object) -> None:
        super().init_poolmanager(*arguments, **named)  # type: ignore[arg-type]
        self.poolmanager.pool_classes_by_scheme = _pools(self._reachable)


def _pools(reachable: Reachable) -> dict[str, type[HTTPConnectionPool]]:
    """Connection pools whose sockets are refused when they lead into a private network that the operator did not name."""

    def checked(made: socket.socket, url: str) -> socket.socket:
        if url not in reachable.operators and not ipaddress.ip_address(made.getpeername()[0].partition("%")[0]).is_global:
            made.close()
            raise CannotFetch(f"{url}: leads into a private network", advice="name the address as an operator, if it is meant")
        return made

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return checked(super()._new_conn(), origin(f"http://{self.host}:{self.port}"))

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return checked(super()._new_conn(), origin(f"https://{self.host}:{self.port}"))

    plain = type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": Plain})
    secure = type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": Secure})
    return {"http": plain, "https": secure}


def origin(url: str) -> str:
    """Scheme, host and port, the port always written."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise CannotFetch(f"{shown(url)}: is no address") from error
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def trusted_origins(environ: Mapping[str, str]) -> frozenset[str]:
    """The origins that the machine's operator names in MODELGUARD_TRUSTED_ORIGINS, apart by blanks or commas: mirrors and intranets.

    They may be plain HTTP and lie in a private network. Raises BadRequest for what is no origin.
    """
    written = environ.get(TRUSTED, "").replace(",", " ").split()
    for url in written:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query or "@" in parts.netloc:
            raise BadRequest(f"{TRUSTED}: {shown(url)!a} is no origin", advice="write https://mirror.example or http://10.0.0.5:8080")
    return frozenset(map(origin, written))


def shown(url: str) -> str:
    """An address without what may be secret in it: user, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:300]


@contextmanager
def spoken(url: str) -> Iterator[None]:
    """Turns what breaks while a body is read into one line."""
    try:
        yield
    except (requests.RequestException, HTTPError, OSError) as error:
        raise CannotFetch(f"{shown(url)}: {_reason(error)}", advice="try again later") from error


def refusal(answer: Answer) -> CannotFetch:
    """The error for an answer that is not what was asked for."""
    phrase = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus._value2member_map_ else "unknown"
    advice = "pass a token that may read it" if answer.status in (401, 403, 404) else "try again later"
    return CannotFetch(f"{shown(answer.url)}: answers {answer.status} ({phrase})", advice=advice)


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__} {error}"
    if "timed out" in text.lower() or "Timeout" in text:
        return "did not answer in time"
    if "CertificateError" in text or "SSLError" in text:
        return "has no certificate that this machine trusts"
    if "NameResolution" in text or "getaddrinfo" in text:
        return "is a host that is not known"
    return f"the connection broke ({type(error).__name__})"


def _wait(answer: Answer, attempt: int) -> float:
    """Seconds that the server asks for, at most a minute; where it asks for nothing sensible, our own."""
    asked = answer.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(asked)) if asked.isdigit() else _backoff(attempt)


def _backoff(attempt: int) -> float:
    return float(0.5 * 2 ** (attempt - 1) * random.uniform(0.8, 1.2))
