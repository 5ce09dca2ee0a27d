"""The site's hooks: pages and pictures that are not files under docs/, and equations.

Some pages come from elsewhere in the repository: the benchmarks from ``benchmarks/results/*.json``, the tables of the
fault campaigns from ``tests/campaigns/results/*.json``, the command reference from the commands, and Contributing,
Security and Changelog from the files of the root folder.
"""

import re
from pathlib import Path

import benchmark_pages
import campaign_page
import commands
import equations
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

# Pages of the site by the files of the root folder that they show.
ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
PICTURES = {"samples/timeline.png": "assets/timeline.png"}

_LINK = re.compile(r"\[([^\]]*)\]\((?!https?://|#)([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages, the results that they are made of, and pictures."""
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=_relinked((ROOT / source).read_text("utf-8"))))
    for source, place in PICTURES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    results = ROOT / "benchmarks" / "results"
    for name, text in benchmark_pages.pages(results).items():
        files.append(File.generated(config, f"benchmarks/{name}", content=text))
    for path in sorted(results.glob("*.json")):
        files.append(File.generated(config, f"benchmarks/data/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts the command reference and the tables of the campaigns into their pages."""
    if commands.MARK in markdown:
        return markdown.replace(commands.MARK, commands.reference())
    if campaign_page.MARK in markdown:
        return markdown.replace(campaign_page.MARK, campaign_page.campaigns(ROOT / "tests" / "campaigns"))
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Renders the page's equations, and the sign of a literal block in docstrings, two colons, as one."""
    return equations.render(html).replace("::</p>", ":</p>")


def _relinked(text: str) -> str:
    """Turns links that are relative to the root folder into links between pages of the site.

    A link to a file that is not a page becomes its text.
    """

    def target(match: re.Match[str]) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        page = ROOT_PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        return f"[{text}]({page}{anchor})" if page else text

    return _LINK.sub(target, text)
