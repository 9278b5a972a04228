"""Webhooks: where a job's end is to be told, and what became of each telling."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and to jobs the address that each one asked for."""
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("job_id", sa.String(length=48), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("answer", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=300), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("delivered_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "url", name="webhook_once"),
    )
    op.create_index("webhooks_due", "webhooks", ["status", "due_at"], unique=False)
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("webhook", sa.String(length=2000), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("jobs", "webhook")  # in place: a table that events refer to can't be copied and dropped
    op.drop_index("webhooks_due", table_name="webhooks")
    op.drop_table("webhooks")
