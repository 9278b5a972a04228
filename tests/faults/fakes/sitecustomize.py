"""Python imports this first where this folder is on PYTHONPATH: a service's workers get fake children, and jobs take as long as asked."""

import sys

if "worker.celery_app" in sys.orig_argv:
    from tests.faults.fake_worker import install

    install()  # FAULTS_CHILD=nothing: children that do nothing at all, so that thousands of jobs take minutes
