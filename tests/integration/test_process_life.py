"""Real servers come up, and every last one of their processes goes."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.logger import capturedLogs

from llamaswap.core.values import StopReason
from llamaswap.errors import ModelUnloadedError, UpstreamStartError, UpstreamStartTimeoutError
from llamaswap.process.table import INSTANCE_VARIABLE
from tests.integration.process_rig import Rig, is_alive, zombies

MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[MakeRig]:
    """Make rigs; at the end nothing that they started may be alive."""
    rigs: list[Rig] = []

    def make(*options: str, **fields: Any) -> Rig:
        folder = tmp_path / str(len(rigs))
        folder.mkdir()
        rigs.append(Rig(folder, *options, **fields))
        return rigs[-1]

    yield make
    for rig in rigs:
        pytest_twisted.blockon(rig.clean_up())
    left = [pid for rig in rigs for pid in rig.pids() if is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "processes were left behind"
    assert not zombies()


def in_background(rig_server: tuple[str, ...], then: str) -> tuple[str, ...]:
    """Put a server behind a shell."""
    return ("/bin/sh", "-c", f"{shlex.join(rig_server)} & {then}")


@pytest_twisted.ensureDeferred
async def test_up_and_down(make_rig: MakeRig) -> None:
    rig = make_rig()
    pid = await rig.start()
    assert (await rig.ask("/facts"))["pid"] == pid
    resident = rig.upstream._life.launched.resident_bytes()  # type: ignore[union-attr]  # it is up
    assert (await rig.within(resident) or 0) > 1_000_000
    assert await rig.stop() < 1
    assert rig.marks() == ["start", "term", "end"]
    assert rig.events.told == [
        "1: stopped -> starting",
        "1: starting -> ready",
        "1: ready -> stopping (user)",
        "1: stopping -> stopped (user)",
    ]


@pytest_twisted.ensureDeferred
async def test_h01_request_during_a_slow_stop_gets_a_new_process(make_rig: MakeRig) -> None:
    rig = make_rig("--ignore-term")
    old = await rig.start()
    stopped = rig.upstream.stop(0.5, StopReason.IDLE_TIMEOUT)
    new = await rig.start()
    await rig.within(stopped)
    assert new != old
    assert not is_alive(old)
    assert (await rig.ask("/x"))["pid"] == new


@pytest_twisted.ensureDeferred
async def test_h02_stop_while_loading(make_rig: MakeRig) -> None:
    rig = make_rig("--load", "5")
    ready = rig.upstream.ensure_ready()
    await rig.until(rig.marks)
    assert await rig.stop() < 1
    with pytest.raises(ModelUnloadedError):
        await ready
    assert not is_alive(rig.pids()[0])


@pytest_twisted.ensureDeferred
async def test_h05_killed_leader_is_replaced(make_rig: MakeRig) -> None:
    rig = make_rig()
    old = await rig.start()
    os.kill(old, signal.SIGKILL)
    await rig.until(lambda: "1: exited" in rig.events.told)
    assert await rig.start() != old


@pytest_twisted.ensureDeferred
async def test_h06_exit_during_the_start_is_noticed_at_once(make_rig: MakeRig) -> None:
    rig = make_rig("--exit", "3", "--exit-after", "0.1")
    before = time.monotonic()
    with pytest.raises(UpstreamStartError, match=r"^upstream command exited prematurely$"):
        await rig.start()
    assert time.monotonic() - before < 0.6
    assert b"".join(rig.output) == b"giving up\n"


@pytest_twisted.ensureDeferred
async def test_h07_hanging_server_fails_at_the_deadline(make_rig: MakeRig) -> None:
    rig = make_rig("--hang", health_check_timeout_seconds=1)
    before = time.monotonic()
    with pytest.raises(UpstreamStartTimeoutError, match=r"^health check timed out after 1s$"):
        await rig.start()
    assert 1 <= time.monotonic() - before < 2
    assert not is_alive(rig.pids()[0])


@pytest_twisted.ensureDeferred
async def test_h08_port_that_opens_late(make_rig: MakeRig) -> None:
    rig = make_rig("--listen-after", "1")
    await rig.start()


@pytest_twisted.ensureDeferred
async def test_probes_do_not_reset_their_connections(make_rig: MakeRig) -> None:
    rig = make_rig("--load", "0.3")
    await rig.start()
    await rig.stop()
    assert rig.output == []


@pytest_twisted.ensureDeferred
async def test_h09_foreign_listener_is_not_taken_for_the_model(make_rig: MakeRig) -> None:
    decoy, rig = make_rig(), make_rig("--exit", "1", "--exit-after", "600", health_check_timeout_seconds=1)
    rig.config = replace(rig.config, proxy=f"http://127.0.0.1:{decoy.port}")
    pid = await decoy.start()
    with capturedLogs() as events, pytest.raises(UpstreamStartTimeoutError):
        await rig.start()
    warnings = [event for event in events if "somebody else" in (event["log_format"] or "")]
    assert len(warnings) == 1
    assert f"(pid {pid})" in warnings[0]["others"]


@pytest_twisted.ensureDeferred
async def test_h09_listener_that_goes_away_does_not_keep_the_model_down(make_rig: MakeRig) -> None:
    rig = make_rig("--listen-after", "0.3")
    with socket.create_server(("127.0.0.1", rig.port)):
        ready = rig.upstream.ensure_ready()
    assert await rig.within(ready) == 1


@pytest_twisted.ensureDeferred
async def test_h10_fifty_lives_leave_no_zombie(make_rig: MakeRig) -> None:
    rig = make_rig()
    for _ in range(50):
        await rig.start()
        await rig.stop()
        assert not zombies()
    assert len(set(rig.pids())) == 50


@pytest.mark.parametrize("child", ["inherit", "null"])
@pytest_twisted.ensureDeferred
async def test_h11_h13_child_that_ignores_term(make_rig: MakeRig, child: str) -> None:
    rig = make_rig("--child", child, "--child-ignores-term")
    await rig.start()
    await rig.until(lambda: len(rig.pids()) == 2)
    assert await rig.stop() < 3
    assert not any(map(is_alive, rig.pids()))
    await rig.start()


@pytest_twisted.ensureDeferred
async def test_h12_server_behind_a_shell(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.config = replace(rig.config, argv=in_background(rig.server, "wait"))
    leader = await rig.start()
    (server,) = rig.pids()
    assert server != leader
    assert await rig.stop() < 1
    assert not is_alive(server)
    assert rig.marks() == ["start", "term", "end"], "it had the time that it needed"


@pytest_twisted.ensureDeferred
async def test_h14_descendant_in_another_session(make_rig: MakeRig) -> None:
    rig = make_rig("--child", "daemon")
    await rig.start()
    await rig.until(lambda: len(rig.pids()) == 2)
    assert os.getsid(rig.pids()[1]) not in {os.getsid(0), rig.pid}
    assert await rig.stop() < 3
    assert not is_alive(rig.pids()[1])


@pytest_twisted.ensureDeferred
async def test_wrapper_that_exits_leaves_nobody(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.config = replace(rig.config, argv=in_background(rig.server, "sleep 0.5"))
    await rig.start()
    await rig.until(lambda: "1: exited" in rig.events.told)
    assert is_alive(rig.pids()[0])
    await rig.start()
    assert not is_alive(rig.pids()[0])


@pytest_twisted.ensureDeferred
async def test_h15_slow_end_within_the_grace(make_rig: MakeRig) -> None:
    rig = make_rig("--term-delay", "1.5")
    await rig.start()
    assert 1.5 <= await rig.stop(8) < 3
    assert rig.marks() == ["start", "term", "end"]


@pytest_twisted.ensureDeferred
async def test_h16_there_is_always_a_grace(make_rig: MakeRig) -> None:
    rig = make_rig()
    await rig.start()
    await rig.stop(0)
    assert rig.marks() == ["start", "term", "end"]


@pytest_twisted.ensureDeferred
async def test_h17_server_that_ignores_term(make_rig: MakeRig) -> None:
    rig = make_rig("--ignore-term")
    await rig.start()
    assert 0.5 <= await rig.stop(0.5) < 1.5
    assert rig.marks() == ["start", "term"]


@pytest_twisted.ensureDeferred
async def test_h18_stop_command_that_hangs(make_rig: MakeRig, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    rig = make_rig(stop_argv=("/bin/sh", "-c", f"echo $$ > {note}; sleep 600; true"))
    await rig.start()
    assert 0.5 <= await rig.stop(0.5) < 1.5
    assert not is_alive(int(note.read_text()))


@pytest_twisted.ensureDeferred
async def test_stop_command_that_was_changed_while_the_server_ran(make_rig: MakeRig, tmp_path: Path) -> None:
    note = tmp_path / "said"
    rig = make_rig(stop_argv=("false",))
    await rig.start()
    command = f"echo new > {note}; kill ${{PID}}"
    rig.upstream.reconfigure(replace(rig.config, stop_argv=("/bin/sh", "-c", command)))
    assert await rig.stop() < 1
    assert note.read_text() == "new\n"


@pytest_twisted.ensureDeferred
async def test_h19_stop_command_has_environment_and_log_of_the_model(make_rig: MakeRig) -> None:
    command = 'echo "$FROM_DAEMON $OWN [$LLAMASWAP_INSTANCE]"; echo to stderr >&2; test -n "$PATH" && kill ${PID}'
    rig = make_rig(stop_argv=("/bin/sh", "-c", command), env=("OWN=1", "OWN=2"))
    await rig.start()
    assert await rig.stop() < 1
    assert b"".join(rig.output) == b"yes 2 []\nto stderr\n"


@pytest_twisted.ensureDeferred
async def test_h20_stop_command_that_fails(make_rig: MakeRig) -> None:
    rig = make_rig(stop_argv=("false",))
    await rig.start()
    assert await rig.stop() < 1
    assert rig.marks() == ["start", "term", "end"]


@pytest_twisted.ensureDeferred
async def test_h22_next_start_waits_for_the_stop_command(make_rig: MakeRig, tmp_path: Path) -> None:
    done = tmp_path / "done"
    rig = make_rig(stop_argv=("/bin/sh", "-c", f"kill ${{PID}}; sleep 0.5; touch {done}"))
    old = await rig.start()
    rig.upstream.stop(5, StopReason.SWAP)
    ready = rig.upstream.ensure_ready()
    await rig.until(lambda: not is_alive(old))
    assert not done.exists()
    await rig.within(ready)
    assert done.exists()
    assert rig.marks() == ["start", "term", "end", "start"]


@pytest_twisted.ensureDeferred
async def test_h23_leader_that_died_before_the_reactor_knows(make_rig: MakeRig) -> None:
    rig = make_rig()
    pid = await rig.start()
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):  # the reactor does not run meanwhile
        pass
    assert rig.upstream.state == "ready"
    assert await rig.stop() < 1


@pytest_twisted.ensureDeferred
async def test_h32_what_cannot_be_run(make_rig: MakeRig, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    for argv, mode, reason in [
        (("no-such-command", "-x"), 0o755, "executable file not found in $PATH"),
        ((str(script),), 0o644, "permission denied"),
        ((str(script),), 0o755, "no such file or directory"),
        (("/bin/sh", "\0"), 0o755, "embedded null byte"),
    ]:
        script.chmod(mode)
        rig = make_rig(argv=argv)
        with pytest.raises(UpstreamStartError) as caught:
            await rig.start()
        assert caught.value.message == f"failed to start command '{' '.join(argv)}': {reason}"
        assert rig.upstream.state == "stopped"


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["in our folder", "in another folder"])
@pytest_twisted.ensureDeferred
async def test_h33_h34_child_starts_clean(make_rig: MakeRig, tmp_path: Path, is_elsewhere: bool) -> None:  # noqa: FBT001
    rig = make_rig(env=("OWN=1", "OWN=2"))
    if is_elsewhere:
        rig.cwd = str(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        inherited.set_inheritable(True)
        old_action = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            ready = rig.upstream.ensure_ready()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
            signal.signal(signal.SIGHUP, old_action)
    await rig.within(ready)
    facts = await rig.ask("/facts")
    assert facts["session"] == facts["group"] == facts["pid"] == rig.pid
    assert facts["cwd"] == rig.cwd
    assert facts["blocked"].strip("0\n") == ""
    ignored = {number for number in signal.valid_signals() if int(facts["ignored"], 16) >> number - 1 & 1}
    assert ignored == {signal.SIGPIPE, signal.SIGXFSZ}, "what Python ignores by itself, and nothing that it inherited"
    fds = {int(number): link for number, link in facts["fds"].items() if "socket:" not in link}
    assert fds.keys() - {0, 1, 2} == set()
    assert fds[0] == "/dev/null"
    assert fds[1] == fds[2]
    assert "pipe:" in fds[1]
    env = facts["env"]
    assert (env["FROM_DAEMON"], env["OWN"], env["PATH"]) == ("yes", "2", os.environ["PATH"])
    assert env[INSTANCE_VARIABLE].endswith("/1/m")


@pytest_twisted.ensureDeferred
async def test_much_output_arrives_in_order_and_holds_nobody_up(make_rig: MakeRig) -> None:
    rig = make_rig("--print-bytes", str(8_000_000))
    await rig.start()
    await rig.until(lambda: sum(map(len, rig.output)) == 8_000_000)
    assert set(b"".join(rig.output).splitlines()) == {b"x" * 63}


@pytest_twisted.ensureDeferred
async def test_kept_descendant_outlives_the_model(make_rig: MakeRig) -> None:
    rig = make_rig("--child", "inherit", keep_descendants=True)
    await rig.start()
    leader, child = await rig.until(lambda: rig.pids() if len(rig.pids()) == 2 else [])
    assert await rig.stop() < 1
    assert not is_alive(leader)
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)
    await rig.until(lambda: not is_alive(child))
