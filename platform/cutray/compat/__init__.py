"""The library calls of rembg, answered by Cutray: change the name in the imports and keep the rest of the program.

>>> from cutray.compat import new_session, remove  # doctest: +SKIP
>>> cutout = remove(photo, session=new_session("u2net"))  # doctest: +SKIP

``cutray.compat.bg``, ``.session_factory`` and ``.sessions`` hold the same names as rembg's modules.

The mask is made by the classic recipe in fp32, so it is the one that such a program has got so far, empty scenes
included (``new_session(precision="auto")`` is faster and up to 2/255 off on average). What differs, on purpose:

* Without a session u2net is used; rembg takes a model that may not be used commercially.
* Soft edges keep the photo's own colours instead of being darkened by a second multiplication with alpha.
* ``alpha_matting`` takes the old background's colour out of soft edges instead of solving for a new alpha channel;
  its three numbers are checked and have no further effect. ``vitmatte`` does the same and warns.
* Of ``providers`` the first that can be had is used; a warning names those before it. TensorRT means the GPU in fp32.
* A colour profile is converted to sRGB, grey photos work, and damaged or oversized files raise ``InputError``.
* An argument that has no meaning here is an error, never ignored.
"""

from cutray import __version__ as __version__
from cutray.compat.bg import remove as remove
from cutray.compat.session_factory import new_session as new_session

__all__ = ["new_session", "remove"]
