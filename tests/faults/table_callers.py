"""The rows of the fault table that callers bring about: load, and bodies, names and files that were made to do harm."""

from tests.faults.rows import Row

_LOAD = "tests/faults/test_load.py::"
_GATE = "tests/app/test_gate.py::"
_ADMISSION = "tests/app/test_admission.py::"
_KEYS = "tests/worker/test_keys.py::"
_ARCHIVES = "tests/worker/test_archives.py::"

CALLERS = (
    Row(
        "queued-10000", "10,000 jobs while the broker is down", "posted; the broker is started later", "all run once; lists below 100 ms",
        (f"{_LOAD}test_ten_thousand_jobs_without_a_broker",),
    ),
    Row(
        "flood",
        "200 predicting clients, 200 slow uploads and a stranger's 2 GB",
        "all at once",
        "health below 100 ms, no 500, nothing left",
        (f"{_LOAD}test_a_flood_of_clients",),
    ),
    Row(
        "unauthenticated", "a stranger's endless upload", "a raw socket", "401 before the body is read",
        (
            f"{_GATE}test_a_stranger_s_endless_upload_gets_its_answer_and_no_patience",
            f"{_GATE}test_uploads_are_refused_before_a_byte_is_read",
        ),
    ),
    Row(
        "slow-body", "a body that trickles or stops", "raw sockets", "408; the place is free again",
        (f"{_GATE}test_a_slow_body_gets_408", "tests/app/test_body.py"),
    ),
    Row(
        "length-lies", "lengths that lie", "raw sockets", "refused as what they are",
        (
            f"{_GATE}test_lies_about_the_length_are_no_accident_of_ours",
            f"{_GATE}test_a_body_that_ends_early_does_not_hold_the_service",
            "tests/app/test_uploads.py::test_what_was_declared_must_be_there",
        ),
    ),
    Row(
        "multipart", "hostile forms", "a table, and hypothesis", "400, 413 or 422",
        ("tests/app/test_filebody.py",),
    ),
    Row(
        "json", "hostile JSON", "a table, and hypothesis", "400 or 422 with a pointer", ("tests/app/test_jsonbody.py",),
    ),
    Row(
        "contract", "requests made from the contract", "schemathesis", "every check passes", ("tests/test_schema.py",),
    ),
    Row(
        "ids", "odd ids and others' ids", "a table over the routes", "answered as what is absent",
        (
            "tests/app/routes/test_system.py::test_odd_ids_are_absent_like_any_other",
            "tests/app/routes/test_system.py::test_an_absent_id_and_an_impossible_one_get_the_same_answer",
        ),
    ),
    Row(
        "keys", "wrong, missing and doubled keys; keys in logs", "headers", "401; only the hash is kept",
        (
            f"{_GATE}test_keys",
            f"{_GATE}test_two_keys_are_one_too_many",
            f"{_GATE}test_only_the_hash_of_the_key_is_kept",
            f"{_GATE}test_neither_key_nor_query_is_logged",
        ),
    ),
    Row(
        "rates-quotas", "wrong keys in a row, too many jobs, datasets, bytes and predictions of one owner; too many jobs in all",
        "asked for beyond small limits, and at the same moment", "429, or 503 where it is the service that is full; Retry-After",
        (
            "tests/app/test_rates.py",
            f"{_ADMISSION}test_wrong_keys_are_counted_and_right_ones_still_let_in",
            f"{_ADMISSION}test_beyond_the_limit_a_wrong_key_is_not_looked_up",
            f"{_ADMISSION}test_addresses_are_counted_apart",
            f"{_ADMISSION}test_quotas_of_what_is_made",
            f"{_ADMISSION}test_jobs_wait_within_the_quota_of_their_owner_and_of_all",
            f"{_ADMISSION}test_pausing_a_job_makes_no_room_for_another",
            f"{_ADMISSION}test_an_upload_beyond_the_quota_is_refused_unread",
            f"{_ADMISSION}test_predictions_a_second",
            "tests/worker/test_quotas.py",
        ),
    ),
    Row(
        "owners", "another owner's ids, in every address and every field that names something", "a key of one's own",
        "answered as what is absent", ("tests/app/routes/test_owners.py", "tests/worker/test_owners.py"),
    ),
    Row(
        "audit", "a change that nobody can account for", "every address that changes something, with a key that may and one that may not",
        "a row for each, with key and request; none for what was undone",
        (
            "tests/app/routes/test_audit.py",
            f"{_ADMISSION}test_changes_and_refusals_are_audited_and_nothing_else",
            f"{_ADMISSION}test_on_an_open_service_changes_are_audited_too",
            f"{_ADMISSION}test_a_change_that_fails_leaves_no_row",
            f"{_KEYS}test_the_audit_log_tells_who_made_and_revoked_a_key",
        ),
    ),
    Row(
        "secrets", "somebody reads database, lists and logs", "keys made and used, then looked for everywhere",
        "a key is shown once and kept as its hash",
        (
            f"{_KEYS}test_the_text_is_nowhere_in_the_database",
            f"{_KEYS}test_they_are_listed_without_their_hash_newest_first",
            f"{_KEYS}test_a_caller_holds_no_text_and_no_hash",
            f"{_ADMISSION}test_no_key_stands_in_a_log_or_in_the_database",
            f"{_ADMISSION}test_a_key_opens_as_soon_as_it_is_made_and_closes_soon_after_it_is_revoked",
            "tests/app/commands/test_keys.py::test_it_prints_the_key_alone",
        ),
    ),
    Row(
        "idempotency", "one key in fifty requests, and after a crash", "threads", "one effect, one answer",
        (
            "tests/worker/test_idempotency.py",
            "tests/app/routes/test_lost_answers.py",
            "tests/app/routes/test_jobs.py::test_a_key_makes_one_job_of_fifty_requests",
        ),
    ),
    Row(
        "archives", "hostile zips and tars, and strange legal ones", "built case by case, and changed bytes", "refused by name, or read",
        (
            f"{_ARCHIVES}test_zip_is_refused_at_once",
            f"{_ARCHIVES}test_zip_is_refused_while_it_is_read",
            f"{_ARCHIVES}test_tar_is_refused_at_once",
            f"{_ARCHIVES}test_legal_archives_are_read",
            f"{_ARCHIVES}test_a_bomb_of_gzip_ends_at_the_limit",
            f"{_ARCHIVES}test_changed_bytes_raise_our_error_or_nothing",
        ),
    ),
    Row(
        "pictures", "bombs, cut files, wrong formats, a decoder that dies", "built case by case", "one file is lost, no more",
        ("tests/models/test_images.py", "tests/worker/test_ingester.py::test_a_file_that_kills_its_decoder_costs_only_itself"),
    ),
    Row(
        "sounds", "headers that lie, silence, bombs, noise", "built case by case, and hypothesis", "refused with a code, or heard",
        ("tests/models/test_riff.py", "tests/models/test_audio.py", "tests/models/test_decoders.py"),
    ),
    Row(
        "forged-models", "artifacts that were made to do harm", "built case by case", "not loaded; no pickle anywhere",
        (
            "tests/app/routes/test_models.py::test_artifacts_that_are_not_to_be_trusted",
            "tests/models/test_artifact.py::test_what_is_no_safetensors_file_is_refused",
            "tests/test_architecture.py::test_what_must_never_be",
        ),
    ),
    Row(
        "tampered-weights", "a model's files are exchanged in the storage, by others that are sound", "another model's folder in its place",
        "503; no prediction, no download, no job that builds on them",
        (
            "tests/worker/test_model_files.py",
            "tests/app/routes/test_predict.py::test_files_of_another_model_are_no_answer_of_this_one",
            "tests/app/routes/test_predict.py::test_damaged_files_are_a_503_and_never_another_answer",
        ),
    ),
    Row(
        "page-labels", "labels and names that are markup, right to left, or endless", "a real browser; a report; a model card",
        "text in every view, nothing runs",
        (
            "tests/journeys/test_page_large.py::test_words_are_text_everywhere_and_everybody_can_read_them",
            "tests/journeys/test_page.py::test_the_microphone_is_heard_and_clips_become_a_dataset",
            "tests/app/reporting/test_page.py::test_foreign_text_is_text",
            "tests/app/reporting/test_page.py::test_nothing_runs_and_nothing_is_fetched",
            "tests/models/test_card.py::test_foreign_text_is_shown_as_it_is",
            "tests/models/test_card.py::test_no_label_changes_the_cards_form",
        ),
    ),
    Row(
        "markup", "markup in labels and names", "a label that is a tag", "text on the page",
        ("tests/app/routes/test_page.py::test_text_becomes_only_text",),
    ),
    Row(
        "overload", "more predictions than can be made in time", "a slow engine", "refused early; the rest is answered",
        (
            "tests/app/test_predictors.py::test_more_than_can_be_done_in_time_are_refused_early",
            "tests/app/test_predictors.py::test_one_that_waited_too_long_is_not_begun",
        ),
    ),
    Row(
        "fuzzed-requests", "what no person would think of", "schemathesis, from the contract", "no 500; answers as documented",
        ("tests/test_schema.py", "tests/worker/test_layouts_fuzz.py"),
    ),
    Row(
        "no-broker-binary", "a machine without Redis and Valkey", "neither is found", "told at once, with what to do",
        ("tests/worker/test_embedded.py::test_no_server_at_all",),
    ),
)  # fmt: skip
