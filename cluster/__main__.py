"""`python -m cluster`: exit code 0 done, 1 failed, 2 wrong request."""

import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    by_exception = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # it may be ignored, as by nohup
    if by_exception:  # Ctrl-C while modules load ends the process at once; an exception would print where that was
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cluster.cli.app import main as run

    if by_exception:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(run())


if __name__ == "__main__":
    main()
