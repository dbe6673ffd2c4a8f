"""`python -m cluster`: exit code 0 done, 1 failed, 2 wrong request."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from cluster.cli.app import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
