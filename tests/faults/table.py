"""The fault table: what goes wrong, how that is brought about, what has to come of it, and the tests that show it.

`python -m tests.faults.report` runs them and prints what was seen. Faults of a GPU are not here: they need one.
"""

from tests.faults.rows import Row
from tests.faults.table_callers import CALLERS

_CHILDREN = "tests/faults/test_children.py::"
_DELIVERY = "tests/faults/test_delivery.py::"
_SHUTDOWN = "tests/faults/test_shutdown.py::"
_LIMITS = "tests/faults/test_limits.py::"
_WRITES = "tests/faults/test_every_write.py::"
_LATE = "tests/faults/test_late_messages.py::"
_LIVE = "tests/faults/test_live_database.py::"
_KILL = "tests/journeys/test_kill.py::"

_MESSAGES = (
    Row(
        "duplicate-message", "a job's message comes twenty times", "published 20 times to two workers", "one run",
        (f"{_DELIVERY}test_twenty_messages_to_two_workers_start_a_job_once",),
    ),
    Row(
        "late-message", "a message comes again while its job runs and after its end", "the task is called again with the id", "no-ops",
        (f"{_LATE}test_a_message_that_comes_again_does_nothing", "tests/worker/test_state_machine.py"),
    ),
    Row(
        "newer-jobs", "a worker gets a job of a type, or with a field, that only a newer version knows", "rows as it would write them",
        "it waits for a newer worker, and holds up no other", ("tests/faults/test_other_versions.py",),
    ),
    Row(
        "unknown-task", "a worker gets a task that it does not know, as from a newer version", "published under another name",
        "the job is sent again and runs", (f"{_LATE}test_a_task_that_nobody_knows_costs_nothing",),
    ),
    Row(
        "crash-before-publish", "a crash between commit and publication", "nothing is sent after the commit", "sent after the restart",
        (f"{_DELIVERY}test_a_crash_before_the_message_is_sent_loses_nothing",),
    ),
    Row(
        "crash-after-publish", "a crash before a message is marked as sent", "the process ends there", "sent twice, run once",
        (f"{_DELIVERY}test_a_crash_after_the_message_is_sent_sends_it_twice",),
    ),
    Row(
        "outbox-every-step", "sending or committing fails at any step of the relay", "the Nth send or commit fails, N = 1, 2, …",
        "no message is missing", (f"{_WRITES}test_the_outbox_forgets_nothing",),
    ),
    Row(
        "broker-down", "no broker when a job is posted", "none is started", "accepted at once; ready, but degraded",
        (
            f"{_DELIVERY}test_jobs_are_accepted_while_the_broker_is_down",
            "tests/app/test_readiness.py::test_without_a_broker_it_is_ready_but_degraded",
        ),
    ),
    Row(
        "broker-hung", "a broker that does not answer", "SIGSTOP", "nobody else waits",
        (f"{_DELIVERY}test_a_hung_broker_holds_up_nobody_else",),
    ),
    Row(
        "broker-empty", "a broker that restarts, or comes back empty with 20 queued", "SIGKILL, its log removed", "all 20 run, once each",
        (f"{_DELIVERY}test_a_broker_that_restarts_or_comes_back_empty_costs_no_job",),
    ),
    Row(
        "half-open", "connections that are dead and don't say so", "a proxy that swallows what comes", "the worker notices and goes on",
        ("tests/faults/test_half_open.py",),
    ),
    Row(
        "garbage-message", "garbage and a pickle in the queue", "pushed into its list", "nothing is run; the queue drains",
        (
            f"{_DELIVERY}test_messages_that_are_none_stop_nothing_and_run_nothing",
            "tests/worker/test_celery_app.py::test_messages_can_carry_an_id_and_nothing_that_runs",
        ),
    ),
    Row(
        "two-keepers", "several keepers and relays at once", "four threads without their lock", "each effect once",
        (f"{_DELIVERY}test_keepers_at_once_have_one_effect",),
    ),
)  # fmt: skip

