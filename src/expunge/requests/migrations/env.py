"""How Alembic reaches a ledger: by the connection that the caller gives."""

from alembic import context

from expunge.requests.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
