"""The console script: the daemon in the foreground, without ``twistd``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.internet.error import CannotListenError
from twisted.logger import globalLogBeginner
from twisted.python.usage import UsageError

from llamaswap.errors import ConfigError
from llamaswap.tap import Options, make_daemon, run_once


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to end.

    Args:
        argv: Words after the program's name; ``None`` = those of this process.

    Returns:
        The exit status: 0 done, 1 cannot start, 2 bad flags.
    """
    options = Options()
    try:
        options.parseOptions(argv)
    except UsageError as error:
        print(f"{error}\n\n{options}", file=sys.stderr)  # noqa: T201
        return 2
    status = run_once(options)
    if status is not None:
        return status
    try:
        service = make_daemon(options)
        service.privilegedStartService()
    except (ConfigError, CannotListenError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([service.logs.own_lines], redirectStandardIO=False)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
