"""Keys, whose rows are whose, and who changed what."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OWNED = ("datasets", "jobs", "models")


def upgrade() -> None:
    """Add the tables, and an owner to what there is: nobody, so that only administrators see it."""
    _add_keys()
    _add_audit()
    for name in _OWNED:  # in place: a table that others refer to can't be copied and dropped
        op.add_column(name, sa.Column("owned_by", sa.String(length=100), nullable=False, server_default=""))
        op.create_index(op.f(f"ix_{name}_owned_by"), name, ["owned_by"], unique=False)
    op.rename_table("aliases", "aliases_before")
    # The defaults here and above let a worker of the version before go on writing rows while the service is being upgraded.
    owned_by = sa.Column("owned_by", sa.String(length=100), nullable=False, server_default="")
    _add_aliases(owned_by, sa.PrimaryKeyConstraint("owned_by", "name"))
    op.execute("INSERT INTO aliases (owned_by, name, model_id, updated_at) SELECT '', name, model_id, updated_at FROM aliases_before")
    _drop_aliases_before()


def downgrade() -> None:
    """Drop them. Of several owners' aliases of one name that of nobody stays, else that of the first owner by name."""
    op.rename_table("aliases", "aliases_before")
    _add_aliases(sa.PrimaryKeyConstraint("name"))
    op.execute(
        "INSERT INTO aliases (name, model_id, updated_at) SELECT name, model_id, updated_at FROM aliases_before AS kept"
        " WHERE owned_by = (SELECT min(owned_by) FROM aliases_before AS other WHERE other.name = kept.name)"
    )
    _drop_aliases_before()
    for name in reversed(_OWNED):
        op.drop_index(op.f(f"ix_{name}_owned_by"), name)
        op.drop_column(name, "owned_by")
    op.drop_table("audit")
    op.drop_table("keys")


def _add_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sha256"),
    )


def _add_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("key_id", sa.String(length=48), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=200), nullable=False),
        sa.Column("object_id", sa.String(length=64), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_audit_key_id"), "audit", ["key_id"], unique=False)


def _add_aliases(*parts: sa.schema.SchemaItem) -> None:
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("model_id", sa.String(length=48), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"]),
        *parts,
    )


def _drop_aliases_before() -> None:
    """Drop the old table, and with it its index, whose name the new one takes."""
    op.drop_table("aliases_before")
    op.create_index(op.f("ix_aliases_model_id"), "aliases", ["model_id"], unique=False)
