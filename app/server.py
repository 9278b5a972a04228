"""`python -m app.server --fd N`: what `serve` starts. It skips the command line's imports, which the service does not need.

The garbage collector rests while the service's own are made: it would walk a growing heap a hundred times and find next to nothing.
"""

import argparse
import gc


def main() -> None:
    """Run one API process."""
    gc.disable()
    from app.api import run_api  # noqa: PLC0415 - not before the collector rests
    from worker.settings import get_settings  # noqa: PLC0415

    parser = argparse.ArgumentParser(description="Run one API process.")
    parser.add_argument("--fd", type=int, default=None, help="an inherited listening socket")
    run_api(get_settings(), descriptor=parser.parse_args().fd)


if __name__ == "__main__":
    main()
