"""Noticing changed configuration files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from llamaswap.watch import Picture, Watcher, take_picture


class World:
    """A file and a folder that are watched, on a fake clock."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"
        self.folder = folder / "conf.d"
        self.folder.mkdir()
        self.file.write_text("models: {}\n")
        self.clock = Clock()
        self.changes = 0
        self.looks: list[Deferred[Picture]] = []
        self.watcher = Watcher(self.clock, self.look, self.changed, self.picture())

    def picture(self) -> Picture:
        """Look at them."""
        return take_picture(str(self.file), str(self.folder))

    def look(self) -> Deferred[Picture]:
        """Look at them at once."""
        return succeed(self.picture())

    def changed(self) -> None:
        """Count."""
        self.changes += 1

    def pass_time(self, seconds: float) -> int:
        """Count the changes of the next seconds."""
        before = self.changes
        self.clock.pump([0.1] * round(seconds * 10))
        return self.changes - before


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Watched already."""
    world = World(tmp_path)
    world.watcher.start()
    return world


def rename_over(world: World) -> None:
    """As editors do."""
    other = world.file.with_suffix(".new")
    other.write_text("models: {}\n")
    os.utime(other, ns=(1, world.file.stat().st_mtime_ns))
    other.rename(world.file)


def same_size_and_time(world: World) -> None:
    """Within the grain of the modification time."""
    about = world.file.stat()
    world.file.write_text("groups: {}\n")
    os.utime(world.file, ns=(about.st_atime_ns, about.st_mtime_ns))


def write(world: World) -> None:
    """In place."""
    world.file.write_text("models: {a: {}}\n")


def add_fragment(world: World) -> None:
    """In the folder."""
    (world.folder / "a.yml").write_text("models: {}\n")


@pytest.mark.parametrize("way", [write, rename_over, same_size_and_time, add_fragment])
def test_h79_each_way_of_changing_a_file_is_seen_once(world: World, way: Callable[[World], Any]) -> None:
    assert world.pass_time(10) == 0
    way(world)
    assert world.pass_time(2.7) == 1
    assert world.pass_time(10) == 0


def test_h79_a_symbolic_link_that_points_elsewhere_is_seen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("models: {}\n")
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "one")
    clock, changes = Clock(), list[None]()
    path = str(link / "config.yaml")

    def look() -> Deferred[Picture]:
        return succeed(take_picture(path, None))

    watcher = Watcher(clock, look, lambda: changes.append(None), take_picture(path, None))
    watcher.start()
    (tmp_path / "next").symlink_to(tmp_path / "two")
    (tmp_path / "next").rename(link)
    clock.pump([0.1] * 30)
    assert changes == [None]
    watcher.stop()


def test_h80_what_is_gone_is_no_change_but_its_return_is(world: World) -> None:
    content = world.file.read_text()
    world.file.unlink()
    assert world.pass_time(10) == 0
    world.file.write_text(content)
    assert world.pass_time(2.7) == 1


def test_h78_an_empty_file_is_no_change(world: World) -> None:
    world.file.write_text("")
    assert world.pass_time(10) == 0
    world.file.write_text("models: {b: {}}\n")
    assert world.pass_time(2.7) == 1


def test_h80_a_folder_that_empties_is_no_change(world: World) -> None:
    fragment = world.folder / "a.yaml"
    fragment.write_text("models: {}\n")
    assert world.pass_time(3) == 1
    fragment.unlink()
    world.folder.rmdir()
    assert world.pass_time(10) == 0
    assert world.file.exists()


def test_a_fragment_that_leaves_others_behind_is_a_change(world: World) -> None:
    for name in ("a.yaml", "b.yaml"):
        (world.folder / name).write_text("models: {}\n")
    assert world.pass_time(3) == 1
    (world.folder / "a.yaml").unlink()
    assert world.pass_time(3) == 1


def test_other_files_in_the_folder_do_not_matter(world: World) -> None:
    (world.folder / "README").write_text("hello\n")
    (world.folder / "sub.yaml").mkdir()
    assert world.pass_time(10) == 0


def test_nothing_is_reported_while_somebody_writes(world: World) -> None:
    for size in range(1, 60):
        world.file.write_text("#" * size)
        assert world.pass_time(0.3) == 0
    assert world.pass_time(2.7) == 1


def test_a_change_that_is_taken_back_at_once_is_none() -> None:
    clock = Clock()
    first: Picture = ((("f", (1, 1, 1, 1)),), ())
    second: Picture = ((("f", (2, 1, 1, 1)),), ())
    pictures = [first, second, first, first]
    changes: list[None] = []
    watcher = Watcher(clock, lambda: succeed(pictures.pop(0)), lambda: changes.append(None), first)
    watcher.start()
    clock.pump([0.5] * 9)
    assert changes == []
    watcher.stop()


def test_a_look_that_hangs_is_waited_for_and_its_late_answer_after_the_end_ignored() -> None:
    clock = Clock()
    looks: list[Deferred[Picture]] = []

    def look() -> Deferred[Picture]:
        looks.append(Deferred())
        return looks[-1]

    watcher = Watcher(clock, look, lambda: None, ((), ()))
    watcher.start()
    clock.pump([1.0] * 20)
    assert len(looks) == 1
    watcher.stop()
    looks[0].callback(((), ()))
    assert clock.getDelayedCalls() == []


def test_a_look_that_breaks_is_logged_and_tried_again(logged_failures: Any) -> None:
    clock = Clock()
    answers: list[Deferred[Picture]] = [fail(ZeroDivisionError()), succeed(((), ()))]
    watcher = Watcher(clock, lambda: answers.pop(0), lambda: None, ((), ()))
    watcher.start()
    clock.advance(2.0)
    assert answers == []
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    watcher.stop()
    assert clock.getDelayedCalls() == []
