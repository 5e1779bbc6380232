"""The entry of the command: signals first, imports then.

Half a second of imports goes by before a command begins. Ctrl-C is answered during that too.
"""

import os
import signal


def main() -> None:
    """Imports the command line and runs it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    from quakestream.cli.main import main as run

    run()


def _leave(signum: int, frame: object) -> None:
    """Nothing is open yet, so nothing has to be closed."""
    word = "interrupted" if signum == signal.SIGINT else "terminated"
    os.write(2, f"error: {word} before anything was done; run the same command again\n".encode())
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
