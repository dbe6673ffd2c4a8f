"""`python -m cluster`: exit code 0 done, 1 failed, 2 asked wrongly."""

import sys

from bridge_common.errors import UserError


def main() -> None:
    """Run the command line."""
    from cluster.cli.app import make_app

    try:
        make_app()()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
