"""The pages of the server: `mount` puts them on the application, behind its gate.

One file for each page; each builds components and calls the service, as the API does.
"""

from miniclip.serve.pages.mounting import mount

__all__ = ["mount"]
