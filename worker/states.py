"""The states of a job that have a name of their own; the state machine is drawn in worker/lease.py. Clients know them too."""

ACTIVE = ("running", "pausing", "cancelling")  # that have an owner
TERMINAL = ("succeeded", "failed", "cancelled")
