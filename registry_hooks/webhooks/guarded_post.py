"""One guarded HTTP POST to an address that a setting names: it cannot be used to reach what lies inside our network.

The host is resolved once, every address is checked, and the connection is made to the very address that passed: a name
that answers differently the next time (DNS rebinding) gains nothing. No redirect is followed, no proxy is asked, and
what is answered is read no further than a line of a log needs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from socket import SOCK_STREAM, gaierror

import httpx

from mlops.errors import DataError, SettingsError

MAX_ANSWER = 2048  # bytes of an answer that are read
MAX_SAID = 200  # characters of it that are kept
MAX_TRIED = 3  # addresses of a host, the first that can be connected to is used
# Not private by the registries, yet inside: Azure's platform service answers on it to every machine.
METADATA = (ipaddress.ip_address("168.63.129.16"),)
UNICAST6 = ipaddress.ip_network("2000::/3")  # IANA: all global unicast; NAT64 and mapped IPv4 addresses lie outside
SIX_TO_FOUR = ipaddress.ip_network("2002::/16")  # carries an IPv4 address of anyone's choice
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(DataError):
    """The host resolves to an address that a hook may not be sent to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` is None where nothing did; `text` is the error, or how the answer began."""

    status: int | None
    text: str
    retry_after_s: float | None = None

    @property
    def accepted(self) -> bool:
        """Whether it was a 2xx."""
        return self.status is not None and 200 <= self.status < 300


def target(url: str, allow_hosts: Collection[str]) -> httpx.URL:
    """The URL of a receiver, if hooks may be sent there as far as it says itself.

    Raises
    ------
    SettingsError
        No http(s) URL with a host, one with credentials in it, or plain http to a host that is not allowed by name.
    """
    try:
        read = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"URL of a hook must be a URL, got {error}. Mend it.") from error
    if read.scheme not in ("http", "https") or not read.host:
        raise SettingsError(f"URL of a hook must start with https:// and name a host, got {read.scheme!r}. Mend it.")
    if read.userinfo:
        raise SettingsError("URL of a hook must carry no credentials, got some. Deliveries are signed; check that.")
    if read.scheme == "http" and not _allowed(read.host, allow_hosts):
        rule = f"hook to {read.host} must use https"
        raise SettingsError(f"{rule}, got http. Use https, or name the host in `outgoing.allow_hosts`.")
    return read


def inside(address: Address) -> bool:
    """Whether an address is anything but a public unicast one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return True  # it is IPv4 in disguise; nobody publishes one
        if address not in UNICAST6 or address in SIX_TO_FOUR:
            return True
    return not address.is_global or address.is_multicast or address.is_reserved or address in METADATA


def post(
    url: httpx.URL,
    headers: Mapping[str, str],
    body: bytes,
    *,
    allow_hosts: Collection[str],
    timeout_s: float,
    trust: ssl.SSLContext,
) -> Answer:
    """Send, and say what came of it; never raises for what the other side or the network does.

    Parameters
    ----------
    allow_hosts : names whose addresses are not checked
    timeout_s : float
        For all of it: the name, the connection, the answer.
    """
    try:
        return asyncio.run(asyncio.wait_for(_post(url, dict(headers), body, allow_hosts, timeout_s, trust), timeout_s))
    except TimeoutError:
        return Answer(None, f"no answer within {timeout_s:g} s")
    except (httpx.HTTPError, gaierror, UnicodeError, AddressRefused) as error:
        return Answer(None, f"{type(error).__name__}: {error}"[:MAX_SAID])


async def _post(
    url: httpx.URL,
    headers: dict[str, str],
    body: bytes,
    allow_hosts: Collection[str],
    timeout_s: float,
    trust: ssl.SSLContext,
) -> Answer:
    addresses = await _addresses(url, allow_hosts)
    async with httpx.AsyncClient(verify=trust, trust_env=False, follow_redirects=False, timeout=timeout_s) as client:
        for last, address in enumerate(addresses[:MAX_TRIED], start=1):
            request = client.build_request(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers={**headers, "host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": url.host},  # also the name that the certificate must be for
            )
            try:
                return await _answer(await client.send(request, stream=True))
            except httpx.ConnectError:
                if last == len(addresses[:MAX_TRIED]):
                    raise
    raise gaierror(f"{url.host} has no address")


async def _addresses(url: httpx.URL, allow_hosts: Collection[str]) -> list[str]:
    """What the host resolves to now. One address inside condemns all of them: an honest public name has none."""
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    entries = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    if not _allowed(url.host, allow_hosts):
        for address in addresses:
            if inside(ipaddress.ip_address(address.partition("%")[0])):
                rule = f"{url.host} must resolve to public addresses"
                raise AddressRefused(f"{rule}, got {address}. Name the host in `outgoing.allow_hosts` if it is yours.")
    return addresses


async def _answer(response: httpx.Response) -> Answer:
    got = bytearray()
    try:
        async for chunk in response.aiter_raw():
            got += chunk
            if len(got) >= MAX_ANSWER:
                break
    finally:
        await response.aclose()
    text = bytes(got[:MAX_ANSWER]).decode("ascii", "replace")
    text = "".join(c if c.isprintable() else " " for c in text)[:MAX_SAID]
    return Answer(response.status_code, text, _retry_after(response.headers.get("retry-after", "")))


def _retry_after(header: str) -> float | None:
    """Seconds from now; None where it says nothing that can be read."""
    if header.isascii() and header.isdigit():
        return float(header[:9])
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _allowed(host: str, allow_hosts: Collection[str]) -> bool:
    return host.lower().rstrip(".") in {name.lower().rstrip(".") for name in allow_hosts}
