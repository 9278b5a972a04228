# ruff: noqa: INP001 - a script of the image, not a part of the package
"""Health of a container: `python health.py api` or `python health.py worker`; exit status 0 means healthy.

The slim image has no curl, and a worker listens on no port: it is asked through the broker. A worker answers while it trains.
"""

import argparse
import http.client
import socket
import sys

from worker.settings import Settings, get_settings

_SECONDS = 5.0  # of patience, less than Docker's own


def api_healthy(settings: Settings) -> bool:
    """Whether `GET /readyz` of this container answers 200. Raises OSError where nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    finally:
        connection.close()


def worker_healthy(settings: Settings, name: str) -> bool:
    """Whether this container's worker answers a ping. Raises kombu's OperationalError where no broker answers."""
    from worker.celery_app import create_celery  # noqa: PLC0415 - the API's check runs often and needs no celery

    node = f"{name}@{socket.gethostname()}"
    return bool(create_celery(settings).control.ping(destination=[node], timeout=_SECONDS))


def main() -> None:
    """Exit with 0 or 1; an exception is 1, too, and Docker keeps its text."""
    parser = argparse.ArgumentParser(description="Tell whether this container is healthy.")
    parser.add_argument("role", choices=("api", "worker"))
    parser.add_argument("--name", default="worker", help="the worker's --name")
    arguments = parser.parse_args()
    settings = get_settings()
    healthy = api_healthy(settings) if arguments.role == "api" else worker_healthy(settings, arguments.name)
    sys.exit(0 if healthy else 1)


if __name__ == "__main__":
    main()
