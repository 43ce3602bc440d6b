"""Run the command with ``python -m tensorstate``."""

from tensorstate.cli import main

if __name__ == "__main__":
    main()
