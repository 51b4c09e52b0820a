"""Which licences let a voice or a model be used in a product.

Nothing is guessed in the user's favour: a licence that names neither itself nor a permission is
refused, one that excludes commercial use needs an explicit yes.
"""

from __future__ import annotations

import re


class LicenceRefused(ValueError):
    """A licence forbids, or does not clearly permit, what was asked."""


_EXCLUDING = re.compile(
    r"\bnc\b|non[\s_-]?commercial|research[\s_-]?(?:only|licen[cs]e|use)|evaluation|"
    r"academic|personal[\s_-]?use|all rights reserved",
    re.IGNORECASE,
)
_UNKNOWN = frozenset({"", "?", "unknown", "none", "n/a", "na", "other", "tbd", "todo"})


def excludes_commercial_use(licence: str) -> bool:
    """Whether the name of a licence ("CC-BY-NC-4.0", "Research License") says so."""
    return bool(_EXCLUDING.search(licence))


def check_licence(licence: str, what: str, *, allow_non_commercial: bool = False) -> str:
    """Gives the licence's name back without white space around it.

    Raises LicenceRefused where it is missing, or excludes commercial use and
    ``allow_non_commercial`` is not set.
    """
    name = " ".join(licence.split())
    if name.lower() in _UNKNOWN:
        raise LicenceRefused(
            f"{what}: no licence is stated (got {licence!r}); name the one it is under, for "
            "example 'CC0-1.0', 'CC-BY-4.0' or 'own recording'"
        )
    if excludes_commercial_use(name) and not allow_non_commercial:
        raise LicenceRefused(
            f"{what}: the licence {name!r} excludes commercial use; choose one that permits it, or "
            "say allow_non_commercial (--allow-non-commercial) if your use is covered"
        )
    return name
