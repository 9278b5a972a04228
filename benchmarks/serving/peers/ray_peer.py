"""Ray Serve. `default` is one replica; `best` and `engine` have a replica a core, batches, and its high-throughput mode.

Settings: https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html (batches) and …/performance.html;
RAY_SERVE_THROUGHPUT_OPTIMIZED and RAY_SERVE_ENABLE_HA_PROXY: …/master/kuberay/user-guides/serve-high-throughput.html.
"""

import os
import signal
from pathlib import Path

from common import BATCH, CORES, Answer, Options, export, model, options
from starlette.requests import Request

_WAIT_SECONDS = 0.002
_MAX_ONGOING = 256  # requests a replica takes at once; the default of 5 would keep batches small


def _run(chosen: Options) -> None:
    import ray  # noqa: PLC0415 - after the environment is set, which it reads at import
    from ray import serve  # noqa: PLC0415

    environment = {"env_vars": {name: os.environ[name] for name in ("PEER_OPTIONS", "PYTHONPATH", "SERVING_BENCHMARK")}}
    ray.init(num_cpus=CORES, include_dashboard=False, runtime_env=environment, log_to_driver=False, logging_level="warning")
    serve.start(http_options={"host": "127.0.0.1", "port": chosen.port})

    @serve.deployment
    class One:
        def __init__(self) -> None:
            model()

        async def __call__(self, request: Request) -> Answer:
            return model().batch([await request.body()])[0]

    @serve.deployment(num_replicas=CORES, max_ongoing_requests=_MAX_ONGOING, ray_actor_options={"num_cpus": 1})
    class Many:
        def __init__(self) -> None:
            model()

        @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=_WAIT_SECONDS)
        async def together(self, sounds: list[bytes]) -> list[Answer]:
            return model().batch(sounds)

        async def __call__(self, request: Request) -> Answer:
            return await self.together(await request.body())

    serve.run((One if chosen.variant == "default" else Many).bind(), route_prefix="/predict")


def _prefer_throughput() -> None:
    """Turn on what the guide names; HAProxy's files and the replicas' ports are this cluster's own, as there are several here."""
    folder = Path(f"haproxy-{os.getpid()}").absolute()
    folder.mkdir()
    files = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "admin.sock", "METRICS_SOCKET_PATH": "metrics.sock"}
    files |= {"SERVER_STATE_BASE": ".", "SERVER_STATE_FILE": "server-state"}
    os.environ |= {f"RAY_SERVE_HAPROXY_{name}": str(folder / file) for name, file in files.items()}
    first = 20000 + os.getpid() % 100 * 100
    ports = {"MIN_HTTP_PORT": first, "MAX_HTTP_PORT": first + 40, "MIN_GRPC_PORT": first + 50, "MAX_GRPC_PORT": first + 90}
    os.environ |= {f"RAY_SERVE_DIRECT_INGRESS_{name}": str(port) for name, port in ports.items()}
    os.environ |= {"RAY_SERVE_HAPROXY_METRICS_PORT": str(first + 98), "RAY_SERVE_HAPROXY_STATS_PORT": str(first + 99)}
    os.environ |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}


def main() -> None:
    """Serve until killed."""
    chosen = options("default", "best", "engine", "noop")
    export(chosen)
    if chosen.variant != "default":
        _prefer_throughput()
    _run(chosen)
    signal.pause()


if __name__ == "__main__":
    main()
