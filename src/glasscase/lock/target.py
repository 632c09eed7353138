"""What the wheels of a lock must run on, and a wheel that was found for it.

Invariants: the target decides, never the building host: its Python, its glibc, x86-64 Linux.
Source: PEP 425, 600; docs/bundle-format.md, "Wheels".
"""

from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags

GLIBC_FLOOR = (2, 5)


@dataclass(frozen=True)
class Target:
    """What the wheels must run on. python: (major, minor) or with micro, 0 if it is not known; glibc: (major, minor)."""

    python: tuple[int, ...]
    glibc: tuple[int, int]

    def platforms(self) -> list[str]:
        """Return the platform tags of x86-64 Linux with this glibc, best first."""
        legacy = {17: "manylinux2014_x86_64", 12: "manylinux2010_x86_64", 5: "manylinux1_x86_64"}
        found = []
        for minor in range(self.glibc[1], GLIBC_FLOOR[1] - 1, -1):
            found.append(f"manylinux_2_{minor}_x86_64")
            found += [legacy[minor]] if minor in legacy else []
        return [*found, "linux_x86_64"]

    def tags(self) -> list[Tag]:
        """Return the tags of wheels that run there, best first."""
        version, platforms = self.python[:2], self.platforms()
        abi = f"cp{version[0]}{version[1]}"
        native = list(cpython_tags(version, abis=[abi], platforms=platforms))
        return native + list(compatible_tags(version, interpreter=abi, platforms=platforms))

    def version(self) -> str:
        """Return the version of Python like "3.11"."""
        return ".".join(str(part) for part in self.python[:2])

    def full_version(self) -> str:
        """Return the version of Python like "3.11.2"."""
        return ".".join(str(part) for part in (*self.python, 0)[:3])

    def environment(self) -> dict[str, str]:
        """Return the values of the environment markers, none of them the building host's."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.full_version(),
            "os_name": "posix",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.full_version(),
            "python_version": self.version(),
            "sys_platform": "linux",
        }


@dataclass(frozen=True)
class Candidate:
    """A wheel that was chosen. name: normalised. size: None where the index does not say."""

    name: str
    version: str
    file: str
    url: str
    sha256: bytes
    size: int | None
