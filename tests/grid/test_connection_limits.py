"""How many connections may be open: counted by client, bounded by what may be open at all."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.connection_limits import Limits, OpenConnections, client_of, limits


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_connection_limits_count_an_ipv6_network_as_one_client(address: str, client: str) -> None:
    """A client with one IPv6 address has 2^64 of them; IPv4 within IPv6 counts as IPv4."""
    assert client_of((address, 7)) == client


def test_connection_limits_count_connections_without_an_address() -> None:
    """A Unix socket has no client address."""
    assert client_of(None) == ""


def test_connection_limits_leave_half_of_the_descriptors() -> None:
    """As configured if there are enough; half of it for one address, unless more is configured."""
    assert limits(1_000_000, 2000, None) == Limits(2000, 1000, 500, 2048)
    assert limits(1024, 2000, None) == Limits(512, 256, 128, 128)
    assert limits(1024, 100, 100)[:2] == (100, 100)
    assert limits(1024, 2000, 2000)[:2] == (512, 512)
    assert limits(1, 2000, None) == Limits(1, 1, 1, 1)


@given(st.integers(8, 100_000), st.integers(1, 100_000), st.integers(1, 100_000) | st.none())
def test_connection_limits_fit_into_the_descriptors(
    descriptors: int, total: int, per_address: int | None
) -> None:
    """Including refused connections, and those accepted before they are counted."""
    found = limits(descriptors, total, per_address)
    assert found.total + found.waiting + found.accepted_at_once <= descriptors
    assert 1 <= found.per_address <= found.total <= total


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "idle", "busy", "leave"]), st.integers(0, 9)), max_size=80
)


@given(STEPS)
def test_connection_limits_hold_for_each_client_in_any_order(steps: list[tuple[str, int]]) -> None:
    """In any order; a new connection is refused only if none is idle."""
    connections: OpenConnections[int] = OpenConnections(
        Limits(total=5, per_address=3, waiting=2, accepted_at_once=5)
    )
    open_, idle, number = dict[int, str](), set[int](), 0
    for what, which in steps:
        if what == "enter":
            number, client = number + 1, "abc"[which % 3]
            decision = connections.enter(number, client)
            own = {each for each in open_ if open_[each] == client}
            if decision.refusal is None:
                open_[number] = client
                if decision.evicted is not None:
                    assert decision.evicted in idle
                    del open_[decision.evicted]
                    idle.discard(decision.evicted)
            elif len(own) >= 3:
                assert not own & idle
            else:
                assert len(open_) >= 5
                assert not idle
        elif open_:
            chosen = sorted(open_)[which % len(open_)]
            if what == "leave":
                connections.leave(chosen)
                del open_[chosen]
                idle.discard(chosen)
            else:
                connections.set_idle(chosen, idle=what == "idle")
                (idle.add if what == "idle" else idle.discard)(chosen)
        assert len(connections) == len(open_) <= 5
        assert all(count <= 3 for count in Counter(open_.values()).values())


def test_connection_limits_forget_clients_that_left() -> None:
    """Connections from very many addresses, one after the other, leave no memory behind."""
    connections: OpenConnections[int] = OpenConnections(
        Limits(total=2, per_address=2, waiting=1, accepted_at_once=2)
    )
    for number in range(100):
        connections.enter(number, str(number))
        connections.set_idle(number, idle=True)
        connections.leave(number)
    assert len(connections) == 0
    assert not vars(connections)["_clients"]
