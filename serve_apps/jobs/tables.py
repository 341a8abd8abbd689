"""The tables of jobs, in SQLite or PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),  # of JobState
    sa.Column("photos", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),  # of photos, and of results once it has ended
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("model_name", sa.Text, nullable=False, default="", server_default=""),  # as the client chose it
    sa.Column("model", sa.Text, nullable=False, default=""),  # its address, known when it starts, kept over restarts
    sa.Column("model_sha256", sa.String(64), nullable=False, default="", server_default=""),  # of its weights, likewise
    sa.Column("webhook", sa.Text, nullable=False, default=""),
    sa.Column("target", sa.Text, nullable=False, default=""),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),  # without a new photo
    sa.Column("error", sa.JSON),
    sa.Column("created_at", sa.Float, nullable=False),  # all times in seconds since 1970
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("expires_at", sa.Float, index=True),
    sa.UniqueConstraint("owner", "idempotency_key"),
)
PHOTOS = sa.Table(
    "photos",
    METADATA,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),  # from 1, in the order in which they came
    sa.Column("name", sa.Text, nullable=False),  # in the client's words
    sa.Column("file", sa.Text, nullable=False),  # what its result is called
    sa.Column("source", sa.Text, nullable=False),  # where it is fetched from; empty if it came with the request
    sa.Column("status", sa.String(16), nullable=False),  # pending, ok, no_subject, failed
    sa.Column("output", sa.Text, nullable=False, default=""),  # name of the result below the job's folder
    sa.Column("details", sa.JSON, nullable=False),
    sa.UniqueConstraint("job_id", "file"),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(64), nullable=False, unique=True),  # a job ends once
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # waiting, delivered, given_up
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Float, nullable=False),
)
OWNERS = sa.Table("owners", METADATA, sa.Column("name", sa.String(255), primary_key=True))