_PROCESSES = (
    Row(
        "kill-trainer", "kill -9 of a trainer in the middle", "SIGKILL", "goes on from its checkpoint, to the same weights",
        (
            "tests/faults/test_training_faults.py::test_a_killed_trainer_learns_what_an_undisturbed_one_does",
            f"{_KILL}test_one_part_dies[trainer]",
        ),
    ),
    Row(
        "kill-worker", "kill -9 of a worker, or of its group", "SIGKILL", "no process is left; the job is queued within seconds",
        (f"{_SHUTDOWN}test_a_killed_worker_leaves_no_process_and_loses_no_job", f"{_KILL}test_one_part_dies[worker]"),
    ),
    Row(
        "kill-api", "kill -9 of the API, and of the broker", "SIGKILL", "started again; the job does not notice",
        (f"{_KILL}test_one_part_dies[api]", f"{_KILL}test_one_part_dies[broker]"),
    ),
    Row(
        "kill-tree", "kill -9 of everything, three times", "SIGKILL of the process tree", "goes on after each start; one model",
        (f"{_KILL}test_the_whole_tree_dies_three_times",),
    ),
    Row(
        "kill-random", "kills at random moments", "a schedule from a seed", "all jobs end, once each",
        ("tests/faults/test_chaos.py", "tests/faults/test_random_kills.py"),
    ),
    Row(
        "kill-ingest", "kill -9 of what reads or draws a dataset", "SIGKILL", "begins again; the same items",
        (f"{_KILL}test_an_ingest_that_dies_begins_again", f"{_KILL}test_a_drawing_that_dies_begins_again"),
    ),
    Row(
        "poison", "a job whose trainer always dies", "the trainer kills itself", "failed after three starts with growing pauses",
        (f"{_CHILDREN}test_a_child_that_always_dies_fails_after_three_starts_with_growing_pauses",),
    ),
    Row(
        "paused-owner", "an owner that sleeps beyond its lease", "SIGSTOP, later SIGCONT", "fenced off; its trainer is ended",
        (f"{_SHUTDOWN}test_a_paused_owner_is_fenced_off_when_it_wakes", "tests/worker/test_lease.py::test_a_stale_owner_writes_nothing"),
    ),
    Row(
        "drain", "a worker is told to end", "SIGTERM", "checkpoint, job given back uncounted, no step made twice",
        (f"{_SHUTDOWN}test_a_worker_told_to_end_gives_its_job_back",),
    ),
    Row(
        "hung-trainer", "a trainer that lives and makes no step", "it sleeps", "ended and counted",
        (f"{_CHILDREN}test_a_child_that_hangs_is_ended_and_counted",),
    ),
    Row(
        "deaf-trainer", "a trainer that ignores SIGTERM", "the signal is ignored", "killed after the grace",
        (f"{_CHILDREN}test_a_deaf_child_is_killed_after_the_grace",),
    ),
    Row(
        "time-limit", "a job that takes too long", "a limit of seconds", "failed with its code, over all starts together",
        (
            f"{_LIMITS}test_a_child_that_runs_too_long_fails_with_a_checkpoint",
            f"{_LIMITS}test_all_starts_together_have_the_time_limit_and_a_pause_does_not_count",
        ),
    ),
    Row(
        "out-of-memory", "memory runs out while training", "the allocator's own error", "failed at once, with advice",
        (f"{_CHILDREN}test_out_of_memory_is_not_tried_again", "tests/models/test_training.py::test_memory_that_runs_out_is_said_so"),
    ),
    Row(
        "cancel-race", "cancel in every state and in a race with the end", "asked for at eight moments", "one terminal state",
        (
            f"{_CHILDREN}test_cancel_in_a_race_with_the_end",
            f"{_CHILDREN}test_cancelling_a_paused_or_queued_job_ends_it_at_once",
            "tests/app/routes/test_jobs.py::test_wishes_in_every_state",
        ),
    ),
    Row(
        "state-machine",
        "any order of wishes, claims, deaths, crashes, messages",
        "hypothesis, against a plain model",
        "the model's states",
        ("tests/worker/test_state_machine.py",),
    ),
    Row(
        "clock-jump", "the clock of a worker jumps by an hour", "time.time is moved", "leases don't move",
        (f"{_CHILDREN}test_a_clock_that_jumps_moves_no_lease",),
    ),
    Row(
        "resume-equals", "an interrupted training", "stopped at every step", "bit-equal weights",
        (
            "tests/models/test_training.py::test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit",
            "tests/models/test_training.py::test_resumed_at_every_step_equals_uninterrupted",
        ),
    ),
)  # fmt: skip

