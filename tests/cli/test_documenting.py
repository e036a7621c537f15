from pathlib import Path

from aioresilience.cli.documenting import diagnostics_page


def test_the_page_of_diagnostics_is_what_the_catalogue_says():
    page = Path(__file__).parents[2] / "docs" / "diagnostics.md"
    assert page.read_text(encoding="utf-8") == diagnostics_page()
