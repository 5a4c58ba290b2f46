"""Hooks of mkdocs: pages from outside docs/, links to files of the checkout, an offline check.

Benchmark results, CHANGELOG and CONTRIBUTING are pages of the site, under the addresses below;
links to them that are right in the checkout are turned into links to these pages.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"benchmarks/results/{path.name}": f"results/{path.name}"
        for path in sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    },
}
"""File of the checkout, and its page."""

LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b[^>]*?\brel=["']?(?:stylesheet|preload|preconnect|icon)[^>]*?href=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')\s]+"""
    r"""|url\(["']?(?:https?:)?//[^"')]+""",
    re.IGNORECASE,
)
"""What a browser would fetch from another host when it shows a page."""

log = logging.getLogger("mkdocs.hooks.site_hooks")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that live outside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the checkout into links to pages."""
    place = {v: k for k, v in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)

    def page_of(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        if "://" in target:
            return link.group(0)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        site = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if site is None:
            return link.group(0)
        return before + posixpath.relpath(site, here or ".") + after

    return LINK.sub(page_of, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Warn, and with --strict fail, if a page would fetch anything from another host."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css"):
            for found in FETCHED.findall(path.read_text(encoding="utf-8")):
                log.warning("%s fetches from another host: %s", path.name, found[:120])
