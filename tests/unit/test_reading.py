"""Answers that are held for captures share a room."""

from __future__ import annotations

from llamaswap.proxy.headers import response_head
from llamaswap.web.reading import Reading, Room

LONG = b"x" * 40_000


def reading_in(room: Room, keep_bytes: int = 1_000_000) -> Reading:
    head = response_head(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000", b"GET")
    return Reading(head, keep_bytes, room)


def test_d8_what_all_answers_under_way_hold_has_a_bound() -> None:
    room = Room()
    room.resize(100_000)
    first, second, third = (reading_in(room) for _ in range(3))
    for reading in (first, second, third):
        reading.passed(LONG)
    assert room.free_bytes == 20_000
    third.end()
    second.end()
    assert third.body() is None, "there was no room left"
    assert second.body() == LONG
    second.let_go()
    assert room.free_bytes == 60_000
    first.passed(LONG)
    first.end()
    assert first.body() == LONG + LONG
    for reading in (first, third):
        reading.let_go()
    assert room.free_bytes == 100_000


def test_an_answer_that_is_too_long_makes_room_at_once() -> None:
    room = Room()
    room.resize(100_000)
    reading = reading_in(room, 50_000)
    reading.passed(LONG)
    reading.passed(LONG)
    assert room.free_bytes == 100_000
    reading.passed(LONG)
    reading.end()
    assert reading.body() is None
    assert room.free_bytes == 100_000


def test_a_smaller_room_counts_what_is_held_already() -> None:
    room = Room()
    room.resize(100_000)
    reading = reading_in(room)
    reading.passed(LONG)
    room.resize(10_000)
    assert room.free_bytes == -30_000
    reading.let_go()
    assert room.free_bytes == 10_000
