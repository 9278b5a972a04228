"""Jobs of another version, as there are while an upgrade is rolled out and old workers go on beside a new API."""

from pydantic import ValidationError
from sqlalchemy import select

from worker.database import Job, read
from worker.work import WORK


def is_understood(job_id: str) -> bool:
    """Return whether this version knows the type of a job and every field of its spec; True where there is no such job.

    One that it does not know waits for a worker that does. Claimed here it would fail three times, though nothing is wrong with it.
    """
    with read() as session:
        found = session.execute(select(Job.type, Job.spec, Job.resolved).where(Job.id == job_id)).one_or_none()
    if found is None:
        return True
    if found.type not in WORK:
        return False
    try:
        for spec in (found.spec, found.resolved):
            if spec is not None:
                WORK[found.type].parse(spec)
    except ValidationError:
        return False
    return True
