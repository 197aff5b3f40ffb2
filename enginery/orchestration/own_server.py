"""The program of Enginery's own Prefect server, for one run: no UI, a free port of this machine.

It ends with the process that started it, whatever ends that: its standard input is a pipe that
nobody writes to, and that the kernel closes with its only other end.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

import uvicorn

_GRACE_S = 5


def main() -> None:
    """Say the port on standard output, then serve until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            "prefect.server.api.server:create_app",
            factory=True,
            lifespan="on",
            log_level="error",
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    threading.Thread(target=_follow_parent, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    logging.shutdown()
    os._exit(
        0 if server.started else 1
    )  # all is written; Python's own end waits for threads, and stops the guard below


def _follow_parent(server: uvicorn.Server) -> None:
    while os.read(
        0, 1024
    ):  # nothing comes; it returns when the parent has closed its end or is gone
        pass
    server.should_exit = True
    time.sleep(_GRACE_S)
    os._exit(1)  # it hangs, in its start or in its end


if __name__ == "__main__":
    main()
