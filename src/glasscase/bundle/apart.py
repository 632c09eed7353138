"""What lies apart from what goes into a bundle: keys, files that are in clear beside encrypted code, and outputs.

Invariants: links are followed, so that a file lies where its bytes are, whatever path leads there.
Source: docs/bundle-format.md, "Project".
"""

import os
from collections.abc import Iterable

from glasscase.bundle.project import Project, paths_apart, paths_taken
from glasscase.errors import UsageError


def require_apart(directory: str, project: Project, *, keys: Iterable[str]) -> None:
    """Raise UsageError("bundle.key.inside") if a file that must not go into the bundle lies among what does.

    keys: paths that were named beside the project's own.
    """
    files = [os.path.join(directory, path) for path in paths_apart(project)]
    for inside in paths_taken(project):
        for path in (*files, *keys):
            if lies_in(path, os.path.join(directory, inside)):
                raise UsageError(
                    "bundle.key.inside", f"{path!r} is inside {inside!r}, which goes into the bundle",
                    hint="move it out of there",
                )  # fmt: skip


def require_output_apart(out: str, directory: str, project: Project) -> None:
    """Raise UsageError("bundle.output.inside") if an output would be written among the files that go into the bundle."""
    for inside in paths_taken(project):
        if lies_in(out, os.path.join(directory, inside)):
            raise UsageError(
                "bundle.output.inside",
                f"{out!r} is inside {inside!r}, which goes into the bundle",
                hint="choose a place outside the sources and models, dist/ for example",
            )


def require_outside(out: str, bundle: str) -> None:
    """Raise UsageError("bundle.output.inside") if an output would be a file of the bundle that it is made from."""
    if lies_in(out, bundle):
        raise UsageError(
            "bundle.output.inside", f"{out!r} is inside the bundle {bundle!r}, which holds the files of its index only",
            hint="choose a place beside it",
        )  # fmt: skip


def lies_in(path: str, folder: str) -> bool:
    """Return whether `path` is `folder` or below it, after every link."""
    inside = os.path.realpath(folder)
    return os.path.commonpath([inside, os.path.realpath(path)]) == inside