_DISKS = (
    Row(
        "checkpoint-damaged", "the newest checkpoint is damaged", "cut, flipped, emptied, exchanged", "the one before serves",
        ("tests/worker/test_checkpoints.py::test_a_damaged_one_gives_way_to_the_one_before",),
    ),
    Row(
        "checkpoint-every-step", "saving a checkpoint fails, or dies, at any step", "the Nth open, write, fsync, rename",
        "the newest whole one is found; no half of a file stays", (f"{_WRITES}test_a_checkpoint_is_whole_or_not_there",),
    ),
    Row(
        "publish-every-step", "publishing a blob fails, or dies, at any step", "the Nth open, write, fsync, rename",
        "the blob is whole or not there; a second try succeeds", (f"{_WRITES}test_a_blob_is_whole_or_not_there",),
    ),
    Row(
        "artifact-every-step", "publishing a model fails at any step", "the Nth fsync, rename, commit",
        "no row without its files; a second try succeeds", (f"{_WRITES}test_a_model_is_named_when_its_files_are_there",),
    ),
    Row(
        "upload-every-step", "receiving an archive fails at any step", "the Nth open, write, fsync, rename, commit",
        "503 or 507, nothing left; the next upload is taken",
        ("tests/faults/test_every_upload.py::test_an_upload_is_taken_or_leaves_nothing",),
    ),
    Row(
        "ingest-every-step", "reading an archive fails at any step", "the Nth write, fsync, rename of the process",
        "tried again; the dataset is ready or told as failed",
        ("tests/faults/test_every_upload.py::test_an_ingest_that_finds_no_room_goes_on_when_there_is_some",),
    ),
    Row(
        "disk-full", "a disk that is full in the middle of a file", "RLIMIT_FSIZE", "nothing half made; room is enough to go on",
        (
            "tests/worker/test_full_disk.py",
            "tests/worker/test_training_run.py::test_a_full_disk_costs_checkpoints_and_not_the_job",
            f"{_CHILDREN}test_a_short_lack_of_disk_costs_no_training",
        ),
    ),
    Row(
        "disk-low", "less free disk than is kept for running jobs", "the share to be kept is set above what is free",
        "507 for new uploads and jobs; predictions go on, a running job writes; /readyz tells",
        (
            "tests/app/test_dependencies.py::test_room_is_kept_for_running_jobs",
            "tests/app/routes/test_datasets.py::test_a_full_disk_takes_no_more",
            "tests/app/routes/test_predict.py::test_a_nearly_full_disk_keeps_nobody_from_being_heard",
            "tests/faults/test_training_faults.py::test_a_job_that_runs_may_use_the_room_that_is_kept_for_it",
        ),
    ),
    Row(
        "database-locked", "another process holds the database", "BEGIN EXCLUSIVE", "waited for; 503 when it lasts; recovers by itself",
        ("tests/faults/test_database.py",),
    ),
    Row(
        "postgres-restart", "Postgres dies under load, twice", "pg_ctl restart -m immediate; stopped for 5 s",
        "503 meanwhile, never 500; each job ends once; nothing of ours is restarted",
        (f"{_LIVE}test_a_postgres_that_dies_costs_a_moment_and_no_job",),
    ),
    Row(
        "blob-damaged", "a model's files are damaged, missing or another's", "bytes are changed", "503; never another answer",
        (
            "tests/app/routes/test_predict.py::test_damaged_files_are_a_503_and_never_another_answer",
            "tests/models/test_artifact.py::test_damage_is_told_by_file",
        ),
    ),
    Row(
        "model-moves", "a model is replaced, deleted or unloaded under load", "aliases are moved while clients ask", "no request fails",
        (
            "tests/app/test_engines.py::test_no_request_fails_while_a_name_moves_and_engines_make_room",
            "tests/app/test_engines.py::test_a_deleted_model_does_not_answer_in_the_meantime",
        ),
    ),
    Row(
        "backup", "a backup while others write, breaks off, or is damaged later", "writers beside it, a full disk, changed bytes",
        "what was saved comes back, hash by hash; what is lost is named",
        ("tests/worker/test_backup.py", "tests/journeys/test_backup.py"),
    ),
    Row(
        "upgrade", "schemas go up and down with rows in place; a newer one comes while a service works", "a revision from the future",
        "no row is lost, no request fails; parts that are started again leave the schema alone",
        ("tests/worker/test_upgrades.py", f"{_LIVE}test_a_newer_version_migrates_beside_a_service_at_work"),
    ),
    Row(
        "orphans", "blobs that nothing names any more, and those that are just being named", "rows deleted, clocks moved",
        "collected after the grace, never before", ("tests/worker/test_collector.py",),
    ),
)  # fmt: skip

ROWS = (*_MESSAGES, *_PROCESSES, *_DISKS, *CALLERS)
