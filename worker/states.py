"""The states of a job that have a name of their own; the state machine is drawn in worker/lease.py. Clients know them too."""

ACTIVE = ("running", "pausing", "cancelling")  # that have an owner
TERMINAL = ("succeeded", "failed", "cancelled")
INGEST, GENERATE = "ingest", "generate"
INTERNAL = (INGEST, GENERATE)  # making a dataset is a job like any other, but shown as its dataset's progress
