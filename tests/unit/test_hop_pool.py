from __future__ import annotations

import pytest
from twisted.internet.testing import MemoryReactorClock

from llamaswap.config.schema import Timeouts
from llamaswap.errors import UpstreamDisconnectedError, UpstreamUnreachableError
from llamaswap.proxy.connection import HopConnection
from llamaswap.proxy.hop import IDLE_SECONDS, HopPool
from tests.unit.ends import CHUNKED, REQUEST, SMALL, Taker, Upstream, answered_once, ask


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


def test_a_small_request_goes_out_as_one_write(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    assert end.take() == REQUEST
    end.send(SMALL)
    assert taker.body == b"ok"
    assert taker.head is not None
    assert taker.head.status == 200


def test_an_idle_connection_is_used_again_in_the_same_turn(upstream: Upstream) -> None:
    end = answered_once(upstream)
    taker = ask(upstream.pool)
    assert end.take() == REQUEST
    assert upstream.hosts == []
    end.send(SMALL)
    assert taker.ends == 1


def test_the_connection_is_free_before_the_last_bytes_are_passed_on(upstream: Upstream) -> None:
    class Next(Taker):
        second: Taker

        def went_on(self, data: bytes, *, is_whole: bool) -> None:
            super().went_on(data, is_whole=is_whole)
            self.second = ask(upstream.pool)

    taker = Next()
    ask(upstream.pool, taker=taker)
    end = upstream.accept()
    end.take()
    end.send(SMALL)
    assert end.take() == REQUEST
    end.send(SMALL)
    assert taker.second.ends == 1


def test_requests_at_a_time_have_connections_of_their_own(upstream: Upstream) -> None:
    first = ask(upstream.pool)
    end = upstream.accept()
    second = ask(upstream.pool)
    other = upstream.accept()
    other.send(SMALL)
    assert (first.ends, second.ends) == (0, 1)
    end.send(SMALL)
    assert first.ends == 1


def test_a_connection_rests_for_four_seconds_at_most(upstream: Upstream) -> None:
    end = answered_once(upstream)
    drops = []
    for seconds in (IDLE_SECONDS - 0.01, 0.01):
        upstream.reactor.advance(seconds)
        drops.append(end.is_dropped)
    assert drops == [False, True]
    assert upstream.reactor.getDelayedCalls() == []
    ask(upstream.pool)
    assert upstream.hosts == ["127.0.0.1"]


def test_the_rest_begins_anew_with_each_use(upstream: Upstream) -> None:
    end = answered_once(upstream)
    upstream.reactor.advance(3)
    taker = ask(upstream.pool)
    end.send(SMALL)
    assert taker.ends == 1
    upstream.reactor.advance(3)
    assert not end.is_dropped
    upstream.reactor.advance(1)
    assert end.is_dropped


def test_a_connection_closed_while_idle_is_not_used(upstream: Upstream) -> None:
    end = answered_once(upstream)
    end.close()
    ask(upstream.pool)
    assert upstream.hosts == ["127.0.0.1"]


def test_a_connection_that_looks_closed_is_not_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    end = answered_once(upstream)
    monkeypatch.setattr(HopConnection, "is_usable", lambda _: False)
    ask(upstream.pool)
    assert end.is_dropped
    assert upstream.hosts == ["127.0.0.1"]


def test_unasked_bytes_end_an_idle_connection(upstream: Upstream) -> None:
    end = answered_once(upstream)
    end.send(SMALL)
    assert end.is_aborted
    ask(upstream.pool)
    assert upstream.hosts == ["127.0.0.1"], "not even before the reactor has told of its end"


@pytest.mark.parametrize("behind", [SMALL, b"x"])
def test_several_answers_in_one_read_end_the_connection(upstream: Upstream, behind: bytes) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(SMALL + behind)
    assert (taker.body, taker.ends, taker.error) == (b"ok", 1, None)
    assert end.is_aborted
    ask(upstream.pool)
    assert upstream.hosts == ["127.0.0.1"]


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
def test_a_stale_connection_costs_one_more_attempt_whatever_the_method(upstream: Upstream, method: bytes) -> None:
    end = answered_once(upstream)
    taker = ask(upstream.pool, method=method)
    end.reset()
    assert taker.error is None
    fresh = upstream.accept()
    assert fresh.take() == REQUEST
    fresh.send(SMALL)
    assert taker.body == b"ok"


def test_there_is_no_third_attempt(upstream: Upstream) -> None:
    end = answered_once(upstream)
    taker = ask(upstream.pool)
    end.close()
    upstream.accept().close()
    assert isinstance(taker.error, UpstreamUnreachableError)
    assert upstream.hosts == []


def test_a_fresh_connection_that_ends_is_the_answer(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    upstream.accept().close()
    assert isinstance(taker.error, UpstreamUnreachableError)
    assert upstream.hosts == []


def test_one_byte_of_an_answer_means_that_the_request_was_seen(upstream: Upstream) -> None:
    end = answered_once(upstream)
    taker = ask(upstream.pool)
    end.send(b"H")
    end.close()
    assert isinstance(taker.error, UpstreamUnreachableError)
    assert upstream.hosts == []


def test_h73_localhost_is_tried_on_both_families_without_a_resolver() -> None:
    upstream = Upstream("http://localhost:5800")
    taker = ask(upstream.pool)
    assert upstream.hosts == ["127.0.0.1"]
    upstream.refuse()
    assert upstream.hosts == ["::1"]
    upstream.accept().send(SMALL)
    assert taker.ends == 1


def test_refused_on_every_address_is_unreachable() -> None:
    upstream = Upstream("http://localhost:5800")
    taker = ask(upstream.pool)
    upstream.refuse()
    upstream.refuse()
    assert isinstance(taker.error, UpstreamUnreachableError)
    assert "refused" in taker.error.message
    assert taker.error.wire_code == "upstream_unreachable"


@pytest.mark.parametrize(
    ("base_url", "host", "target"),
    [
        ("http://127.0.0.1:5800", b"127.0.0.1:5800", b"/v1/x?q=1"),
        ("http://127.0.0.1:5800/", b"127.0.0.1:5800", b"/v1/x?q=1"),
        ("http://up/base/", b"up", b"/base/v1/x?q=1"),
        ("http://up/base?key=k", b"up", b"/base/v1/x?q=1&key=k"),
        ("http://u:p@up:1?key=k", b"up:1", b"/v1/x?q=1&key=k"),
    ],
)
def test_path_and_query_of_the_base_url_are_joined(base_url: str, host: bytes, target: bytes) -> None:
    upstream = Upstream(base_url)
    assert upstream.pool.host == host
    assert upstream.pool.target(b"/v1/x?q=1") == target
    if "?" in base_url:
        assert upstream.pool.target(b"/v1/x").endswith(b"/v1/x?key=k")


def test_ports_follow_from_the_scheme() -> None:
    for base_url, port in (("http://up", 80), ("https://up", 443), ("http://up:81", 81)):
        upstream = Upstream(base_url)
        ask(upstream.pool)
        assert upstream.reactor.tcpClients[0][1] == port


@pytest.mark.parametrize(("seconds", "limit"), [(7, 7), (0, None)])
def test_connecting_has_a_limit(seconds: int, limit: float | None) -> None:
    upstream = Upstream(timeouts=Timeouts(connect_seconds=seconds))
    ask(upstream.pool)
    assert upstream.reactor.tcpClients[0][3] == limit


def test_h69_an_answer_may_take_its_time_by_default(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    assert upstream.reactor.getDelayedCalls() == []
    upstream.reactor.advance(100_000)
    end.send(SMALL)
    assert taker.ends == 1


def test_the_head_of_an_answer_can_have_a_limit() -> None:
    upstream = Upstream(timeouts=Timeouts(response_header_seconds=5))
    taker = ask(upstream.pool)
    end = upstream.accept()
    upstream.reactor.advance(5)
    assert isinstance(taker.error, UpstreamUnreachableError)
    assert end.is_aborted


def test_the_limit_of_the_head_does_not_concern_the_body() -> None:
    upstream = Upstream(timeouts=Timeouts(response_header_seconds=5))
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(CHUNKED)
    assert upstream.reactor.getDelayedCalls() == []
    end.send(b"0\r\n\r\n")
    assert taker.ends == 1


def test_h72_a_closed_pool_drops_idle_connections(upstream: Upstream) -> None:
    end = answered_once(upstream)
    upstream.pool.close()
    assert end.is_dropped
    assert upstream.reactor.getDelayedCalls() == []
    taker = ask(upstream.pool)
    assert isinstance(taker.error, UpstreamUnreachableError)
    assert upstream.hosts == []


def test_a_closed_pool_fails_what_is_under_way(upstream: Upstream) -> None:
    begun, waiting = ask(upstream.pool), Taker()
    first = upstream.accept()
    first.send(CHUNKED)
    ask(upstream.pool, taker=waiting)
    second = upstream.accept()
    connecting = ask(upstream.pool)
    upstream.pool.close()
    assert isinstance(begun.error, UpstreamDisconnectedError)
    assert isinstance(waiting.error, UpstreamUnreachableError)
    assert isinstance(connecting.error, UpstreamUnreachableError)
    assert first.is_aborted
    assert second.is_aborted
    assert upstream.reactor.connectors[-1]._disconnected


def test_cancelling_breaks_off_in_the_same_turn(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    end = upstream.accept()
    end.send(CHUNKED)
    taker.call.cancel()
    assert end.is_aborted
    end.reset()
    taker.call.cancel()
    assert taker.error is None


def test_cancelling_while_connecting_leaves_no_connection(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    taker.call.cancel()
    assert upstream.reactor.connectors[-1]._disconnected
    late = upstream.accept()  # the kernel was quicker
    assert late.is_aborted
    assert late.take() == b""
    ask(upstream.pool)
    upstream.refuse()
    assert taker.error is None


def test_cancelling_while_connecting_hears_nothing_of_the_failure(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    taker.call.cancel()
    upstream.refuse()
    assert taker.error is None
    assert upstream.hosts == []


def test_the_request_is_given_up_when_the_answer_begins(upstream: Upstream) -> None:
    taker = ask(upstream.pool)
    upstream.accept().send(CHUNKED)
    assert (taker.call.head, taker.call.body) == (b"", b"")


def test_a_tls_upstream_is_spoken_to_in_tls() -> None:
    upstream = Upstream("https://localhost:5800")
    ask(upstream.pool)
    end = upstream.accept()
    assert end.take()[:1] == b"\x16", "a TLS handshake record"


def test_pools_make_no_timer_for_a_request_on_an_idle_connection(upstream: Upstream) -> None:
    end = answered_once(upstream)
    before = upstream.reactor.getDelayedCalls()
    ask(upstream.pool)
    assert upstream.reactor.getDelayedCalls() == before
    end.send(SMALL)
    assert upstream.reactor.getDelayedCalls() == before
    assert isinstance(upstream.pool, HopPool)


def test_a_base_url_beyond_ascii_is_escaped() -> None:
    reactor = MemoryReactorClock()
    pool = HopPool(reactor, "http://münchen.example:81/é a?x=ü", Timeouts())
    assert pool.host == b"xn--mnchen-3ya.example:81"
    assert pool.target(b"/v1?y=1") == b"/%C3%A9%20a/v1?y=1&x=%C3%BC"
