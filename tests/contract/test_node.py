"""The tools that check the page's half come from a lock file that is good for everybody."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = json.loads((ROOT / "package.json").read_text())
LOCK = json.loads((ROOT / "package-lock.json").read_text())


def test_versions_are_exact() -> None:
    """And the lock file is of this package.json."""
    versions = PACKAGE["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    assert LOCK["packages"][""]["devDependencies"] == versions


def test_the_lock_names_no_registry() -> None:
    """Everybody gets the packages from their own; checksums tell that they are the same."""
    packages = {name: package for name, package in LOCK["packages"].items() if name}
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())


def test_the_product_has_no_packages() -> None:
    """What a page gets is ours alone."""
    assert PACKAGE["private"] is True
    assert not {"dependencies", "optionalDependencies", "peerDependencies"} & set(PACKAGE)
