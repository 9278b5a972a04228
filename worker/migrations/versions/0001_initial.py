"""The first schema: datasets, jobs with their events and outbox, models, aliases, kept answers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table('datasets',
    sa.Column('id', sa.String(length=48), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('modality', sa.String(length=8), nullable=True),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('parent', sa.String(length=48), nullable=True),
    sa.Column('upload', sa.String(length=200), nullable=True),
    sa.Column('upload_format', sa.String(length=8), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('blob', sa.String(length=200), nullable=True),
    sa.Column('summary', sa.JSON(), nullable=False),
    sa.Column('error', sa.JSON(), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index(op.f('ix_datasets_sha256'), 'datasets', ['sha256'], unique=False)
    op.create_index(op.f('ix_datasets_status'), 'datasets', ['status'], unique=False)
    op.create_table('idempotency',
    sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
    sa.Column('scope', sa.String(length=100), nullable=False),
    sa.Column('key', sa.String(length=200), nullable=False),
    sa.Column('fingerprint', sa.String(length=64), nullable=False),
    sa.Column('status', sa.Integer(), nullable=True),
    sa.Column('body', sa.JSON(), nullable=True),
    sa.Column('location', sa.String(length=200), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('scope', 'key', name='idempotency_key')
    )
    op.create_table('models',
    sa.Column('id', sa.String(length=48), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=True),
    sa.Column('modality', sa.String(length=8), nullable=False),
    sa.Column('job_id', sa.String(length=48), nullable=True),
    sa.Column('dataset_id', sa.String(length=48), nullable=True),
    sa.Column('base_model', sa.String(length=200), nullable=True),
    sa.Column('manifest', sa.JSON(), nullable=False),
    sa.Column('evaluation', sa.JSON(), nullable=False),
    sa.Column('blob', sa.String(length=200), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('deleted_at', sa.Double(), nullable=True),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index(op.f('ix_models_job_id'), 'models', ['job_id'], unique=False)
    op.create_index(op.f('ix_models_name'), 'models', ['name'], unique=False)
    op.create_table('outbox',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('job_id', sa.String(length=48), nullable=False),
    sa.Column('queue', sa.String(length=16), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('aliases',
    sa.Column('name', sa.String(length=63), nullable=False),
    sa.Column('model_id', sa.String(length=48), nullable=False),
    sa.Column('updated_at', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['model_id'], ['models.id'], ),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_index(op.f('ix_aliases_model_id'), 'aliases', ['model_id'], unique=False)
    op.create_table('jobs',
    sa.Column('id', sa.String(length=48), nullable=False),
    sa.Column('type', sa.String(length=16), nullable=False),
    sa.Column('queue', sa.String(length=16), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('dataset_id', sa.String(length=48), nullable=False),
    sa.Column('base_model_id', sa.String(length=48), nullable=True),
    sa.Column('spec', sa.JSON(), nullable=False),
    sa.Column('resolved', sa.JSON(), nullable=True),
    sa.Column('name', sa.String(length=200), nullable=True),
    sa.Column('alias', sa.String(length=63), nullable=True),
    sa.Column('metadata', sa.JSON(), nullable=False),
    sa.Column('token', sa.Integer(), nullable=False),
    sa.Column('failures', sa.Integer(), nullable=False),
    sa.Column('owner', sa.String(length=200), nullable=True),
    sa.Column('lease_until', sa.Double(), nullable=True),
    sa.Column('not_before', sa.Double(), nullable=True),
    sa.Column('published_at', sa.Double(), nullable=True),
    sa.Column('progress', sa.JSON(), nullable=False),
    sa.Column('metrics', sa.JSON(), nullable=False),
    sa.Column('checkpoints', sa.JSON(), nullable=False),
    sa.Column('model_id', sa.String(length=48), nullable=True),
    sa.Column('error', sa.JSON(), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('started_at', sa.Double(), nullable=True),
    sa.Column('finished_at', sa.Double(), nullable=True),
    sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], ),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index(op.f('ix_jobs_dataset_id'), 'jobs', ['dataset_id'], unique=False)
    op.create_index('jobs_by_state', 'jobs', ['state', 'lease_until'], unique=False)
    op.create_index('jobs_by_type', 'jobs', ['type', 'id'], unique=False)
    op.create_table('events',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('job_id', sa.String(length=48), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('level', sa.String(length=8), nullable=False),
    sa.Column('type', sa.String(length=16), nullable=False),
    sa.Column('message', sa.String(length=1000), nullable=False),
    sa.Column('data', sa.JSON(), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], ),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('events_by_job', 'events', ['job_id', 'id'], unique=False)


def downgrade() -> None:
    """Drop every table."""
    op.drop_index('events_by_job', table_name='events')
    op.drop_table('events')
    op.drop_index('jobs_by_type', table_name='jobs')
    op.drop_index('jobs_by_state', table_name='jobs')
    op.drop_index(op.f('ix_jobs_dataset_id'), table_name='jobs')
    op.drop_table('jobs')
    op.drop_index(op.f('ix_aliases_model_id'), table_name='aliases')
    op.drop_table('aliases')
    op.drop_table('outbox')
    op.drop_index(op.f('ix_models_name'), table_name='models')
    op.drop_index(op.f('ix_models_job_id'), table_name='models')
    op.drop_table('models')
    op.drop_table('idempotency')
    op.drop_index(op.f('ix_datasets_status'), table_name='datasets')
    op.drop_index(op.f('ix_datasets_sha256'), table_name='datasets')
    op.drop_table('datasets')
