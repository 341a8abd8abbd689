"""Checks arguments of the application that their types cannot: keys, lists of addresses, the database, timeouts."""

from __future__ import annotations

from typing import Any

from cutray.config import parse_settings
from cutray.errors import ConfigError
from serve_apps.jobs.addresses import allow_lists
from serve_apps.jobs.database import check_database, make_engine
from serve_apps.remover.api_keys import ApiKeyAuth
from serve_apps.remover.schemas import AppArgs

# After the body has come, its photos and the job's row are written, for 5 s each; then the answer goes out.
_AFTER_UPLOAD_S = 10.0


def check_args(args: AppArgs, request_timeout_s: float | None = None) -> None:
    """Find what would fail in a replica, where the reason is hard to find. Nobody is contacted.

    Args:
        args: The application's arguments.
        request_timeout_s: Serve's own timeout, where it is known and has an end.

    Raises:
        ConfigError: An API key is no hash, an administrator has no key, an entry of a list no beginning of an address,
            or ``jobs.database`` no address; or Serve would give a job up while it is received.
        MissingExtraError: The driver of PostgreSQL is not installed.
    """
    ApiKeyAuth(args.api_keys, admins=args.admin_keys)
    allow_lists(args.jobs)
    make_engine(args.jobs)
    longest_s = args.jobs.upload_timeout_s + _AFTER_UPLOAD_S
    if args.jobs.folder and request_timeout_s and longest_s > request_timeout_s:
        raise ConfigError(
            got=f"jobs.upload_timeout_s is {args.jobs.upload_timeout_s:g}, and request_timeout_s {request_timeout_s:g}",
            allowed=f"at least {_AFTER_UPLOAD_S:g} s less, so that no job is given up while it is written down",
            fix="lower jobs.upload_timeout_s, or raise http_options.request_timeout_s",
        )


def check_state(args: dict[str, Any]) -> None:
    """Make sure that the state of jobs can be kept, before anything is started.

    Args:
        args: The application's arguments in the YAML: fields of ``AppArgs``.

    Raises:
        ConfigError: The folder cannot be written, or the database does not answer.
        MissingExtraError: The driver of PostgreSQL is not installed.
    """
    jobs = parse_settings(AppArgs, args).jobs
    if jobs.folder:
        check_database(jobs)
