"""Alembic's entry: runs migrations on the connection that worker/migrate.py opened."""

from alembic import context

from worker.database import Base


def run() -> None:
    """Run the migrations in the caller's transaction."""
    # Batch mode, because SQLite can't alter most of a table in place.
    context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True)
    context.run_migrations()


run()
