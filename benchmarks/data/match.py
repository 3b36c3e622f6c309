"""How images are found by name; types only, so that the command line need not load more."""

from __future__ import annotations

from typing import Literal

#: Files: ``path``: an image is at its path below the folder; ``basename``: it is the file of that base name below it.
ImageMatch = Literal["path", "basename"]

#: Texts in place of image ids: ``id``: as in the annotations; ``stem``: a file name, with or without folder and suffix.
TextMatch = Literal["id", "stem"]
