"""Where a hook may be sent: never to an address inside, and nowhere else than to what was checked."""

import socket
import ssl
import subprocess
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from pydantic import SecretStr
from receivers import SECRET, receiving

from mlops.settings import HookSettings, OutgoingSettings
from mlops.types import Alert, Priority
from registry_hooks.webhooks.guarded_post import inside, post, target
from registry_hooks.webhooks.outgoing import Sender

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)


def _send(ledger, url, *, allow_hosts=("127.0.0.1",)):
    """Send one event there; how it stands afterwards."""
    hook = HookSettings(name="bot", url=url, secret=SecretStr(SECRET))
    sender = Sender(ledger, OutgoingSettings(hooks=(hook,), allow_hosts=allow_hosts, timeout_s=5.0), lambda: T0)
    ledger.alerts.add(Alert("rollback:a:1", Priority.HIGH, "volatility", "a happened", T0))
    sender.once()
    (dispatch,) = ledger.dispatches.all("bot")
    return dispatch


def test_an_endless_answer_is_not_read_to_its_end(sqlite_ledger):
    with receiving("flood") as bot:
        sent = _send(sqlite_ledger, bot.url)

        assert "delivered" == sent.state
        assert bot.sent < 100 * 2**20  # what the buffers of both kernels took


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "0.0.0.0", "255.255.255.255"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "224.0.0.1", "240.0.0.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:10.0.0.1", "::7f00:1"),
        *("::ffff:93.184.216.34", "64:ff9b::a00:1", "64:ff9b::5db8:d822", "2002:a00:1::", "2001:0:1::", "2001:db8::1"),
    ],
)
def test_an_address_inside_is_known_as_such(address):
    assert inside(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1"])
def test_a_public_address_is_not_inside(address):
    assert not inside(ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0177.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_a_private_address_is_connected_to(sqlite_ledger, host):
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        listening.settimeout(0)
        url = f"https://{host}:{listening.getsockname()[1]}/"
        sent = _send(sqlite_ledger, url, allow_hosts=("bot.internal",))

        assert "must resolve to public addresses" in sent.last_error
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.fixture
def names(monkeypatch):
    """A name service whose answers a test scripts; what it does not know goes to the real one."""
    answers, asked, real = {}, [], socket.getaddrinfo

    def getaddrinfo(host, port, *rest, **more):
        if host not in answers:
            return real(host, port, *rest, **more)
        asked.append(host)
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers, asked


def test_one_private_address_among_public_ones_condemns_the_name(sqlite_ledger, names):
    names[0]["bot.test"] = [["93.184.216.34", "10.0.0.1"]]
    sent = _send(sqlite_ledger, "https://bot.test/")

    assert "got 10.0.0.1" in sent.last_error


def test_a_name_that_answers_differently_the_second_time_gains_nothing(sqlite_ledger, names):
    with receiving() as bot:
        names[0]["bot.test"] = [["127.0.0.1"], ["127.0.0.2"]]
        url = f"http://bot.test:{bot.server_port}/hook"
        sent = _send(sqlite_ledger, url, allow_hosts=("Bot.test.",))

        assert "delivered" == sent.state
        assert ["bot.test"] == names[1], "resolved once: the connection goes to what was checked"
        assert f"bot.test:{bot.server_port}" == bot.seen[0][0]["host"]


def test_the_second_address_is_tried_where_the_first_does_not_answer(sqlite_ledger, names):
    with receiving() as bot:
        names[0]["bot.test"] = [["127.0.0.9", "127.0.0.1"]]
        url = f"http://bot.test:{bot.server_port}/hook"
        sent = _send(sqlite_ledger, url, allow_hosts=("bot.test",))

    assert "delivered" == sent.state


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for bot.test."""
    folder = tmp_path_factory.mktemp("tls")
    what = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bot.test"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-addext", "subjectAltName=DNS:bot.test"]
    subprocess.run(["openssl", *what, *files], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(("name", "status"), [("bot.test", 204), ("other.test", None)])
def test_the_certificate_must_be_for_the_name_though_the_connection_is_to_an_address(certificate, names, name, status):
    names[0][name] = [["127.0.0.1"]]
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with receiving() as bot:
        bot.socket = server.wrap_socket(bot.socket, server_side=True)
        url = target(f"https://{name}:{bot.server_port}/", ())
        trust = ssl.create_default_context(cafile=certificate / "cert.pem")
        answer = post(url, {}, b"{}", allow_hosts=[name], timeout_s=5, trust=trust)

    assert status == answer.status, answer
    assert (status is None) == ("certificate" in answer.text.lower())


def test_a_proxy_of_the_environment_is_not_asked(sqlite_ledger, monkeypatch):
    with receiving() as bot, receiving() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        sent = _send(sqlite_ledger, bot.url)

    assert ("delivered", []) == (sent.state, proxy.seqs)
