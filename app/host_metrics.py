"""The gauges of machine, queue and broker, as one API process sees them when it is asked."""

from prometheus_client import CollectorRegistry, Gauge

from worker.host_state import HostState


class HostMetrics:
    """Set anew at every look."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """The gauges are added to `registry`."""
        here = registry
        self._disk = Gauge("synesthesia_disk_bytes", "Size of the data directory's disk.", registry=here)
        self._free = Gauge("synesthesia_disk_free_bytes", "What is free of it.", registry=here)
        self._broker = Gauge("synesthesia_broker_up", "Whether the broker answers.", registry=here)
        self._unsent = Gauge("synesthesia_outbox_messages", "Messages that wait for the broker.", registry=here)
        self._overdue = Gauge("synesthesia_jobs_overdue", "Running jobs whose lease has run out.", registry=here)
        self._restarts = Gauge(
            "synesthesia_job_restarts", "Starts of jobs beyond their first: lost leases, failures, drains and pauses.", registry=here
        )
        self._failures = Gauge("synesthesia_job_failures", "Starts that count against their job.", registry=here)
        of_gpu = ("gpu",)
        self._gpu_used = Gauge("synesthesia_gpu_memory_used_bytes", "Memory of a GPU in use, by anybody.", of_gpu, registry=here)
        self._gpu_total = Gauge("synesthesia_gpu_memory_bytes", "Memory of a GPU.", of_gpu, registry=here)

    def observe(self, state: HostState, *, broker: bool) -> None:
        """Take what is true now."""
        self._disk.set(state.disk.total)
        self._free.set(state.disk.free)
        self._broker.set(broker)
        self._unsent.set(state.unsent)
        self._overdue.set(state.overdue)
        self._restarts.set(state.restarts)
        self._failures.set(state.failures)
        for gpu in state.gpus:
            self._gpu_used.labels(gpu.number).set(gpu.used)
            self._gpu_total.labels(gpu.number).set(gpu.total)
