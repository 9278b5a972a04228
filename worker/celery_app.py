"""The Celery application: how messages travel. What they mean is in worker/tasks.py; what is true is in the job's row.

Early acknowledgement, no result backend, JSON only, and a body that holds a job id: a lost, doubled or forged message changes nothing.
A long job is not sent again while it runs, as late acknowledgement does on Redis once the visibility timeout is over.
"""

import argparse

from celery import Celery, signals

from worker import drain
from worker.database import get_engine
from worker.embedded import broker_url
from worker.logs import configure_logging
from worker.settings import Settings, get_settings

QUEUES = ("train", "data")


def configuration(settings: Settings) -> dict[str, object]:
    """Return Celery's settings; times in seconds."""
    return {
        "broker_url": broker_url(settings),
        "result_backend": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_default_queue": "train",
        # No message while the one process is busy. Not by a count of unacknowledged messages as well (0: none): one whose acknowledgement
        # was lost with its connection counts for ever, and a worker that may hold one would never take another.
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 0,
        "worker_concurrency": 1,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": 3600,
            "socket_timeout": 10,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            # An idle consumer whose connection is dead without a word (half-open TCP) is replaced after twice this and a second.
            "health_check_interval": 10,
        },
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        "include": ["worker.tasks"],
    }


def create_celery(settings: Settings) -> Celery:
    """Return an application configured from `settings`. Nothing is connected yet."""
    celery = Celery("synesthesia", set_as_current=True)
    celery.conf.update(configuration(settings))
    return celery


def run_worker(queues: str, name: str) -> None:
    """Take messages from `queues` (comma-separated) until SIGTERM; one job at a time, in a forked child that supervises it."""
    settings = get_settings()
    configure_logging(settings.log_level)
    celery = create_celery(settings)
    # SIGTERM stays Celery's warm shutdown: it takes no new message and waits for the task, which ends within stop_grace_seconds, as the
    # flag lets the trainer write its checkpoint and gives the job back. Its soft and cold shutdowns set the flag only when it is too late.
    drain.install()
    # A forked child must not use the parent's database connections.
    signals.worker_process_init.connect(_forget_connections, weak=False)
    options = ("--pool", "prefork", "--concurrency", "1", "--without-gossip", "--without-mingle", "--loglevel", settings.log_level.upper())
    celery.worker_main(["worker", "--queues", queues, "--hostname", f"{name}@%h", *options])


def _forget_connections(**_: object) -> None:
    if get_engine.cache_info().currsize:
        get_engine().dispose(close=False)  # a goodbye on a shared socket would end the parent's session
    get_engine.cache_clear()


def main() -> None:
    """`python -m worker.celery_app --queues train`."""
    parser = argparse.ArgumentParser(description="Run a worker.")
    parser.add_argument("--queues", default=",".join(QUEUES), help="comma-separated: train, data")
    parser.add_argument("--name", default="worker")
    arguments = parser.parse_args()
    run_worker(arguments.queues, arguments.name)


if __name__ == "__main__":
    main()
