"""What jobs find out beside models."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("datasets") as datasets:
        datasets.add_column(sa.Column("generator", sa.JSON(), nullable=True))
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("result", sa.JSON(), nullable=True))
        jobs.add_column(sa.Column("control_of", sa.String(length=48), nullable=True))
        jobs.add_column(sa.Column("ran_seconds", sa.Double(), nullable=False, server_default="0"))
        jobs.add_column(sa.Column("control", sa.String(length=16), nullable=True))
        jobs.create_index(op.f("ix_jobs_control_of"), ["control_of"], unique=False)
    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("predictions", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the columns, in place: a table that others refer to can't be copied and dropped."""
    op.drop_column("datasets", "generator")
    op.drop_index(op.f("ix_jobs_control_of"), "jobs")
    for column in ("control", "ran_seconds", "control_of", "result"):
        op.drop_column("jobs", column)
    op.drop_column("models", "predictions")
