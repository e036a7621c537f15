"""Who the client is, and who may say so."""

from __future__ import annotations

import pytest

from aioresilience.integrations.addresses import TrustedProxies

OURS = ("10.0.0.0/8", "fd00::/8", "192.0.2.7", "unix")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),  # nobody of ours says so
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # the left is the client's own invention
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),  # several header lines are one list
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1"),  # garbage ends the belief
        ("10.0.0.1", ["1.1.1.1, _hidden, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ['"[2001:db8::1]"'], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8:0::1"], "2001:db8::1"),  # one client, one key
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.7", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.8", ["203.0.113.9"], "192.0.2.8"),
        (None, ["203.0.113.9"], "203.0.113.9"),
        (None, [], "unknown"),
        ("testclient", ["203.0.113.9"], "testclient"),
    ],
)
def test_the_client_is_the_first_from_the_right_who_is_none_of_ours(
    peer: str | None, forwarded: list[str], client: str
):
    assert TrustedProxies(OURS).client(peer, forwarded) == client


def test_a_unix_socket_is_trusted_only_when_it_is_named():
    assert TrustedProxies(["10.0.0.0/8"]).client(None, ["203.0.113.9"]) == "unknown"


@pytest.mark.parametrize("wrong", [["proxy.example.invalid"], ["*"], ["10.0.0.0/99"]])
def test_what_is_no_address_is_refused(wrong: list[str]):
    with pytest.raises(ValueError, match="does not appear to be"):
        TrustedProxies(wrong)


def test_a_string_is_no_list():
    with pytest.raises(TypeError, match="expected a list"):
        TrustedProxies("10.0.0.1")
