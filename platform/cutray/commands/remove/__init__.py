"""``cutray remove``: photos, folders and pipes in; cutouts out."""

from cutray.commands.remove.command import remove

__all__ = ["remove"]
