"""The yardstick: a plain Klein route that passes every request on with ``treq.request``.

Usage: ``python benchmarks/baseline.py CONFIG HOST PORT``. It starts the first model of the
configuration, sends everything there, and swaps nothing.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import treq
import yaml
from klein import Klein
from twisted.internet import reactor
from twisted.internet.protocol import ProcessProtocol
from twisted.web.server import Site

if TYPE_CHECKING:
    from twisted.web.server import Request

HOP_HEADERS = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
app = Klein()
upstream = ""


@app.route("/health")
def health(_request: Request) -> bytes:
    return b"OK"


@app.route("/upstream/m1/<path:path>", methods=["GET", "POST"])
@app.route("/v1/<path:path>", methods=["GET", "POST"])
async def forward(request: Request, path: str) -> None:
    prefix = "" if request.path.startswith(b"/upstream/") else "v1/"
    query = request.uri.partition(b"?")[2].decode("ascii")
    headers = request.requestHeaders.copy()
    for name in (*HOP_HEADERS, b"content-length"):
        headers.removeHeader(name)
    response = await treq.request(
        request.method.decode("ascii"),
        f"{upstream}/{prefix}{path}?{query}",
        headers=headers,
        data=request.content.read(),
        unbuffered=True,
        allow_redirects=False,
    )
    request.setResponseCode(response.code)
    for name, values in response.headers.getAllRawHeaders():
        if name.lower() not in HOP_HEADERS:
            request.responseHeaders.setRawHeaders(name, values)
    if isinstance(response.length, int):
        request.setHeader(b"content-length", b"%d" % response.length)
    await treq.collect(response, request.write)


if __name__ == "__main__":
    with Path(sys.argv[1]).open(encoding="utf-8") as file:
        settings = yaml.safe_load(file)
    port = str(settings["startPort"])
    command = shlex.split(next(iter(settings["models"].values()))["cmd"].replace("${PORT}", port))
    upstream = f"http://127.0.0.1:{port}"
    reactor.spawnProcess(ProcessProtocol(), command[0], command, env=os.environ)
    reactor.listenTCP(int(sys.argv[3]), Site(app.resource()), backlog=1024, interface=sys.argv[2])
    reactor.run()
